"""The operation that is a whole run: its body from the start, again if its own code fails, and its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from flowkit.codec import Json
from flowkit.documents import ReplyTo, encode_error, encode_value
from flowkit.effects import End, Operation, Outcome, Pause, Raised, Record, Reload, RunBody
from flowkit.entries import RUN_KEY, Entry, Kind, Phase, encode
from flowkit.errors import LeaseLost, NonDeterminismError, RunBlocked, RunCancelled, SerializationError
from flowkit.frozen import frozen
from flowkit.journal import Journal, attempt_entry, reopened_entry
from flowkit.kinship import cancel_children
from flowkit.lines import Scope
from flowkit.notes import line_of
from flowkit.reasons import Blocked, Cancelled, Detached, LeaveScope, Reason, Revoked, RollingBack, Suspended, Unwind
from flowkit.records import Block, Finish, Message, MessageKind, RunStatus, Send, Suspend, Yield
from flowkit.retry import delay_after
from flowkit.rollback import rollback_operation, was_cancelled
from flowkit.run import Run

log = logging.getLogger(__name__)


@frozen
class BodyCall:
    """The task's function, what it was given, and what is to be done around it."""

    fn: Callable[..., object]
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    hint: object
    reply: ReplyTo | None
    reopen: Message | None  # the run was reopened: forget what failed, then go on
    refuse: Reason | None  # it must not run now: blocked for crashing again and again
    cancelled: str | None  # it ends as cancelled without having started, and why
    for_worker: bool  # nobody called it who could be told of a SystemExit


@frozen
class Ended:
    """The run is finished, and this is its stored result."""

    status: RunStatus
    result: bytes


Ending = Ended | Reason


def run_operation(run: Run, call: BodyCall) -> Operation[Ending]:
    """Advance a run as far as it goes; returns how it ended, or why it stopped for now."""
    try:
        return (yield from _advance_or_stop(run, call))
    except LeaseLost as lost:  # D4: at its last word, too, which may be that it lets go of the run
        run.reason = Revoked(lost)
        return run.reason


def _advance_or_stop(run: Run, call: BodyCall) -> Operation[Ending]:
    try:
        return (yield from _advance(run, call))
    except Unwind as unwind:
        return (yield from _stop(run, call, unwind.reason))
    except BaseException as error:
        if isinstance(error, Exception | GeneratorExit):
            raise
        # Ctrl-C between two tries of the body: handed back, unless its ports are closed already
        return (yield from _stop(run, call, run.reason or _ended_by(run, call, error)))


def _advance(run: Run, call: BodyCall) -> Operation[Ending]:
    if call.reopen is not None:
        yield from _reopen(run, call.reopen)
    if call.cancelled is not None:
        return (yield from _finish_error(run, call, RunStatus.CANCELLED, RunCancelled(call.cancelled)))
    if call.refuse is not None:
        return (yield from _stop(run, call, call.refuse))
    while True:
        if run.closing is not None:  # X5: told so before its body began, this time or again
            run.reason = Detached(run.closing)
            yield End(run.task_id, Yield())
            return run.reason
        if run.journal.body_retry_at_ms > run.clock.now_ms():
            run.cancelled_in_pause = run.writer.cancel or (
                yield Pause(run.task_id, RUN_KEY, run.journal.body_retry_at_ms)
            )
        outcome = yield RunBody(run.task_id, call.fn, call.args, call.kwargs)
        ending = yield from _judge(run, call, outcome)
        if ending is not None:
            return ending
        run.rewind((yield Reload(run.task_id)))


def _reopen(run: Run, message: Message) -> Operation[None]:
    keys = run.codec.loads(message.payload)
    assert isinstance(keys, list)  # written by Engine.reopen
    entry = reopened_entry(run.clock.now_ms(), [str(key) for key in keys])
    raw = encode(run.codec, entry)
    yield Record(Kind.RUN, Phase.REOPENED, run.task_id, RUN_KEY, (raw,), consume=(message.id,))
    journal: Journal = yield Reload(run.task_id)
    run.rewind(journal)


