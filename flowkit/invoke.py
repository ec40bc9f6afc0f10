"""Call a user's function once: in place, on a thread, within a time limit."""

from __future__ import annotations

import asyncio
import contextvars
import threading

from flowkit.daemons import outcome_of_call, outcome_on_thread, unless_fatal
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
    answer: list[Outcome] = []

    def body() -> None:
        answer.append(outcome_of_call(lambda: effect.fn(*effect.args, **effect.kwargs)))

    context = contextvars.copy_context()
    context.run(current.set, step_frame(run, scope, effect))
    thread = threading.Thread(target=context.run, args=(body,), name=f"flowkit-step-{effect.name}", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not answer:
        return Raised(_timed_out(run, effect, timeout_s))
    return unless_fatal(answer[0])


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
    """On a daemon thread, which can be abandoned (rule R5)."""
    future = outcome_on_thread(lambda: effect.fn(*effect.args, **effect.kwargs), f"flowkit-step-{effect.name}")
    try:
        answer = await asyncio.wait_for(asyncio.shield(future), effect.timeout_s)
    except TimeoutError:
        if future.done():
            raise
        return Raised(_timed_out(run, effect, effect.timeout_s or 0.0))
    except asyncio.CancelledError:
        raise UnderWay(future) from None  # G6: a thread cannot be cancelled
    return unless_fatal(answer)


def _timed_out(run: Run, effect: Invoke, timeout_s: float) -> StepTimeout:
    return StepTimeout(f"step {effect.name!r} of run {run.id!r} took longer than its timeout of {timeout_s:g} s")
