"""The row of a run: what its log adds up to, so that nobody has to read the log.

It is rewritten by whatever changes more than the journal. What the owner appends after that (plain commits) is added
when the row is read, from the last row of the log.
"""

from __future__ import annotations

import json
from enum import IntEnum
from struct import Struct

from attrs import define

from flowkit.records import Lease, Limit, NewRun, RunHeader, RunStatus
from flowkit_disk import keys
from flowkit_disk.failures import reads_rows

INLINE_BYTES = 1024  # inputs and results up to this size lie in the row itself
_SIZES = Struct(">III")
_LIMIT = 27  # where the limit stands in the row
_ELSEWHERE, _NOTHING = 0xFFFFFFFF, 0xFFFFFFFE


class Place(IntEnum):
    """Where a run is. Every unfinished one is claimable, leased, or waiting for something that can come (rule X1)."""

    READY = 0
    LEASED = 1
    WAITING = 2  # for a time, for messages, or to start
    BLOCKED = 3
    FINISHED = 4


@define(eq=False)
class Run:
    """What is stored of one run, except payloads. `number` is the order of creation."""

    run_id: str
    number: int
    lane: int
    task: str
    queue: str
    priority: int
    tags: tuple[str, ...]
    parent: str | None
    created_ms: int
    updated_ms: int
    status: RunStatus = RunStatus.PENDING
    place: Place = Place.READY
    ready_ms: int = 0  # since when it has been ready
    due_ms: int | None = None  # the end of the lease if leased, the wake time if waiting
    inbox_at_least: int | None = None
    owner: str | None = None
    worker: str | None = None
    nth: int = 0  # its place among the leases of its grant
    fence: int = 0
    crashes: int = 0
    cancel: bool = False
    finished_ms: int | None = None
    position: int = 0  # of the last row of its log
    length: int = 0  # of its journal
    last_commit: str | None = None
    inbox: int = 0
    floor: int = 0  # messages at this position of the log or before it are not in the inbox any more
    limit: Limit | None = None
    input: bytes | None = None  # None: in a row of its own
    has_result: bool = False
    result: bytes | None = None  # None: in a row of its own

    def rank(self, since_ms: int) -> str:
        """Its key among ready runs."""
        return keys.ready_at(self.lane, self.priority, since_ms, self.number)

    def lease(self) -> Lease:
        """The lease that its owner holds."""
        return Lease(self.run_id, self.owner or "", self.fence, self.crashes)

    def header(self) -> RunHeader:
        """What is told of it without payloads."""
        return RunHeader(
            run_id=self.run_id,
            task=self.task,
            status=self.status,
            queue=self.queue,
            priority=self.priority,
            tags=self.tags,
            parent=self.parent,
            created_at_ms=self.created_ms,
            updated_at_ms=self.updated_ms,
            finished_at_ms=self.finished_ms,
            wake_at_ms=self.due_ms if self.place is Place.WAITING else None,
            length=self.length,
            inbox=self.inbox,
            crashes=self.crashes,
            cancel=self.cancel,
            worker=self.worker,
            revision=self.position + 1,
            limit=self.limit,
        )


def new_run(new: NewRun, number: int, lane: int, now_ms: int) -> Run:
    """A run that is about to be stored."""
    return Run(
        run_id=new.run_id,
        number=number,
        lane=lane,
        task=new.task,
        queue=new.queue,
        priority=new.priority,
        tags=new.tags,
        parent=new.parent,
        created_ms=now_ms,
        updated_ms=now_ms,
        ready_ms=now_ms,
        limit=new.limit,
    )


def pack_run(run: Run) -> bytes:
    """The row of a run."""
    fields = [
        run.run_id,
        run.number,
        run.lane,
        run.task,
        run.queue,
        run.priority,
        run.tags,
        run.parent,
        run.created_ms,
        run.updated_ms,
        run.status,
        run.place,
        run.ready_ms,
        run.due_ms,
        run.inbox_at_least,
        run.owner,
        run.worker,
        run.nth,
        run.fence,
        run.crashes,
        run.cancel,
        run.finished_ms,
        run.position,
        run.length,
        run.last_commit,
        run.inbox,
        run.floor,
        None if run.limit is None else (run.limit.places, run.limit.key),
    ]
    text = json.dumps(fields, separators=(",", ":")).encode()
    given, result = run.input, run.result
    input_size = _ELSEWHERE if given is None else len(given)
    result_size = (_ELSEWHERE if result is None else len(result)) if run.has_result else _NOTHING
    return b"".join((_SIZES.pack(len(text), input_size, result_size), text, given or b"", result or b""))


@reads_rows
def unpack_run(data: bytes) -> Run:
    """What `pack_run` made.

    Raises:
        StorageError: if the bytes were made by something else.
    """
    text_size, input_size, result_size = _SIZES.unpack_from(data)
    start = _SIZES.size + text_size
    fields = json.loads(data[_SIZES.size : start])
    fields[6] = tuple(fields[6])
    fields[10] = RunStatus(fields[10])
    fields[11] = Place(fields[11])
    if len(fields) > _LIMIT and fields[_LIMIT] is not None:  # rows of older versions end before it
        fields[_LIMIT] = Limit(*fields[_LIMIT])
    run = Run(*fields)
    if input_size != _ELSEWHERE:
        run.input = data[start : start + input_size]
        start += input_size
    run.has_result = result_size != _NOTHING
    if result_size < _NOTHING:
        run.result = data[start : start + result_size]
    return run


def add_tail(run: Run, position: int, length: int, at_ms: int, commit_id: str) -> None:
    """Add what the owner appended after the row was written. Entries end a row of crashes (rule R4)."""
    run.position, run.length, run.updated_ms, run.last_commit = position, length, at_ms, commit_id
    run.crashes = 0