def _judge(run: Run, call: BodyCall, outcome: Outcome) -> Operation[Ending | None]:
    """Decide what a body's end means; None: it starts over."""
    if run.journal.rollback is not None and isinstance(run.reason, RollingBack | None):
        run.reason = run.unwind = None
        return (yield from _go_on_rolling_back(run, call, run.journal.rollback))
    if isinstance(outcome, Raised) and isinstance(outcome.error, Unwind):
        return (yield from _stop(run, call, run.reason or outcome.error.reason))
    if run.reason is not None:  # it was being unwound, whatever came out of it
        tell_if_swallowed(run, outcome)
        return (yield from _stop(run, call, run.reason))
    if not isinstance(outcome, Raised):
        return (yield from _returned(run, call, outcome.value))
    error = outcome.error
    if isinstance(error, Cancelled | asyncio.CancelledError | LeaveScope):
        return (yield from _roll_back(run, call, RunStatus.CANCELLED, error))
    if not isinstance(error, Exception):
        return (yield from _stop(run, call, _ended_by(run, call, error)))
    return (yield from _failed(run, call, error))


def _ended_by(run: Run, call: BodyCall, error: BaseException) -> Reason:
    """Ctrl-C and SystemExit: the run stays resumable, and whoever called it is told.

    A worker called it for nobody. It is not to end for a run's sake, nor to take the run up again and again (R4).
    """
    if not call.for_worker or isinstance(error, asyncio.CancelledError):
        return Detached(error)
    why = f"run {run.id!r} raised {line_of(error)}, which ends a process and not a run"
    blocked = RunBlocked(f"{why}. Let its code return, or raise an Exception; then flow.retry(run_id) goes on")
    blocked.__cause__ = error
    return Blocked(blocked)


def tell_if_swallowed(run: Run, outcome: Outcome) -> None:
    """Report a body that went on after it was told to let go (rule E1)."""
    if isinstance(outcome, Raised) and not isinstance(outcome.error, Exception):
        return
    run.tell_of_swallowing(
        f"the task of run {run.id!r} went on after it was told to let go (a bare `except:` or `except BaseException:` "
        "without `raise`?); what it did after that was not recorded",
    )


def _returned(run: Run, call: BodyCall, value: object) -> Operation[Ending | None]:
    try:
        run.journal.check_all_called()
    except NonDeterminismError as error:
        return (yield from _stop(run, call, Blocked(error)))
    try:
        result = encode_value(run.codec, run.codec.to_json(value, call.hint))
        if len(result) > run.max_value_bytes:
            raise SerializationError(f"it takes {len(result):,} bytes, more than the storage keeps in one value")
    except SerializationError as error:
        unfit = SerializationError(f"task {run.task_id!r} returned what cannot be stored: {error}")
        unfit.__cause__ = error
        return (yield from _roll_back(run, call, RunStatus.FAILED, unfit))
    return (yield from _finish(run, call, Finish(RunStatus.SUCCEEDED, result), ()))


def _failed(run: Run, call: BodyCall, error: Exception) -> Operation[Ending | None]:
    """Start over if the error came from the body's own code and nothing was decided by it yet (rule R3)."""
    again = run.child_errors.get(id(error))
    if again is not None:  # a child's failure that the body has let through
        run.failed_delivered = True
        run.fresh_failures += again
    if not run.failed_delivered and not run.handled and not run.timed_out:
        attempt = run.journal.body_attempts + 1
        if run.cancelled_in_pause:  # E2: it was only run again to rebuild its undos
            return (yield from _roll_back(run, call, RunStatus.CANCELLED, asyncio.CancelledError()))
        delay = delay_after(run.policy, error, attempt, run.seed)
        if delay is not None:
            now_ms = run.clock.now_ms()
            retry_at_ms = now_ms + round(delay * 1000)
            entry = attempt_entry(Kind.RUN, RUN_KEY, run.task_id, now_ms, attempt, retry_at_ms, run.recorded(error))
            yield Record(Kind.RUN, Phase.ATTEMPT, run.task_id, RUN_KEY, (encode(run.codec, entry),))
            return None
        if run.journal.uncalled:  # I3, G1: a rollback could not build the undos of what this body did not call
            return (yield from _stop(run, call, Blocked(run.journal.failed_early(line_of(error)))))
    return (yield from _roll_back(run, call, RunStatus.FAILED, error))


def _roll_back(run: Run, call: BodyCall, status: RunStatus, error: BaseException) -> Operation[Ending]:
    """Undo what the task has completed, then end (rule G1)."""
    if run.undos.undos:
        scope = Scope("", run.started_at_ms, run.undos)
        error = yield from rollback_operation(run, scope, run.undos, run.task_id, error, None)
    return (yield from _finish_error(run, call, status, error))


