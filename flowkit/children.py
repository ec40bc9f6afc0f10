"""A task called inside a task: a child run, advanced in its parent's place (rule E3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn

from flowkit.codec.errors import error_from_json
from flowkit.documents import result_json
from flowkit.effects import Advance, ChildAnswer, ChildEnded, Listen, Operation, Record, Tell
from flowkit.entries import Entry, Kind, Phase
from flowkit.frozen import frozen
from flowkit.mailbox import Mailbox
from flowkit.operations import UndoSpec, cancellation, encode_within_cap, fail_operation, remember_undo
from flowkit.records import Delivery, Message, MessageKind, NewRun
from flowkit.run import Run, Scope, UndoScope


def child_run_id(run: Run, key: str) -> str:
    """The id of a child follows from its parent's run and key, so that a replay finds it again."""
    return f"{run.id}/{key}"


def reply_id(run: Run, key: str) -> str:
    """The id of the message by which the child tells its end."""
    return f"child:{run.id}/{key}"


@frozen
class ChildEnd:
    """The message by which a child tells its end."""

    run_id: str

    def take(self, mailbox: Mailbox) -> Message | None:
        """The message, if it is there."""
        return mailbox.ends().get(self.run_id)

    def missing(self, _mailbox: Mailbox) -> int:
        """How many messages must come at the least before it is worth looking again."""
        return 1


@frozen
class ChildCall:
    """One call of a task inside a task: all that was known when it was made."""

    key: str
    digest: str
    hint: object
    make: Callable[[], NewRun]
    undo: UndoSpec | None
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    saga: UndoScope  # whose undo it becomes when it is completed, if its task declares one (rule G1)


def child_operation(run: Run, scope: Scope, call: ChildCall) -> Operation[object]:
    """Run a child to its end and record its outcome in the parent."""
    new, began_ms = call.make(), run.clock.now_ms()
    if run.cancel_wanted(scope):
        return (yield from _stop_child(run, scope, call, new))
    reopen = call.key in run.journal.reopened
    while True:
        answer: ChildAnswer = yield Advance(new.task, call.key, new, reopen)
        if isinstance(answer, ChildEnded):
            return (yield from _record_result(run, scope, call, new.task, answer.result, began_ms))
        message: Message | None = yield Listen(new.task, call.key, ChildEnd(new.run_id), answer.wake_at_ms)
        if message is not None:
            return (yield from _record_result(run, scope, call, new.task, message.payload, began_ms))
        if run.cancel_wanted(scope):
            return (yield from _stop_child(run, scope, call, new))
        reopen = False


def _stop_child(run: Run, scope: Scope, call: ChildCall, new: NewRun) -> Operation[NoReturn]:
    """The run is cancelled: its child first, if there is one; then the body hears of it (rule E2)."""
    scope.cancel_delivered = True
    message_id = reply_id(run, call.key)
    stop = Message(f"cancel:{message_id}", MessageKind.CANCEL)
    delivery: Delivery = yield Tell(new.task, call.key, new.run_id, stop)
    while delivery in {Delivery.DELIVERED, Delivery.DUPLICATE}:
        answer: ChildAnswer = yield Advance(new.task, call.key, new)
        if isinstance(answer, ChildEnded):
            break
        if (yield Listen(new.task, call.key, ChildEnd(new.run_id), answer.wake_at_ms)) is not None:
            break
    entry = Entry(Kind.CHILD, Phase.CANCELLED, call.key, new.task, run.clock.now_ms(), call.digest)
    raw = encode_within_cap(run, entry)
    yield Record(entry.kind, entry.phase, new.task, call.key, (raw,), consume=(message_id,))
    raise cancellation(run, scope)


def _record_result(
    run: Run, scope: Scope, call: ChildCall, task: str, result: bytes, began_ms: int
) -> Operation[object]:
    document, received = result_json(run.codec, result), (reply_id(run, call.key),)
    if "error" in document:
        error = error_from_json(run.codec, document["error"])
        yield from fail_operation(
            run, scope, Kind.CHILD, call.key, task, error, 1, call.digest, consume=received, began_ms=began_ms
        )
    data, now_ms = document.get("value"), run.clock.now_ms()
    entry = Entry(Kind.CHILD, Phase.DONE, call.key, task, now_ms, call.digest, data, now_ms - began_ms)
    raw = encode_within_cap(run, entry)
    scope.position = yield Record(Kind.CHILD, Phase.DONE, task, call.key, (raw,), consume=received)
    scope.now_ms = now_ms
    value = run.codec.from_json(data, call.hint)
    if call.undo is not None:
        remember_undo(call.saga, call.undo, call.key, task, scope.position, value, call.args, call.kwargs)
    return value


def trigger_operation(run: Run, scope: Scope, key: str, digest: str, make: Callable[[], NewRun]) -> Operation[object]:
    """Create a child run and record that, in one change; it runs whenever a worker takes it up."""
    new = make()
    entry = Entry(Kind.TRIGGER, Phase.DONE, key, new.task, run.clock.now_ms(), digest, new.run_id)
    raw = encode_within_cap(run, entry)
    yield Record(Kind.TRIGGER, Phase.DONE, new.task, key, (raw,), spawn=(new,))
    scope.now_ms = entry.at_ms
    return new.run_id
