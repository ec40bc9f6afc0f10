"""Runs as lines of JSON, and back: to move them from one storage to another, or to look at them elsewhere.

A line holds all that a storage tells of one run: what it was started with, its journal, its inbox, its outcome. What a
storage keeps to itself does not move: when the run was created, and which messages it has received and done with.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from attrs import frozen

from flowkit.errors import StorageError
from flowkit.records import (
    Block,
    Commit,
    Created,
    Done,
    Finish,
    Grant,
    Lease,
    Limit,
    Message,
    MessageKind,
    NewRun,
    RunQuery,
    RunStatus,
    Snapshot,
    Suspend,
    Then,
    Yield,
)
from flowkit.storage import Storage

FORMAT: Final = 1
LEASE_MS: Final = 600_000  # nobody is to take up a run that is half imported
PAGE: Final = 500

Document = dict[str, Any]  # JSON


@frozen
class Exported:
    """One run, as a line; or why there is none."""

    run_id: str
    line: str | None  # None: a worker is advancing it


def export_runs(storage: Storage, query: RunQuery) -> Iterator[Exported]:
    """All runs that match, oldest first, each as it is at one moment.

    A run that a worker holds is told without its line: it would go on in both places.
    """
    for run_id in reversed(list(_ids(storage, query))):
        snapshot = storage.load(run_id)
        if snapshot is not None:
            yield Exported(run_id, line_of(snapshot) if snapshot.header.worker is None else None)


def _ids(storage: Storage, query: RunQuery) -> Iterator[str]:
    cursor: str | None = None
    while True:
        page = storage.list_runs(query, cursor, PAGE)
        yield from (header.run_id for header in page.headers)
        cursor = page.cursor
        if cursor is None:
            return


def line_of(snapshot: Snapshot) -> str:
    """One run as a line of JSON."""
    header = snapshot.header
    document: Document = {
        "format": FORMAT,
        "id": header.run_id,
        "task": header.task,
        "status": str(header.status),
        "queue": header.queue,
        "priority": header.priority,
        "tags": list(header.tags),
        "parent": header.parent,
        "limit": None if header.limit is None else {"places": header.limit.places, "key": header.limit.key},
        "created_at_ms": header.created_at_ms,
        "finished_at_ms": header.finished_at_ms,
        "wake_at_ms": header.wake_at_ms,
        "cancel": header.cancel,
        "input": _text(snapshot.input),
        "entries": [_text(entry) for entry in snapshot.entries],
        "inbox": [
            {"id": each.id, "kind": str(each.kind), "name": each.name, "payload": _text(each.payload)}
            for each in snapshot.inbox
        ],
        "result": None if snapshot.result is None else _text(snapshot.result),
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def import_run(storage: Storage, line: str) -> str | None:
    """Create the run of a line; None if its id is taken, by a run that is left as it is.

    An import that broke off may be made again: what is there already is completed, and nothing is done twice.

    Raises:
        StorageError: the line is no exported run, is damaged, or of a newer version; or the storage refused it.
    """
    read = _read(line)
    (answer,) = storage.submit([read.new])
    if not isinstance(answer, Created):
        return None
    _deliver(storage, read, reopening=False)
    if answer.lease is not None:  # else its limit has no room: it was born ready
        _let_go(storage, read, answer.lease)
        _deliver(storage, read, reopening=True)
    return read.new.run_id


@frozen
class _Read:
    """A line, understood."""

    new: NewRun
    inbox: tuple[Message, ...]
    cancel: bool
    then: Then  # how the run is let go of


def _read(line: str) -> _Read:
    document = _document(line)
    try:
        new, inbox, then = _new_run(document), tuple(_messages(document)), _end(document)
        _check(new)
        return _Read(new, inbox, bool(document["cancel"]), then)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise StorageError(
            f"run {document.get('id')!r} is damaged in this export ({what}): export it again, or leave its line out"
        ) from error


def _check(new: NewRun) -> None:
    texts = (new.run_id, new.task, new.queue, *new.tags, *(() if new.parent is None else (new.parent,)))
    if not all(isinstance(text, str) and text for text in texts):
        raise TypeError(f"one of {texts} is no name")
    if type(new.priority) is not int:
        raise TypeError(f"priority {new.priority!r} is no number")


def _let_go(storage: Storage, read: _Read, lease: Lease) -> None:
    length = len(read.new.entries)
    commit = Commit(lease.run_id, lease.owner, lease.fence, f"import-{lease.run_id}", length, then=read.then)
    (verdict,) = storage.commit([commit])
    if not isinstance(verdict, Done):
        raise StorageError(f"run {lease.run_id!r} was taken by someone else while it was imported: {verdict}")


def _deliver(storage: Storage, read: _Read, *, reopening: bool) -> None:
    """Send what lay in the inbox; a request to reopen the run only when it can be reopened."""
    run_id = read.new.run_id
    for message in read.inbox:
        if (message.kind is MessageKind.REOPEN) is reopening:
            storage.send(run_id, message)
    if read.cancel and not reopening:
        storage.send(run_id, Message(f"import-cancel-{run_id}", MessageKind.CANCEL))


def _messages(document: Document) -> Iterator[Message]:
    for each in document["inbox"]:
        yield Message(each["id"], MessageKind(each["kind"]), each["name"], _bytes(each["payload"]))


def _new_run(document: Document) -> NewRun:
    limit = None if RunStatus(document["status"]).finished else document["limit"]  # it holds no place any more
    return NewRun(
        run_id=document["id"],
        task=document["task"],
        input=_bytes(document["input"]),
        queue=document["queue"],
        priority=document["priority"],
        tags=tuple(document["tags"]),
        parent=document["parent"],
        entries=tuple(_bytes(entry) for entry in document["entries"]),
        grant=Grant("import", f"import-{document['id']}", LEASE_MS),
        limit=None if limit is None else Limit(limit["places"], limit["key"]),
    )


def _end(document: Document) -> Then:
    """How the run is let go of: as it was. What waits for messages looks at them anew."""
    status = RunStatus(document["status"])
    result = b"" if document["result"] is None else _bytes(document["result"])
    if any(each["kind"] == MessageKind.REOPEN for each in document["inbox"]):
        return Block(b"")  # it was reopened, and will be again
    if status.finished:
        return Finish(status, result)
    if status is RunStatus.BLOCKED:
        return Block(result)
    if document["wake_at_ms"] is not None and not document["entries"]:
        return Suspend(wake_at_ms=document["wake_at_ms"])  # it has not begun
    return Yield()  # its replay finds out what it waits for


def _document(line: str) -> Document:
    try:
        document = json.loads(line)
    except ValueError as error:
        raise StorageError(f"this is no line of `flowkit runs export`: {line[:60]!r}") from error
    if not isinstance(document, Mapping) or "format" not in document:
        raise StorageError(f"this is no line of `flowkit runs export`: {line[:60]!r}")
    if document["format"] != FORMAT:
        raise StorageError(
            f"run {document.get('id')!r} was exported in format {document['format']!r}; this version of flowkit reads "
            f"{FORMAT}: update flowkit here"
        )
    return dict(document)


def _text(payload: bytes) -> str | dict[str, str]:
    """Payloads are JSON mostly, so they stay readable; others are wrapped."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(payload).decode("ascii")}


def _bytes(text: str | Mapping[str, str]) -> bytes:
    return text.encode() if isinstance(text, str) else base64.b64decode(text["base64"], validate=True)
