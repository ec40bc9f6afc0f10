"""One stored run, as the memory storage keeps it: the only mutable record of the library."""

from __future__ import annotations

from enum import Enum, auto

from attrs import define, field

from flowkit.memory.order import Shelf
from flowkit.records import Lease, Message, NewRun, RunHeader, RunStatus, Snapshot


class Place(Enum):
    """Where a run is. Every unfinished one is claimable, leased, or waiting for something that can come (rule X1)."""

    READY = auto()
    LEASED = auto()
    WAITING = auto()  # for a time, for messages, or to start
    BLOCKED = auto()
    FINISHED = auto()


@define(eq=False)
class Lane:
    """The runs of one task in one queue: those that a claim may take, and those that will come due."""

    ready: Shelf[Run] = field(factory=Shelf)  # also timers and leases that a claim has found due
    due: Shelf[Run] = field(factory=Shelf)  # timers and leases
    ready_count: int = 0  # runs whose place is READY
    timers_set: int = 0  # grows, so that an idle worker looks again


@define(eq=False)
class Run:
    """What is stored of one run."""

    new: NewRun
    seq: int  # the order of creation
    lane: Lane
    created_ms: int
    updated_ms: int
    entries: list[bytes]
    status: RunStatus = RunStatus.PENDING
    place: Place = Place.READY
    inbox: dict[str, Message] = field(factory=dict)
    received: dict[str, None] = field(factory=dict)  # message ids, consumed ones too
    owner: str | None = None
    worker: str | None = None
    fence: int = 0
    crashes: int = 0
    cancel: bool = False
    due_ms: int | None = None  # the end of the lease if leased, the wake time if waiting
    inbox_at_least: int | None = None
    result: bytes | None = None
    finished_ms: int | None = None
    last_commit: str | None = None
    revision: int = 1

    def rank(self, since_ms: int) -> tuple[int, int, int]:
        """Its place among ready runs: highest priority, then longest ready, then oldest."""
        return (-self.new.priority, since_ms, self.seq)

    def lease(self, owner: str) -> Lease:
        """The lease that its owner holds."""
        return Lease(self.new.run_id, owner, self.fence, self.crashes)

    def header(self) -> RunHeader:
        """What is told of it without payloads."""
        new = self.new
        return RunHeader(
            run_id=new.run_id,
            task=new.task,
            status=self.status,
            queue=new.queue,
            priority=new.priority,
            tags=new.tags,
            parent=new.parent,
            created_at_ms=self.created_ms,
            updated_at_ms=self.updated_ms,
            finished_at_ms=self.finished_ms,
            wake_at_ms=self.due_ms if self.place is Place.WAITING else None,
            length=len(self.entries),
            inbox=len(self.inbox),
            crashes=self.crashes,
            cancel=self.cancel,
            worker=self.worker,
            revision=self.revision,
        )

    def snapshot(self, after: int, limit: int | None, now_ms: int) -> Snapshot:
        """All of it, with the journal entries of one page."""
        end = None if limit is None else after + limit
        return Snapshot(
            header=self.header(),
            input=self.new.input,
            result=self.result,
            entries=tuple(self.entries[after:end]),
            inbox=tuple(self.inbox.values()),
            now_ms=now_ms,
        )
