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
class Crowd:
    """The runs of a lane whose limits have one key: those that hold a place, and those that wait for one."""

    holding: Shelf[Run] = field(factory=Shelf)  # by the end of the lease; what has ended is taken out before counting
    offered: Shelf[Run] = field(factory=Shelf)  # ready, or found due by a claim
    shown: Run | None = None  # the one among the ready of the lane

    def taken(self, now_ms: int) -> int:
        """How many places are taken now."""
        while (first := self.holding.first()) is not None and first[0][0] <= now_ms:
            self.holding.discard(first[1])
        return len(self.holding)


@define(eq=False)
class Lane:
    """The runs of one task in one queue: those that a claim may take, and those that will come due."""

    ready: Shelf[Run] = field(factory=Shelf)  # also timers and leases that a claim has found due
    due: Shelf[Run] = field(factory=Shelf)  # timers and leases
    crowds: dict[str, Crowd] = field(factory=dict)  # by the key of the limit
    ready_count: int = 0  # runs whose place is READY
    leased_count: int = 0  # and LEASED
    timers_set: int = 0  # grows, so that an idle worker looks again
    timers_told: int = 0  # how many of them a claim has known

    def has_room(self, run: Run, now_ms: int) -> bool:
        """Whether the run's limit lets it be leased."""
        limit = run.new.limit
        crowd = None if limit is None else self.crowds.get(limit.key)
        return limit is None or crowd is None or crowd.taken(now_ms) < limit.places

    def offer(self, run: Run, since_ms: int, now_ms: int) -> None:
        """Let claims find the run, as soon as its limit allows."""
        if run.new.limit is None:
            self.ready.put(run, run.rank(since_ms))
            return
        crowd = self.crowds.setdefault(run.new.limit.key, Crowd())
        crowd.offered.put(run, run.rank(since_ms))
        self._settle(run.new.limit.key, crowd, now_ms)

    def hold(self, run: Run, until_ms: int, now_ms: int) -> None:
        """The run is leased until then."""
        self.due.put(run, (until_ms, run.seq))
        if run.new.limit is None:
            self.ready.discard(run)
            return
        crowd = self.crowds.setdefault(run.new.limit.key, Crowd())
        crowd.offered.discard(run)
        crowd.holding.put(run, (until_ms, run.seq))
        self._settle(run.new.limit.key, crowd, now_ms)

    def withdraw(self, run: Run, now_ms: int) -> None:
        """Nobody is to find the run, nor does it hold a place."""
        self.due.discard(run)
        if run.new.limit is None:
            self.ready.discard(run)
        elif (crowd := self.crowds.get(run.new.limit.key)) is not None:
            crowd.offered.discard(run)
            crowd.holding.discard(run)
            self._settle(run.new.limit.key, crowd, now_ms)

    def _settle(self, key: str, crowd: Crowd, now_ms: int) -> None:
        """Show the first of those that wait to claims, if it has room; the others stand behind it (rule X4)."""
        taken, first = crowd.taken(now_ms), crowd.offered.first()
        if first is not None and (limit := first[1].new.limit) is not None and taken >= limit.places:
            first = None
        if crowd.shown is not None and (first is None or first[1] is not crowd.shown):
            self.ready.discard(crowd.shown)
            crowd.shown = None
        if first is not None and crowd.shown is None:
            rank, crowd.shown = first
            self.ready.put(crowd.shown, rank)
        if not crowd.offered and not taken:
            del self.crowds[key]


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
            limit=new.limit,
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
