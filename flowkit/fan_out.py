"""`gather` and `each`: several lines of calls side by side, each a scope of its own (rule I1)."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar, cast, overload

from attrs import define

from flowkit.binding import Bound
from flowkit.calls import refuse_foreign_task, require_async, take_key
from flowkit.effects import Outcome, Raised, Returned
from flowkit.errors import ConfigurationError, WrongColour
from flowkit.lines import Scope
from flowkit.reasons import Cancelled, Unwind, combined
from flowkit.run import Frame, Run, current
from flowkit.threads import beside, stand_by

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
R = TypeVar("R")

MOST_THREADS = 32  # unless max_concurrency says otherwise


@define(eq=False, repr=False)
class _Line:
    """One branch: its scope, and how it ended."""

    scope: Scope
    outcome: Outcome


# ---- in sync tasks --------------------------------------------------------------------------------------------------


@overload
def gather(a: Bound[T1], /, *, max_concurrency: int | None = None) -> tuple[T1]: ...
@overload
def gather(a: Bound[T1], b: Bound[T2], /, *, max_concurrency: int | None = None) -> tuple[T1, T2]: ...
@overload
def gather(a: Bound[T1], b: Bound[T2], c: Bound[T3], /, *, max_concurrency: int | None = None) -> tuple[T1, T2, T3]: ...
@overload
def gather(*calls: Bound[T], max_concurrency: int | None = None) -> tuple[T, ...]: ...
@overload
def gather(
    *calls: Bound[T], max_concurrency: int | None = None, return_exceptions: bool
) -> tuple[T | BaseException, ...]: ...


def gather(
    *calls: Bound[Any], max_concurrency: int | None = None, return_exceptions: bool = False
) -> Any:  # the overloads say what
    """Make several calls side by side, on threads, and return their results in the order given.

    Args:
        *calls: `step.bind(...)`, `task.bind(...)`: calls that are not made yet.
        max_concurrency: how many run at a time; as many as there are (32 at the most) unless given.
        return_exceptions: return what a call raised in the place of its result.

    Raises:
        Exception: the error that was recorded first, after all others have settled.
    """
    check_calls("gather", calls, max_concurrency)
    frame = _branching_frame("gather")
    if frame is None:
        return tuple(_plainly(call.call, return_exceptions=return_exceptions) for call in calls)
    if frame.run.is_async:
        raise WrongColour("gather(...) is in an async task: write `await flowkit.aio.gather(...)`")
    lines = _run_lines(frame, [call.call for call in calls], max_concurrency)
    return tuple(_join(frame, lines, return_exceptions=return_exceptions))


def each(items: Iterable[T], call: Callable[[T], R], *, max_concurrency: int | None = 8) -> list[R]:
    """Call a step, a task or a function with each item, side by side, and return the results in order.

    Args:
        items: what to call it with; each call gets one.
        call: a step, a task, or a function that calls some.
        max_concurrency: how many run at a time.

    Raises:
        Exception: the error that was recorded first, after all others have settled.
    """
    calls = [partial(call, item) for item in items]
    check_concurrency("each", max_concurrency)
    frame = _branching_frame("each")
    if frame is None:
        return [one() for one in calls]
    if frame.run.is_async:
        raise WrongColour("each(...) is in an async task: write `await flowkit.aio.each(...)`")
    return cast("list[R]", _join(frame, _run_lines(frame, calls, max_concurrency), return_exceptions=False))


def _run_lines(frame: Frame, calls: Sequence[Callable[[], object]], most: int | None) -> list[_Line]:
    run, key = frame.run, take_key(frame, None)
    scopes = [frame.scope.branch(_last(key, frame.scope), index) for index in range(len(calls))]
    at_a_time = min(len(calls), most or MOST_THREADS)
    if at_a_time <= 1:
        return [_Line(scope, run_line(run, scope, call)) for scope, call in zip(scopes, calls, strict=True)]
    waiting = deque(range(len(calls)))
    contexts = [contextvars.copy_context() for _ in calls]
    outcomes: dict[int, Outcome] = {}

    def lane() -> None:
        """Takes one line after the other."""
        while True:
            try:
                index = waiting.popleft()
            except IndexError:
                return
            outcomes[index] = contexts[index].run(run_line, run, scopes[index], calls[index])

    with ThreadPoolExecutor(at_a_time, thread_name_prefix=f"flowkit-{run.id}") as pool:
        lanes = [pool.submit(beside(run, lane)) for _ in range(at_a_time)]
        stand_by(run, lambda: len(outcomes) == len(calls))
        for each_lane in lanes:
            each_lane.result()
    return [_Line(scope, outcomes[index]) for index, scope in enumerate(scopes)]


def run_line(run: Run, scope: Scope, call: Callable[[], object]) -> Outcome:
    """Make calls in a scope of their own, on this thread."""
    token = current.set(Frame(run, scope, None, threading.get_ident()))
    try:
        return Returned(call())
    except BaseException as error:  # noqa: BLE001  # whoever joins the lines decides what it means
        return Raised(error)
    finally:
        current.reset(token)


def _last(key: str, scope: Scope) -> str:
    """The key within its scope: what `Scope.branch` puts behind the scope's own prefix."""
    return key.removeprefix(scope.prefix)


