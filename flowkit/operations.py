"""Durable operations as generators of effects: recall what is recorded, or perform and record it.

The same generators serve sync and async code, live and replayed, in production and in the harness; only the driver
that performs their effects differs (see `drivers`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NoReturn

from attrs import evolve, field

from flowkit.codec import Json
from flowkit.codec.errors import error_from_json
from flowkit.digest import ArgumentDigest
from flowkit.effects import Invoke, Operation, Pause, Record, Returned
from flowkit.entries import Entry, Kind, Phase, encode, encode_done
from flowkit.errors import RunBlocked, SerializationError, StepError, StepInterrupted, StepTimeout
from flowkit.frozen import frozen, hot_record
from flowkit.journal import Past, attempt_entry
from flowkit.kinship import cancel_children
from flowkit.lines import Scope, Undo, UndoScope
from flowkit.notes import add_note
from flowkit.reasons import Blocked, Cancelled, LeaveScope, RollingBack
from flowkit.retry import Retry, RetryPolicy, delay_after
from flowkit.run import Run

ONCE = Retry(attempts=1)
_DONE, _CANCELLED = Phase.DONE.value, Phase.CANCELLED.value
_CHILDREN_FIRST = frozenset({Kind.CHILD, Kind.WAIT})  # E2: a child is cancelled before its parent hears of it


@frozen
class UndoSpec:
    """How to take back a completed step or child, as its author said with `.compensate`."""

    fn: Callable[..., object]
    is_async: bool
    policy: RetryPolicy | None
    arguments: Callable[
        [object, tuple[object, ...], Mapping[str, object]], tuple[tuple[object, ...], dict[str, object]]
    ]


@frozen
class StepSpec:
    """What is known of a step before it is called."""

    name: str
    fn: Callable[..., object]
    is_async: bool
    digest: ArgumentDigest = field(eq=False)
    hint: object = field(eq=False)  # what the function says it returns
    policy: RetryPolicy | None = None
    timeout_s: float | None = None
    at_most_once: bool = False
    key: str | None = None  # takes the place of the ordinal
    undo: UndoSpec | None = None
    kind: str = "step"


@hot_record
class StepCall:
    """One call of a step: all that was known when it was made."""

    spec: StepSpec
    key: str
    digest: str
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    past: Past | None
    saga: UndoScope  # whose undo it becomes when it is completed
    threaded: bool = False


def step_operation(run: Run, scope: Scope, call: StepCall) -> Operation[object]:
    """Run a step that has no recorded outcome: try, record, and try again as its policy says (rules R1, R2)."""
    spec, key, attempt = call.spec, call.key, 0
    if call.past is not None:
        attempt = yield from _take_up(run, scope, call, call.past)
    while True:
        attempt += 1
        if spec.at_most_once:
            yield _record(run, _entry(run, call, Phase.BEGUN, attempt))  # D3: its start is recorded first
        began_ms = run.clock.now_ms()
        limit_s = spec.timeout_s if run.deadline_ms is None else time_left(run, run.deadline_ms, spec.timeout_s)
        has_undo = spec.undo is not None
        outcome = yield Invoke(
            spec.name, key, attempt, spec.fn, call.args, call.kwargs, limit_s, call.threaded, has_undo
        )
        if type(outcome) is Returned:
            at_ms = run.clock.now_ms()
            try:
                raw, value = _completed(run, call, outcome.value, at_ms, at_ms - began_ms)
            except SerializationError as unfit:
                return (yield from _fail(run, scope, call, unfit, attempt, began_ms))
            scope.position = yield Record(spec.kind, _DONE, spec.name, key, (raw,))
            scope.now_ms = at_ms
            if spec.undo is not None:
                remember_undo(call.saga, spec.undo, key, spec.name, scope.position, value, call.args, call.kwargs)
            return value
        policy = spec.policy or (ONCE if spec.at_most_once else run.policy)
        delay = delay_after(policy, outcome.error, attempt, f"{run.seed}:{key}")
        if delay is None:
            return (yield from _fail(run, scope, call, outcome.error, attempt, began_ms))
        yield from _try_later(run, scope, call, outcome.error, attempt, delay, began_ms)


def _take_up(run: Run, scope: Scope, call: StepCall, past: Past) -> Operation[int]:
    """Go on where a former incarnation stopped; returns the attempts that have failed (rule R2)."""
    if past.phase == Phase.BEGUN:
        yield from _interrupted(run, scope, call, past.attempts)
    if past.retry_at_ms > run.clock.now_ms() and (yield Pause(call.spec.name, call.key, past.retry_at_ms)):
        yield from cancel_here(run, scope, Kind.STEP, call.key, call.spec.name)
    return past.attempts


def _completed(run: Run, call: StepCall, value: object, at_ms: int, took_ms: int) -> tuple[bytes, object]:
    """The entry that records a value, and the value as every replay will see it (rule D5)."""
    codec, spec = run.codec, call.spec
    try:
        data = codec.to_json(value, spec.hint)
        raw = encode_done(codec, spec.kind, call.key, spec.name, at_ms, call.digest, took_ms, data)
        if len(raw) > run.max_value_bytes:
            check_size(run, raw)
        return raw, codec.from_json(data, spec.hint)
    except SerializationError as error:
        raise SerializationError(f"step {spec.name!r} of run {run.id!r} returned what cannot be stored: {error}") from (
            error
        )


def remember_undo(
    saga: UndoScope,
    spec: UndoSpec,
    key: str,
    name: str,
    position: int,
    value: object,
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    nth: int = 0,
) -> None:
    """A completed operation can be taken back from now on (rule G1); `nth` of those completed at one position."""
    undo_args, undo_kwargs = spec.arguments(value, args, kwargs)
    saga.add(Undo(key, name, (position, nth), spec.fn, spec.is_async, spec.policy, undo_args, undo_kwargs))


def instead(run: Run, scope: Scope, saga: UndoScope, kind: Kind, key: str, name: str) -> Operation[NoReturn] | None:
    """What a new operation does instead of its work.

    A replay for a rollback goes no further; a cancellation is delivered; or the task's time is up.
    """
    if scope.entrant is not None and scope.entrant.lost and kind is not Kind.CHILD:
        raise cancellation(run, scope)  # G6: a race that is decided goes no further; its record says who has lost
    if saga.rolling_back:
        raise LeaveScope
    if run.journal.rollback is not None:
        run.stop(RollingBack())
        raise asyncio.CancelledError  # an async body is being cancelled: go down with it
    if kind not in _CHILDREN_FIRST and run.cancel_wanted(scope):
        return cancel_here(run, scope, kind, key, name)
    if run.deadline_ms is not None and run.clock.now_ms() >= run.deadline_ms:
        return _out_of_time(run, name)
    return None


def _out_of_time(run: Run, name: str) -> Operation[NoReturn]:
    """Raise without recording: whatever the body calls from now on raises the same, also on replay."""
    run.timed_out = True
    yield from ()
    raise StepTimeout(f"task {run.task_id!r} of run {run.id!r} took longer than its timeout, at {name!r}")


def time_left(run: Run, deadline_ms: int, timeout_s: float | None) -> float:
    """How long one attempt may take: its own timeout, within the task's."""
    left_s = max(0.001, (deadline_ms - run.clock.now_ms()) / 1000)
    return left_s if timeout_s is None else min(timeout_s, left_s)


