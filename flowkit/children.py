"""A task called inside a task: a child run, advanced in its parent's place (rule E3)."""

from __future__ import annotations

from collections.abc import Callable

from flowkit.codec_errors import error_from_json
from flowkit.documents import result_json
from flowkit.effects import Advance, ChildAnswer, ChildEnded, Listen, Operation, Record
from flowkit.entries import Entry, Kind, Phase
from flowkit.operations import cancel_here, encode_within_cap, fail_operation
from flowkit.records import Message, NewRun
from flowkit.run import Run, Scope


def child_run_id(run: Run, key: str) -> str:
    """The id of a child follows from its parent's run and key, so that a replay finds it again."""
    return f"{run.id}/{key}"


def reply_id(run: Run, key: str) -> str:
    """The id of the message by which the child tells its end."""
    return f"child:{run.id}/{key}"


def child_operation(
    run: Run, scope: Scope, key: str, digest: str, hint: object, make: Callable[[], NewRun]
) -> Operation[object]:
    """Run a child to its end and record its outcome in the parent."""
    new, began_ms = make(), run.clock.now_ms()
    answer: ChildAnswer = yield Advance(new.task, key, new)
    message_id = reply_id(run, key)
    if isinstance(answer, ChildEnded):
        result = answer.result
    else:
        message: Message | None = yield Listen(new.task, key, lambda found: found.id == message_id)
        if message is None:
            return (yield from cancel_here(run, Kind.CHILD, key, new.task))
        result = message.payload
    return (yield from _record_result(run, scope, key, digest, hint, new.task, message_id, result, began_ms))


def _record_result(
    run: Run,
    scope: Scope,
    key: str,
    digest: str,
    hint: object,
    task: str,
    message_id: str,
    result: bytes,
    began_ms: int,
) -> Operation[object]:
    document = result_json(run.codec, result)
    if "error" in document:
        error = error_from_json(run.codec, document["error"])
        yield from fail_operation(
            run, scope, Kind.CHILD, key, task, error, 1, digest, consume=(message_id,), began_ms=began_ms
        )
    data = document.get("value")
    now_ms = run.clock.now_ms()
    entry = Entry(Kind.CHILD, Phase.DONE, key, task, now_ms, digest, data, now_ms - began_ms)
    raw = encode_within_cap(run, entry)
    yield Record(Kind.CHILD, Phase.DONE, task, key, (raw,), consume=(message_id,))
    scope.now_ms = entry.at_ms
    return run.codec.from_json(data, hint)


def trigger_operation(run: Run, scope: Scope, key: str, digest: str, make: Callable[[], NewRun]) -> Operation[object]:
    """Create a child run and record that, in one change; it runs whenever a worker takes it up."""
    new = make()
    entry = Entry(Kind.TRIGGER, Phase.DONE, key, new.task, run.clock.now_ms(), digest, new.run_id)
    raw = encode_within_cap(run, entry)
    yield Record(Kind.TRIGGER, Phase.DONE, new.task, key, (raw,), spawn=(new,))
    scope.now_ms = entry.at_ms
    return new.run_id