# ---- joining --------------------------------------------------------------------------------------------------------


def _join(frame: Frame, lines: list[_Line], *, return_exceptions: bool) -> list[object]:
    run, scope = frame.run, frame.scope
    if run.reason is not None:
        raise asyncio.CancelledError if run.is_async else Unwind(run.reason)
    reason = combined([line.scope.reason for line in lines if line.scope.reason is not None])
    if reason is not None:
        raise run.leave(scope, reason)
    for line in lines:  # this line has seen what its branches have seen (rule I6)
        scope.now_ms = max(scope.now_ms, line.scope.now_ms)
        scope.position = max(scope.position, line.scope.position)
    raised = [line for line in lines if isinstance(line.outcome, Raised)]
    raised.sort(key=lambda line: line.scope.position)  # I4: the first recorded is the first
    for line in raised:
        error = _error(line)
        if isinstance(error, Cancelled | asyncio.CancelledError):
            scope.cancel_delivered = scope.cancel_delivered or line.scope.cancel_delivered
        if not return_exceptions or not isinstance(error, Exception):
            raise error
    return [line.outcome.value if isinstance(line.outcome, Returned) else _error(line) for line in lines]


def _error(line: _Line) -> BaseException:
    assert isinstance(line.outcome, Raised)  # callers have looked
    return line.outcome.error


def _plainly(call: Callable[[], object], *, return_exceptions: bool) -> object:
    try:
        return call()
    except Exception as error:  # asked for
        if return_exceptions:
            return error
        raise


# ---- in async tasks -------------------------------------------------------------------------------------------------


Item = Bound[T] | Coroutine[Any, Any, T]


@overload
async def gather_async(a: Item[T1], /, *, max_concurrency: int | None = None) -> tuple[T1]: ...
@overload
async def gather_async(a: Item[T1], b: Item[T2], /, *, max_concurrency: int | None = None) -> tuple[T1, T2]: ...
@overload
async def gather_async(
    a: Item[T1], b: Item[T2], c: Item[T3], /, *, max_concurrency: int | None = None
) -> tuple[T1, T2, T3]: ...
@overload
async def gather_async(*calls: Item[T], max_concurrency: int | None = None) -> tuple[T, ...]: ...
@overload
async def gather_async(
    *calls: Item[T], max_concurrency: int | None = None, return_exceptions: bool
) -> tuple[T | BaseException, ...]: ...


async def gather_async(
    *calls: Item[Any], max_concurrency: int | None = None, return_exceptions: bool = False
) -> Any:  # the overloads say what
    """Make several calls side by side and return their results in the order given.

    Args:
        *calls: `step.bind(...)`, `task.bind(...)`, or coroutines, also of helpers that call several steps: each gets a
            scope of its own.
        max_concurrency: how many run at a time; as many as there are unless given.
        return_exceptions: return what a call raised in the place of its result.

    Raises:
        Exception: the error that was recorded first, after all others have settled.
    """
    check_calls("aio.gather", calls, max_concurrency, or_coroutines=True)
    makes = [make_of(call) for call in calls]
    frame = _branching_frame("aio.gather")
    if frame is None:
        return tuple(await asyncio.gather(*[make() for make in makes], return_exceptions=return_exceptions))
    try:
        lines = await _run_lines_async(frame, "aio.gather", makes, max_concurrency)
    finally:
        _close_unstarted(calls)
    return tuple(_join(frame, lines, return_exceptions=return_exceptions))


