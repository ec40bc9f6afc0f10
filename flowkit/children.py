"""A task called inside a task: a child run, advanced in its parent's place (rule E3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NoReturn, cast

from flowkit.codec import Json
from flowkit.codec.errors import error_from_json
from flowkit.documents import result_json
from flowkit.effects import Advance, ChildAnswer, ChildEnded, Inquire, Listen, Operation, Record, Tell
from flowkit.entries import Entry, Kind, Phase
from flowkit.errors import RunConflict, SerializationError
from flowkit.frozen import frozen
from flowkit.kinship import batch_from_json, batch_json, cancel_children, child_run_id, reply_id
from flowkit.lines import Scope, UndoScope
from flowkit.mailbox import Mailbox
from flowkit.operations import UndoSpec, cancellation, encode_within_cap, fail_operation, remember_undo
from flowkit.records import Delivery, Message, MessageKind, NewRun
from flowkit.run import Run

MOST_SPAWNED = 1_000  # children made by one change
MOST_BYTES = 4 * 1024 * 1024  # of their inputs in one change


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
    yield Record(
        entry.kind, entry.phase, new.task, call.key, (raw,), _messages_of(run, call.key), send=cancel_children(run)
    )
    raise cancellation(run, scope)


def _messages_of(run: Run, key: str) -> tuple[str, ...]:
    """The messages by which the child has told, or will tell, its end: nobody is to be woken by them any more."""
    message_id, heard = reply_id(run, key), run.mailbox.ends().get(child_run_id(run.id, key))
    return (message_id,) if heard is None or heard.id == message_id else (message_id, heard.id)


def _record_result(
    run: Run, scope: Scope, call: ChildCall, task: str, result: bytes, began_ms: int
) -> Operation[object]:
    document, received = result_json(run.codec, result), _messages_of(run, call.key)
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


@frozen
class TriggerCall:
    """One call of `trigger`: all that was known when it was made."""

    key: str
    digest: str
    task: str
    named: bool  # its run has an id of the user's, so it may be there already
    make: Callable[[], NewRun]


def trigger_operation(run: Run, call: TriggerCall, scope: Scope) -> Operation[object]:
    """Create a child run and record that, in one change; it runs whenever a worker takes it up (rule E3)."""
    key, name, digest = call.key, call.task, call.digest
    try:
        new = call.make()
    except (SerializationError, TypeError) as unfit:
        return (yield from fail_operation(run, scope, Kind.TRIGGER, key, name, unfit, 1, digest))
    if call.named:
        try:
            yield Inquire(name, key, (new.run_id,), same=(new,))
        except RunConflict as conflict:
            yield from fail_operation(run, scope, Kind.TRIGGER, key, name, conflict, 1, digest)
    entry = Entry(Kind.TRIGGER, Phase.DONE, key, name, run.clock.now_ms(), digest, new.run_id)
    raw = encode_within_cap(run, entry)
    scope.position = yield Record(Kind.TRIGGER, Phase.DONE, name, key, (raw,), spawn=(new,))
    scope.now_ms = entry.at_ms
    return new.run_id


@frozen
class BatchCall:
    """One call of `batch_trigger`: all that was known when it was made."""

    key: str
    digest: str
    task: str
    named: frozenset[str]  # ids of the user's among them
    make: Callable[[], Sequence[NewRun]]


def batch_operation(run: Run, scope: Scope, call: BatchCall) -> Operation[object]:
    """Create children, as many as fit into one change at a time, and record them with the last of them (rule E3).

    After a crash in between, those that exist are found existing: their ids follow from the batch's key.
    """
    key, name = call.key, call.task
    try:
        children = call.make()
    except (SerializationError, TypeError) as unfit:
        return (yield from fail_operation(run, scope, Kind.BATCH, key, name, unfit, 1, call.digest))
    mine = tuple(new for new in children if new.run_id in call.named)
    if mine:
        try:
            yield Inquire(name, key, tuple(new.run_id for new in mine), same=mine)
        except RunConflict as conflict:
            yield from fail_operation(run, scope, Kind.BATCH, key, name, conflict, 1, call.digest)
    data = batch_json([new.run_id for new in children], child_run_id(run.id, key))
    *first, last = list(portions(children)) or [()]
    if first:
        begun = Entry(Kind.BATCH, Phase.BEGUN, key, name, run.clock.now_ms(), call.digest, data)
        yield Record(begun.kind, begun.phase, name, key, (encode_within_cap(run, begun),), spawn=first[0])
        for portion in first[1:]:
            yield Record(begun.kind, begun.phase, name, key, (), spawn=portion)
    entry = Entry(Kind.BATCH, Phase.DONE, key, name, run.clock.now_ms(), call.digest, data)
    raw = encode_within_cap(run, entry)
    scope.position = yield Record(entry.kind, entry.phase, name, key, (raw,), spawn=last)
    scope.now_ms = entry.at_ms
    return data


def children_of(data: object) -> tuple[str, ...]:
    """The ids of the children of a batch, from what its operation answers."""
    return batch_from_json(cast("Json", data))


def portions(children: Sequence[NewRun]) -> Iterator[tuple[NewRun, ...]]:
    """As many as one change may hold."""
    portion: list[NewRun] = []
    size = 0
    for new in children:
        portion.append(new)
        size += len(new.input)
        if len(portion) >= MOST_SPAWNED or size >= MOST_BYTES:
            yield tuple(portion)
            portion, size = [], 0
    if portion:
        yield tuple(portion)
