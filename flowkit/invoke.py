"""Call a user's function once: in place, on a thread, within a time limit."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable

from flowkit.effects import Invoke, Outcome, Raised, Returned
from flowkit.errors import StepTimeout
from flowkit.lines import Entrant, Scope
from flowkit.run import Frame, Run, current
from flowkit.underway import UnderWay


def step_frame(run: Run, scope: Scope, effect: Invoke) -> Frame:
    """Where code inside the step stands."""
    return Frame(run, scope, None, 0, effect.key, effect.name, effect.attempt)


def call_plainly(run: Run, scope: Scope, effect: Invoke) -> Outcome:
    """Call a sync function on this thread."""
    if effect.timeout_s is not None:
        return _call_with_timeout(run, scope, effect, effect.timeout_s)
    token = current.set(Frame(run, scope, None, 0, effect.key, effect.name, effect.attempt))  # as `step_frame` does
    try:
        return Returned(effect.fn(*effect.args, **effect.kwargs))
    except Exception as error:  # noqa: BLE001  # whatever a step raises is its outcome
        return Raised(error)
    finally:
        current.reset(token)


def _call_with_timeout(run: Run, scope: Scope, effect: Invoke, timeout_s: float) -> Outcome:
    """Call it on a daemon thread that is abandoned when the time is up (rule R5)."""
    answer: list[Outcome | BaseException] = []

    def body() -> None:
        answer.append(_guarded(lambda: effect.fn(*effect.args, **effect.kwargs)))

    context = contextvars.copy_context()
    context.run(current.set, step_frame(run, scope, effect))
    thread = threading.Thread(target=context.run, args=(body,), name=f"flowkit-step-{effect.name}", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not answer:
        return Raised(_timed_out(run, effect, timeout_s))
    return _or_raise(answer[0])


async def call_async(run: Run, scope: Scope, effect: Invoke) -> Outcome:
    """Await an async function in this coroutine, or call a sync one on a thread of its own."""
    token = current.set(step_frame(run, scope, effect))
    try:
        if effect.threaded:
            return await _call_on_thread(run, effect)
        if scope.entrant is not None:
            return await _interruptible(run, scope.entrant, effect)
        if effect.timeout_s is None:
            return Returned(await effect.fn(*effect.args, **effect.kwargs))  # type: ignore[misc]  # an async function
        return await _await_within(run, effect, effect.timeout_s)
    except Exception as error:  # noqa: BLE001  # whatever a step raises is its outcome
        return Raised(error)
    finally:
        current.reset(token)


async def _interruptible(run: Run, entrant: Entrant, effect: Invoke) -> Outcome:
    """Await an async function in a line of a race, which is cancelled when another line wins (rule G6)."""
    task = asyncio.current_task()
    assert task is not None  # a coroutine is run by one
    lines = [entrant]
    while (outer := lines[-1].outer) is not None:
        lines.append(outer)
    for line in lines:
        line.interruptible.add(task)
    try:
        if effect.timeout_s is None:
            return Returned(await effect.fn(*effect.args, **effect.kwargs))  # type: ignore[misc]  # an async function
        return await _await_within(run, effect, effect.timeout_s)
    finally:
        for line in lines:
            line.interruptible.discard(task)


async def _await_within(run: Run, effect: Invoke, timeout_s: float) -> Outcome:
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            return Returned(await effect.fn(*effect.args, **effect.kwargs))  # type: ignore[misc]  # an async function
    except TimeoutError as error:
        return Raised(_timed_out(run, effect, timeout_s) if limit.expired() else error)


async def _call_on_thread(run: Run, effect: Invoke) -> Outcome:
    """A daemon thread per call: it can be abandoned, and never waits for a place in a pool."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Outcome | BaseException] = loop.create_future()

    def settle(outcome: Outcome | BaseException) -> None:
        if not future.done():
            future.set_result(outcome)

    def body() -> None:
        outcome = _guarded(lambda: effect.fn(*effect.args, **effect.kwargs))
        try:
            loop.call_soon_threadsafe(settle, outcome)
        except RuntimeError:  # the loop is closed: nobody waits for this late result (rule R5)
            return

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(body,), name=f"flowkit-step-{effect.name}", daemon=True).start()
    try:
        answer = await asyncio.wait_for(asyncio.shield(future), effect.timeout_s)
    except TimeoutError:
        if future.done():
            raise
        return Raised(_timed_out(run, effect, effect.timeout_s or 0.0))
    except asyncio.CancelledError:
        raise UnderWay(future) from None  # G6: a thread cannot be cancelled
    return _or_raise(answer)


def _guarded(call: Callable[[], object]) -> Outcome | BaseException:
    try:
        return Returned(call())
    except Exception as error:  # noqa: BLE001  # the user's error is an answer here
        return Raised(error)
    except BaseException as error:  # noqa: BLE001  # handed to the thread that waits
        return error


def _or_raise(answer: Outcome | BaseException) -> Outcome:
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _timed_out(run: Run, effect: Invoke, timeout_s: float) -> StepTimeout:
    return StepTimeout(f"step {effect.name!r} of run {run.id!r} took longer than its timeout of {timeout_s:g} s")