def _fail(
    run: Run, scope: Scope, call: StepCall, error: BaseException, attempts: int, began_ms: int
) -> Operation[object]:
    spec = call.spec
    return (
        yield from fail_operation(
            run, scope, spec.kind, call.key, spec.name, error, attempts, call.digest, began_ms=began_ms
        )
    )


def _entry(run: Run, call: StepCall, phase: Phase, data: Json) -> Entry:
    return Entry(call.spec.kind, phase, call.key, call.spec.name, run.clock.now_ms(), call.digest, data)


def _record(run: Run, entry: Entry) -> Record:
    return Record(entry.kind, entry.phase, entry.name, entry.key, (encode_within_cap(run, entry),))


def encode_within_cap(run: Run, entry: Entry) -> bytes:
    """The entry's bytes.

    Raises:
        SerializationError: if they are more than the storage takes.
    """
    raw = encode(run.codec, entry)
    check_size(run, raw)
    return raw


def check_size(run: Run, raw: bytes) -> None:
    """Refuse what the storage would not take, before it is sent."""
    if len(raw) > run.max_value_bytes:
        raise SerializationError(
            f"it takes {len(raw):,} bytes and the storage keeps at most {run.max_value_bytes:,} in one value; "
            "store it elsewhere and return where it is"
        )


def _try_later(
    run: Run, scope: Scope, call: StepCall, error: BaseException, attempt: int, delay: float, began_ms: int
) -> Operation[None]:
    """Record a failed attempt with the time of the next one, and wait for it (rule R2)."""
    now_ms = run.clock.now_ms()
    retry_at_ms = now_ms + round(delay * 1000)
    recorded = run.recorded(error)
    entry = attempt_entry(call.spec.kind, call.key, call.spec.name, now_ms, attempt, retry_at_ms, recorded, call.digest)
    entry = evolve(entry, took_ms=now_ms - began_ms)
    yield _record(run, entry)
    if (yield Pause(call.spec.name, call.key, retry_at_ms)):
        yield from cancel_here(run, scope, Kind.STEP, call.key, call.spec.name)


