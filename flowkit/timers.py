"""Durable timers: a point in time, recorded once, that a restart does not move (rule E4)."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime
from typing import Any, cast

from flowkit.calls import (
    perform_call,
    perform_call_async,
    recall,
    refuse_foreign_task,
    require_async,
    take_key,
)
from flowkit.durations import Duration, seconds
from flowkit.effects import Operation, Pause, Record
from flowkit.entries import Entry, Kind, Phase, encode
from flowkit.errors import ConfigurationError, NotAllowedInStep, OutsideRun, WrongColour
from flowkit.journal import Past
from flowkit.lines import Scope
from flowkit.operations import cancel_here, instead
from flowkit.run import Frame, Run, current

NAME = "sleep"


def sleep_operation(run: Run, scope: Scope, key: str, wake_at_ms: int, past: Past | None) -> Operation[None]:
    """Set a timer and wait for it; a timer that is set already keeps its time."""
    if (other := instead(run, scope, scope.saga, Kind.SLEEP, key, NAME)) is not None:
        yield from other
    if past is not None and past.begun is not None:
        assert isinstance(past.begun.data, int)  # written below
        wake_at_ms = past.begun.data
    else:
        yield _record(run, Entry(Kind.SLEEP, Phase.BEGUN, key, NAME, run.clock.now_ms(), "", wake_at_ms))
    if (yield Pause(NAME, key, wake_at_ms)):
        yield from cancel_here(run, scope, Kind.SLEEP, key, NAME)
    entry = Entry(Kind.SLEEP, Phase.DONE, key, NAME, run.clock.now_ms())
    yield _record(run, entry)
    scope.now_ms = entry.at_ms


def _record(run: Run, entry: Entry) -> Record:
    return Record(entry.kind, entry.phase, entry.name, entry.key, (encode(run.codec, entry),))


def sleep(duration: Duration) -> None:
    """Wait, durably: a run that waits long is let go of and taken up again when the time comes.

    Args:
        duration: seconds, a `timedelta`, or text such as "3d".
    """
    _sleep(_frame("sleep"), round(seconds(duration, "sleep") * 1000), None)


def sleep_until(when: datetime) -> None:
    """Wait until a time, durably.

    Args:
        when: a `datetime` with a time zone.
    """
    _sleep(_frame("sleep_until"), 0, _milliseconds(when))


def sleep_async(duration: Duration) -> Coroutine[Any, Any, None]:
    """`sleep`, awaitable."""
    return _sleep_async(_frame("aio.sleep"), round(seconds(duration, "sleep") * 1000), None)


def sleep_until_async(when: datetime) -> Coroutine[Any, Any, None]:
    """`sleep_until`, awaitable."""
    return _sleep_async(_frame("aio.sleep_until"), 0, _milliseconds(when))


def _sleep(frame: Frame, wait_ms: int, wake_at_ms: int | None) -> None:
    run, scope = frame.run, frame.scope
    if run.is_async:
        raise WrongColour("sleep in an async task would block its event loop: write `await flowkit.aio.sleep(...)`")
    key = take_key(frame, None)
    past = recall(run, Kind.SLEEP, key, NAME)
    wake = run.clock.now_ms() + wait_ms if wake_at_ms is None else wake_at_ms
    perform_call(run, scope, past, type(None), lambda: sleep_operation(run, scope, key, wake, past))


def _sleep_async(frame: Frame, wait_ms: int, wake_at_ms: int | None) -> Coroutine[Any, Any, None]:
    run, scope = frame.run, frame.scope
    require_async(run, NAME)
    key = take_key(frame, None)
    past = recall(run, Kind.SLEEP, key, NAME)
    wake = run.clock.now_ms() + wait_ms if wake_at_ms is None else wake_at_ms
    assert run.body is not None  # the calling task is the body's
    run.body.created += 1
    made = perform_call_async(run, scope, past, type(None), lambda: sleep_operation(run, scope, key, wake, past))
    return cast("Coroutine[Any, Any, None]", made)


def _frame(what: str) -> Frame:
    frame = current.get()
    if frame is None:
        raise OutsideRun(f"flowkit.{what}() works only inside a task; outside of one use time.sleep or asyncio.sleep")
    if frame.step_key is not None:
        raise NotAllowedInStep(
            f"flowkit.{what}() was called inside step {frame.step_name!r}; call it in the task, between steps"
        )
    if not frame.owned_here():
        refuse_foreign_task(what)
    return frame


def _milliseconds(when: datetime) -> int:
    if not isinstance(when, datetime) or when.tzinfo is None:
        raise ConfigurationError(f"sleep_until({when!r}): give a datetime with a time zone")
    return round(when.timestamp() * 1000)
