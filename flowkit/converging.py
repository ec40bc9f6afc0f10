"""`wait_for_work`: the task waits for the side work that it has queued (rules W2, W3).

Without a timeout there is nothing to record: all of the work has ended, also on a replay. With one, what had ended by
then is recorded, so that a replay tells the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, cast

from flowkit.calls import recall, require_async, take_key
from flowkit.drivers import drive, drive_async
from flowkit.durations import Duration, seconds
from flowkit.effects import Operation, Record
from flowkit.entries import Entry, Kind, Phase, encode
from flowkit.errors import WrongColour
from flowkit.frozen import frozen
from flowkit.journal import Past
from flowkit.lines import Scope
from flowkit.reasons import Reason, Suspended, Unwind, combined
from flowkit.run import Frame, Run
from flowkit.side_work import LOOK_S, WorkHandle, WorkOutcome, work_frame

NAME = "wait_for_work"
Works = Sequence[WorkHandle[Any]]


def wait_for_work(*, fail_on_error: bool = False, timeout: Duration | None = None) -> list[WorkOutcome]:
    """Wait for all work that this task (or sequencer) has queued so far; outcomes in the order of queueing.

    Args:
        fail_on_error: raise the error of the first queued that failed, after all have settled.
        timeout: return after this long, counted from the first time, also across restarts; what is still running is
            told as not done, on every replay too, and goes on.
    """
    frame = work_frame(NAME)
    if frame.run.is_async:
        raise WrongColour("wait_for_work() is in an async task: write `await flowkit.aio.wait_for_work()`")
    works = _queued(frame)
    if timeout is None:
        _wait(frame, works, None)
        return _outcomes(works, fail_on_error=fail_on_error)
    call = _call(frame, timeout)
    if call.past is not None and call.past.settled:
        return _as_recorded(frame, works, call.past, fail_on_error=fail_on_error)
    until_ms = drive(frame.run, frame.scope, _begin(frame.run, call))
    _wait(frame, works, until_ms)
    done = drive(frame.run, frame.scope, _record(frame.run, frame.scope, call, works))
    return _outcomes(works, fail_on_error=fail_on_error, done=done)


def wait_for_work_async(
    *, fail_on_error: bool = False, timeout: Duration | None = None
) -> Coroutine[Any, Any, list[WorkOutcome]]:
    """`wait_for_work`, awaitable."""
    frame = work_frame("aio.wait_for_work")
    require_async(frame.run, NAME)
    works = _queued(frame)
    call = None if timeout is None else _call(frame, timeout)
    return _converge_async(frame, works, call, fail_on_error=fail_on_error)


async def _converge_async(frame: Frame, works: Works, call: _Call | None, *, fail_on_error: bool) -> list[WorkOutcome]:
    run, scope = frame.run, frame.scope
    if call is None:
        await _wait_async(frame, works, None)
    elif call.past is not None and call.past.settled:
        done = _recorded(run, call.past)
        await _wait_async(frame, [handle for handle, was in zip(works, done, strict=False) if was], None)
        _deliver(run, scope, call.past)
        return _outcomes(works, fail_on_error=fail_on_error, done=done)
    else:
        until_ms = await drive_async(run, scope, _begin(run, call))
        await _wait_async(frame, works, until_ms)
        done = await drive_async(run, scope, _record(run, scope, call, works))
        return _outcomes(works, fail_on_error=fail_on_error, done=done)
    return _outcomes(works, fail_on_error=fail_on_error)


def _queued(frame: Frame) -> Works:
    return cast("list[WorkHandle[Any]]", list(frame.scope.works))


# ---- waiting --------------------------------------------------------------------------------------------------------


def _wait(frame: Frame, works: Works, until_ms: int | None) -> None:
    """Until all have settled, or until a time; if only waiting is left, the run is let go of (rule E1)."""
    run, scope = frame.run, frame.scope
    for handle in works:
        while not handle.wait(LOOK_S) and not _is_over(run, until_ms):
            pass
    if run.reason is not None:
        raise Unwind(run.reason)
    parked: list[Reason] = [handle.parked for handle in works if handle.settled and handle.parked is not None]
    if not parked or _is_over(run, until_ms):
        return
    reason = combined(parked if until_ms is None else [*parked, Suspended(until_ms)])
    assert reason is not None  # of one thing at the least
    raise run.leave(scope, reason)


async def _wait_async(frame: Frame, works: Works, until_ms: int | None) -> None:
    run, body = frame.run, frame.run.body
    assert body is not None  # the calling task is the body's
    timer: asyncio.Task[None] | None = None
    if until_ms is not None:
        timer = asyncio.ensure_future(body.park(frame.scope, until_ms, None))
    try:
        while tasks := {handle.task for handle in works if handle.task is not None and not handle.task.done()}:
            if _is_over(run, until_ms):
                return
            waits: set[asyncio.Future[Any]] = {*tasks} if timer is None else {*tasks, timer}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)  # let the callbacks of what has just ended run: they may start more
            if timer is not None and timer.done() and not _is_over(run, until_ms):
                timer = asyncio.ensure_future(body.park(frame.scope, until_ms, None))
    finally:
        if timer is not None:
            timer.cancel()
            await asyncio.wait({timer})


def _is_over(run: Run, until_ms: int | None) -> bool:
    return until_ms is not None and run.clock.now_ms() >= until_ms


# ---- what had ended in time -----------------------------------------------------------------------------------------


@frozen
class _Call:
    """One wait with a timeout."""

    key: str
    timeout_ms: int
    past: Past | None


def _call(frame: Frame, timeout: Duration) -> _Call:
    timeout_ms = round(seconds(timeout, NAME) * 1000)
    key = take_key(frame, None)
    return _Call(key, timeout_ms, recall(frame.run, Kind.CONVERGE, key, NAME))


def _begin(run: Run, call: _Call) -> Operation[int]:
    """Until when to wait: a point in time, which a restart does not move (rule E4)."""
    if call.past is not None and call.past.begun is not None:
        assert isinstance(call.past.begun.data, int)  # written below
        return call.past.begun.data
    now_ms = run.clock.now_ms()
    entry = Entry(Kind.CONVERGE, Phase.BEGUN, call.key, NAME, now_ms, "", now_ms + call.timeout_ms)
    yield Record(entry.kind, entry.phase, NAME, call.key, (encode(run.codec, entry),))
    return now_ms + call.timeout_ms


def _record(run: Run, scope: Scope, call: _Call, works: Works) -> Operation[list[bool]]:
    done = [handle.done for handle in works]
    entry = Entry(Kind.CONVERGE, Phase.DONE, call.key, NAME, run.clock.now_ms(), "", [int(each) for each in done])
    scope.position = yield Record(entry.kind, entry.phase, NAME, call.key, (encode(run.codec, entry),))
    scope.now_ms = entry.at_ms
    return done


def _recorded(run: Run, past: Past) -> list[bool]:
    """Which of the works had ended, by their places."""
    done = run.codec.loads(past.payload)
    assert isinstance(done, list)  # written by _record
    return [bool(each) for each in done]


def _deliver(run: Run, scope: Scope, past: Past) -> None:
    if run.body is not None:
        run.body.skip(past.position)
    scope.now_ms, scope.position = past.at_ms, past.position


def _as_recorded(frame: Frame, works: Works, past: Past, *, fail_on_error: bool) -> list[WorkOutcome]:
    """As the first time: what had ended by then will have ended soon; the rest is not looked at."""
    done = _recorded(frame.run, past)
    _wait(frame, [handle for handle, was in zip(works, done, strict=False) if was], None)
    _deliver(frame.run, frame.scope, past)
    return _outcomes(works, fail_on_error=fail_on_error, done=done)


def _outcomes(works: Works, *, fail_on_error: bool, done: Sequence[bool] = ()) -> list[WorkOutcome]:
    outcomes = [
        handle.outcome() if place >= len(done) or done[place] else WorkOutcome(handle.name, done=False)
        for place, handle in enumerate(works)
    ]
    if fail_on_error:
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error
    return outcomes