def _go_on_rolling_back(run: Run, call: BodyCall, recorded: Entry) -> Operation[Ending]:
    """Finish a rollback that had begun; the replayed body has only rebuilt its undos (rule G3)."""
    scope = Scope("", run.started_at_ms, run.undos)
    error = yield from rollback_operation(run, scope, run.undos, run.task_id, None, recorded)
    status = RunStatus.CANCELLED if was_cancelled(recorded) else RunStatus.FAILED
    return (yield from _finish_error(run, call, status, error))


def _finish_error(run: Run, call: BodyCall, status: RunStatus, error: BaseException) -> Operation[Ending]:
    """End as failed or cancelled. The entry says which operations a retry would run again (rule X2)."""
    if not isinstance(error, Exception):
        error = RunCancelled(f"run {run.id!r} was cancelled")
    recorded = run.recorded(error)
    again: Json = None if run.handled else list(run.fresh_failures)
    if run.failed_undos:  # G2: a retry runs only what is left
        again = list(run.failed_undos)
    data: Json = {"error": recorded, "again": again}
    phase = Phase.FAILED if status is RunStatus.FAILED else Phase.CANCELLED
    entry = Entry(Kind.RUN, phase, RUN_KEY, run.task_id, run.clock.now_ms(), "", data)
    cancelled = status is RunStatus.CANCELLED
    finish = Finish(status, encode_error(run.codec, recorded, cancelled=cancelled))
    send = cancel_children(run) if cancelled else ()
    return (yield from _finish(run, call, finish, (encode(run.codec, entry),), send))


def _finish(
    run: Run, call: BodyCall, then: Finish, entries: tuple[bytes, ...], send: tuple[Send, ...] = ()
) -> Operation[Ending]:
    if call.reply is not None:  # E3: however a child ends, its parent is woken; the outcome travels in the message
        nth = f"#{run.journal.reopenings}" if run.journal.reopenings else ""  # it may end again after a retry
        message = Message(call.reply.message_id + nth, MessageKind.CHILD, run.id, then.result)
        send = (*send, Send(call.reply.run_id, message))
    yield End(run.task_id, then, entries, send=send)
    return Ended(then.status, then.result)


def _begun(run: Run) -> tuple[bytes, ...]:
    """A run that lets go with nothing recorded says that it has begun: a cancellation must then reach its body."""
    if run.writer.length:
        return ()
    return (encode(run.codec, Entry(Kind.RUN, Phase.BEGUN, RUN_KEY, run.task_id, run.clock.now_ms())),)


def _waiting(run: Run) -> tuple[bytes, ...]:
    """That it went to wait, for whoever follows it; not again if nothing was recorded since it did so the last time."""
    if run.journal.ends_waiting and run.writer.length == run.journal.length:
        return ()
    return (encode(run.codec, Entry(Kind.RUN, Phase.WAITING, RUN_KEY, run.task_id, run.clock.now_ms())),)


def _stop(run: Run, call: BodyCall, reason: Reason) -> Operation[Ending]:
    """Let go of the run without finishing it."""
    if isinstance(reason, Blocked) and run.writer.cancel:
        why = f"run {run.id!r} was cancelled while it was blocked, so nothing of it was undone: {reason.error}"
        return (yield from _finish_error(run, call, RunStatus.CANCELLED, RunCancelled(why)))
    run.reason = reason
    match reason:
        case Suspended(wake_at_ms=wake_at_ms, arrivals=arrivals, cancel_heard=heard):
            inbox = None if arrivals is None else max(1, arrivals - run.mailbox.consumed)
            # a mark that everybody who waits has heard of must not wake the run again and again (E2)
            then = Suspend(wake_at_ms, inbox, cancel_seen=heard)
            yield End(run.task_id, then, (*_begun(run), *_waiting(run)))
        case Blocked(error=error):
            blocked = error if isinstance(error, RunBlocked) else RunBlocked(str(error))
            yield End(run.task_id, Block(encode_error(run.codec, run.recorded(blocked))))
        case Detached():
            yield End(run.task_id, Yield(), _begun(run))
        case Revoked() | RollingBack():
            pass  # D4: nothing may be written any more
    return reason