def _interrupted(run: Run, scope: Scope, call: StepCall, attempt: int) -> Operation[object]:
    error = StepInterrupted(
        f"step {call.spec.name!r} of run {run.id!r} was under way when its process died. It is marked at_most_once, "
        "so it does not run again; find out whether it took effect"
    )
    return (yield from _fail(run, scope, call, error, attempt + 1, run.clock.now_ms()))


def fail_operation(
    run: Run,
    scope: Scope,
    kind: str,
    key: str,
    name: str,
    error: BaseException,
    attempts: int,
    digest: str = "",
    consume: tuple[str, ...] = (),
    began_ms: int | None = None,
) -> Operation[NoReturn]:
    """Record a final failure and raise it as every replay will (rules R3, D6)."""
    if isinstance(error, StopIteration | StopAsyncIteration):  # Python lets neither out of a generator or coroutine
        error = StepError(f"{kind} {name!r} raised {error!r}", f"builtins:{type(error).__name__}", str(error))
    recorded, live = run.live_error(error)
    data: Json = {"error": recorded, "attempts": attempts}
    now_ms = run.clock.now_ms()
    entry = Entry(kind, Phase.FAILED, key, name, now_ms, digest, data, 0 if began_ms is None else now_ms - began_ms)
    scope.position = yield evolve(_record(run, entry), consume=consume) if consume else _record(run, entry)
    scope.now_ms = entry.at_ms
    raise _delivered(run, kind, key, name, live, attempts)


def _delivered(run: Run, kind: str, key: str, name: str, error: BaseException, attempts: int) -> BaseException:
    """Mark a failure as having reached the body, and say where it comes from."""
    run.failed_delivered = True
    run.fresh_failures.append(key)
    return noted(run, kind, key, name, error, attempts)


def noted(run: Run, kind: str, key: str, name: str, error: BaseException, attempts: int) -> BaseException:
    """Say where a failure comes from, once."""
    note = f"{kind} {name!r} (operation {key}) of run {run.id!r} failed after {attempts} attempt(s)"
    add_note(error, note)
    return error


def cancel_here(run: Run, scope: Scope, kind: Kind, key: str, name: str) -> Operation[NoReturn]:
    """Record that cancellation reaches the body at this operation, and raise it there, once (rule E2)."""
    entry = Entry(kind, Phase.CANCELLED, key, name, run.clock.now_ms())
    yield evolve(_record(run, entry), send=cancel_children(run))
    raise cancellation(run, scope)


def cancellation(run: Run, scope: Scope) -> BaseException:
    """What tells a line of calls that its run is cancelled."""
    scope.cancel_delivered = True
    return asyncio.CancelledError() if run.is_async else Cancelled(f"run {run.id!r} was cancelled")


def recalled(run: Run, scope: Scope, past: Past, hint: object) -> object:
    """The recorded outcome of an operation: returns its value or raises its error, as the first time (rule D2)."""
    if run.probe is not None:
        run.probe.recalled(run, past)
    scope.now_ms, scope.position = past.at_ms, past.position
    codec = run.codec
    try:
        if past.phase == _DONE:
            return codec.from_json(codec.loads(past.payload), hint)
        if past.phase == _CANCELLED:
            raise cancellation(run, scope)
        data = codec.loads(past.payload)
        assert isinstance(data, dict)  # written by fail_operation
        error, attempts = error_from_json(codec, data["error"]), data["attempts"]
    except (SerializationError, RunBlocked) as broken:
        _block_unreadable(run, past, broken)
    assert isinstance(attempts, int)
    raise _delivered(run, past.kind, past.key, past.name, error, attempts)


def recorded_value(run: Run, past: Past, hint: object) -> object:
    """The value that a completed operation had; one that cannot be read blocks the run."""
    codec = run.codec
    try:
        return codec.from_json(codec.loads(past.payload), hint)
    except (SerializationError, RunBlocked) as broken:
        _block_unreadable(run, past, broken)


def _block_unreadable(run: Run, past: Past, broken: SerializationError | RunBlocked) -> NoReturn:
    blocked = RunBlocked(
        f"the recorded outcome of {past.kind} {past.name!r} in run {run.id!r} cannot be read here: {broken}"
    )
    blocked.__cause__ = broken
    run.stop(Blocked(blocked))
    raise asyncio.CancelledError from broken  # in async code `stop` has cancelled the root: go down the same way
