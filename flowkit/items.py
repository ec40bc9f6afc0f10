"""`emit`: items for whoever follows a run, stored in order in its journal, each once however often its body runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from itertools import count

from flowkit.calls import refuse_foreign_task
from flowkit.codec import Json
from flowkit.drivers import drive
from flowkit.effects import Operation, Post
from flowkit.entries import Entry, Kind, Phase
from flowkit.errors import ConfigurationError, SerializationError
from flowkit.frozen import frozen
from flowkit.lines import Scope
from flowkit.operations import encode_within_cap
from flowkit.run import Frame, Run, current

STEP_ERROR = "step_error"  # how a failed piece of work is stored; what a task emits is stored under the key below
_MARK = "emit:"


class ItemType(StrEnum):
    """What an item tells of."""

    EMIT = "emit"  # something that the task or a step has emitted
    STEP_ERROR = "step_error"  # a piece of side work has failed; its name is the item's, its data says what it raised
    STATUS = "status"  # the run's status has changed; the item's name is the new one


@frozen
class Item:
    """One thing that happened in a run, as whoever follows it sees it."""

    seq: int  # its place in the order; grows, and is the cursor to go on from
    type: ItemType
    name: str
    data: object
    at: datetime  # when it was stored, in UTC


def emit(name: str, data: object = None) -> None:
    """Store an item for whoever follows the run; it does not wait for that.

    A replay does not emit again what it finds stored. Called in a step, an attempt that is made again after a crash
    goes on after what it has emitted before; another attempt emits anew. Outside of a run it does nothing.

    Args:
        name: what the item is about.
        data: anything that a step might return.

    Raises:
        SerializationError: the data cannot be stored.

    Example:
        >>> from flowkit import Flow, emit, task
        >>> @task(id="docs-emit")
        ... def copy(files: list[str]) -> None:
        ...     for done, _ in enumerate(files, 1):
        ...         emit("progress", {"done": done, "of": len(files)})
        >>> with Flow("memory:") as flow:
        ...     handle = flow.start(copy, ["a", "b"])
        ...     for item in handle.items(follow=True):
        ...         print(item.type, item.name, item.data)
        status running None
        emit progress {'done': 1, 'of': 2}
        emit progress {'done': 2, 'of': 2}
        status succeeded None
    """
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"emit({name!r}): its name must be a text that is not empty")
    frame = current.get()
    if frame is None:
        return
    key = _key(frame)
    if key is None or key in frame.run.journal.items:
        return
    drive(frame.run, frame.scope, _emit_operation(frame.run, key, name, data))


def _key(frame: Frame) -> str | None:
    """Where in the run the item belongs; None where nothing may be recorded.

    What is emitted while a body is being unwound, or replayed for a rollback (rule G3), is not: the body will come here
    again, or never goes further.
    """
    run, scope = frame.run, frame.scope
    if run.reason is not None or scope.reason is not None:
        return None
    if frame.step_key is not None:
        prefix = f"{frame.step_key}@{frame.attempt}:{_MARK}"
        return f"{prefix}{next(_numbers(run, prefix))}"
    if not frame.owned_here():
        refuse_foreign_task("emit")
    scope.items += 1
    if run.journal.rollback is not None or scope.saga.rolling_back:
        return None
    return f"{scope.prefix}{_MARK}{scope.items}"


def _numbers(run: Run, prefix: str) -> Iterator[int]:
    """Numbers for one attempt of a step, whose function may have threads of its own."""
    return run.numbers.setdefault(prefix, count(1))


def _emit_operation(run: Run, key: str, name: str, data: object) -> Operation[None]:
    try:
        entry = Entry(Kind.ITEM, Phase.DONE, key, name, run.clock.now_ms(), "", run.codec.to_json(data))
        raw = encode_within_cap(run, entry)
    except SerializationError as error:
        raise SerializationError(f"item {name!r} of run {run.id!r} cannot be stored: {error}") from error
    yield Post(entry.kind, entry.phase, name, key, (raw,))


def report_failed_work(run: Run, scope: Scope, name: str, error: Exception) -> None:
    """One item for each piece of work that failed: a replay finds it recorded (rule W2)."""
    key = f"{scope.prefix}error"
    if key not in run.journal.items:
        drive(run, scope, _report_operation(run, key, name, error))


def _report_operation(run: Run, key: str, name: str, error: Exception) -> Operation[None]:
    data: Json = {"work": name, "error": run.recorded(error)}
    entry = Entry(Kind.ITEM, Phase.DONE, key, STEP_ERROR, run.clock.now_ms(), "", data)
    yield Post(entry.kind, entry.phase, STEP_ERROR, key, (encode_within_cap(run, entry),))


def emitted(entry: Entry) -> bool:
    """True of what `emit` has stored; the other items are flowkit's own."""
    return _MARK in entry.key