async def each_async(
    items: Iterable[T], call: Callable[[T], Awaitable[R]] | Callable[[T], R], *, max_concurrency: int | None = 8
) -> list[R]:
    """Call a step, a task or an async function with each item, side by side; the results in order.

    Args:
        items: what to call it with; each call gets one.
        call: a step, a task, or an async function that calls some; a sync step runs on threads.
        max_concurrency: how many run at a time.

    Raises:
        Exception: the error that was recorded first, after all others have settled.
    """
    check_concurrency("aio.each", max_concurrency)
    awaitable = getattr(call, "aio", call)
    makes = [cast("Callable[[], Coroutine[Any, Any, object]]", partial(awaitable, item)) for item in items]
    frame = _branching_frame("aio.each")
    if frame is None:
        return cast("list[R]", list(await asyncio.gather(*[make() for make in makes])))
    lines = await _run_lines_async(frame, "aio.each", makes, max_concurrency)
    return cast("list[R]", _join(frame, lines, return_exceptions=False))


def make_of(call: Item[Any]) -> Callable[[], Coroutine[Any, Any, object]]:
    """How to make a call in async code."""
    if not isinstance(call, Bound):
        return lambda: call
    if call.awaitable is None:
        raise WrongColour(f"aio.gather: {call.name!r} is a plain function; hand it over as a step or an async function")
    return partial(call.awaitable, *call.args, **call.kwargs)


async def _run_lines_async(
    frame: Frame, what: str, makes: Sequence[Callable[[], Coroutine[Any, Any, object]]], most: int | None
) -> list[_Line]:
    run, body = frame.run, frame.run.body
    require_async(run, what)
    key = take_key(frame, None)
    assert body is not None  # the calling task is the body's
    scopes = [frame.scope.branch(_last(key, frame.scope), index) for index in range(len(makes))]
    waiting, tasks = deque(zip(scopes, makes, strict=True)), list[asyncio.Task[object]]()
    running: set[asyncio.Task[object]] = set()
    try:
        while waiting or running:
            while waiting and (most is None or len(running) < most):
                task = body.start_branch(*waiting.popleft())
                tasks.append(task)
                running.add(task)
            _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        await _cancel(running)
        raise
    return [_Line(scope, outcome_of(task)) for scope, task in zip(scopes, tasks, strict=True)]


async def _cancel(tasks: set[asyncio.Task[object]]) -> None:
    for task in tasks:
        task.cancel()
    while any(not task.done() for task in tasks):
        await asyncio.wait(tasks)


def _close_unstarted(calls: Sequence[object]) -> None:
    """Close coroutines that were handed over and never started, so that nobody warns about them."""
    for call in calls:
        if inspect.iscoroutine(call) and inspect.getcoroutinestate(call) == inspect.CORO_CREATED:
            call.close()


def outcome_of(task: asyncio.Task[object]) -> Outcome:
    """How an asyncio task ended."""
    if task.cancelled():
        return Raised(asyncio.CancelledError())
    error = task.exception()
    return Returned(task.result()) if error is None else Raised(error)


# ---- checks ---------------------------------------------------------------------------------------------------------


def _branching_frame(what: str) -> Frame | None:
    """Where the calling code stands; None outside of a run and inside a step, where calls are plain."""
    frame = current.get()
    if frame is None or frame.step_key is not None:
        return None
    if not frame.owned_here():
        refuse_foreign_task(what)
    return frame


def check_calls(
    what: str, calls: Sequence[object], max_concurrency: int | None, *, or_coroutines: bool = False
) -> None:
    """Refuse what is no call that can still be made."""
    check_concurrency(what, max_concurrency)
    for call in calls:
        if isinstance(call, Bound) or (or_coroutines and inspect.iscoroutine(call)):
            continue
        kinds = "x.bind(...) or a coroutine" if or_coroutines else "x.bind(...)"
        raise ConfigurationError(f"{what}(...) takes calls that are not made yet ({kinds}), not {call!r}")


def check_concurrency(what: str, max_concurrency: int | None) -> None:
    """Refuse a limit that is no number of lines."""
    if max_concurrency is not None and (not isinstance(max_concurrency, int) or max_concurrency < 1):
        raise ConfigurationError(f"{what}(max_concurrency={max_concurrency!r}): write a whole number, 1 or more")
