"""The memory storage against a model that knows no heaps, indexes or counters: it looks through all runs every time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from attrs import define, evolve, field
from hypothesis import settings

from flowkit.memory import MemoryStorage
from flowkit.records import (
    AnyOf,
    Block,
    Capabilities,
    Claimed,
    Commit,
    Counts,
    Created,
    Delivery,
    Done,
    Durability,
    Exists,
    Fenced,
    Finish,
    Gap,
    Go,
    Grant,
    Lease,
    LeaseState,
    Message,
    MessageKind,
    Missing,
    NewRun,
    Page,
    QueueCount,
    RunHeader,
    RunQuery,
    RunStatus,
    Snapshot,
    Submitted,
    Suspend,
    Verdict,
    Want,
)
from flowkit_testing.machine import storage_machine


@define(eq=False)
class Row:
    """One run of the model. Where it is follows from what is set, and is kept nowhere."""

    new: NewRun
    number: int
    header: RunHeader
    entries: list[bytes]
    lease: Lease | None = None
    lease_until: int = 0
    ready_since: int | None = None
    enough: int | None = None
    result: bytes | None = None
    inbox: list[Message] = field(factory=list)
    received: set[str] = field(factory=set)
    last_commit: str = ""
    fence: int = 0
    granted: int = 0

    def claimable_since(self, now: int) -> int | None:
        """Since when anyone may take it; None if nobody may."""
        if self.lease is not None:
            return self.lease_until if self.lease_until <= now else None
        if self.header.wake_at_ms is not None:
            return self.header.wake_at_ms if self.header.wake_at_ms <= now else None
        return self.ready_since

    def change(self, now: int, status: RunStatus | None = None) -> None:
        """Something has happened."""
        if status is not None:
            self.header = evolve(self.header, status=status)
        self.header = evolve(self.header, updated_at_ms=now, revision=self.header.revision + 1)

    def rest(self, now: int, status: RunStatus, *, ready: bool = False, wake: int | None = None) -> None:
        """Without an owner: in line, asleep, parked, or over."""
        kept = self.header.status is RunStatus.COMPENSATING and status in (RunStatus.PENDING, RunStatus.WAITING)
        self.lease = None
        self.enough = None
        self.ready_since = now if ready else None
        self.header = evolve(self.header, wake_at_ms=wake, worker=None)
        self.change(now, None if kept else status)

    def held(self) -> Lease:
        """Its lease, with the crashes as they are now."""
        assert self.lease is not None
        return evolve(self.lease, crashes=self.header.crashes)

    def told(self) -> RunHeader:
        """Its header, counts included."""
        return evolve(self.header, length=len(self.entries), inbox=len(self.inbox))


class Model:
    """The protocol in the plainest words."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.created = 0
        self.granted = 0
        self.values: dict[str, tuple[bytes, int]] = {}

    def open(self) -> Capabilities:
        """Nothing to do."""
        return Capabilities(Durability.MEMORY, 1 << 20)

    def close(self) -> None:
        """Nothing to do."""

    def submit(self, runs: Sequence[NewRun], *, now_ms: int | None = None) -> list[Submitted]:
        """One after the other."""
        assert now_ms is not None
        return [self._submit(new, now_ms) for new in runs]

    def _submit(self, new: NewRun, now: int) -> Submitted:
        row = self.rows.get(new.run_id)
        if row is not None:
            if new.grant and row.lease and row.lease.owner == new.grant.token:
                return Created(row.held(), now)
            return Exists(row.told(), now)
        self.created += 1
        delayed = new.start_at_ms is not None and new.start_at_ms > now and new.grant is None
        header = RunHeader(
            new.run_id, new.task, RunStatus.PENDING, new.queue, new.priority, new.tags, new.parent,
            created_at_ms=now, updated_at_ms=now, finished_at_ms=None, wake_at_ms=new.start_at_ms if delayed else None,
            length=0, inbox=0, crashes=0, cancel=False, worker=None, revision=1, limit=new.limit,
        )  # fmt: skip
        row = self.rows[new.run_id] = Row(new, self.created, header, list(new.entries))
        row.ready_since = None if delayed else now
        return Created(self._take(row, new.grant, now) if new.grant and self._has_room(row, now) else None, now)

    def _has_room(self, row: Row, now: int) -> bool:
        same = [other for other in self.rows.values() if _crowd(other) == _crowd(row)]
        taken = sum(other.lease is not None and other.lease_until > now for other in same)
        return row.new.limit is None or taken < row.new.limit.places

    def _take(self, row: Row, grant: Grant, now: int) -> Lease:
        crashes = row.header.crashes + (row.lease is not None)
        compensating = row.header.status is RunStatus.COMPENSATING
        row.fence += 1
        row.lease = Lease(row.new.run_id, grant.token, row.fence, crashes)
        row.lease_until = now + grant.lease_ms
        self.granted += 1
        row.granted = self.granted
        row.ready_since = row.enough = None
        row.header = evolve(row.header, worker=grant.worker, crashes=crashes, wake_at_ms=None)
        row.change(now, None if compensating else RunStatus.RUNNING)
        return row.lease

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Sort everything that is wanted, and take from the front."""
        assert now_ms is not None
        wanted = [row for row in self.rows.values() if _wanted(row, want)]
        mine = self.rows.values() if isinstance(want, AnyOf) else wanted
        held = [row for row in mine if row.lease and row.lease.owner == grant.token]
        leases = [row.held() for row in sorted(held, key=lambda row: row.granted)]
        if not leases:
            line = [row for row in wanted if row.claimable_since(now_ms) is not None]
            line.sort(key=lambda row: (-row.new.priority, row.claimable_since(now_ms), row.number))
            leases = self._first(line, grant, limit, now_ms)
        due = [row.lease_until if row.lease else row.header.wake_at_ms for row in wanted]
        later = [moment for moment in due if moment is not None and moment > now_ms]
        return Claimed(tuple(leases), min(later, default=None), now_ms)

    def _first(self, line: list[Row], grant: Grant, limit: int, now: int) -> list[Lease]:
        leases: list[Lease] = []
        full = set()  # the crowds whose first has no room
        for row in line:
            if len(leases) < limit and _crowd(row) not in full:
                if self._has_room(row, now):
                    leases.append(self._take(row, grant, now))
                else:
                    full.add(_crowd(row))
        return leases

    def renew(
        self, worker: str, leases: Sequence[Lease], lease_ms: int, *, now_ms: int | None = None
    ) -> list[LeaseState]:
        """Held is held."""
        assert now_ms is not None
        del worker
        states = []
        for lease in leases:
            row = self.rows.get(lease.run_id)
            if row is None or not _owns(row, lease.owner, lease.fence):
                states.append(LeaseState(held=False))
                continue
            row.lease_until = now_ms + lease_ms
            states.append(LeaseState(held=True, cancel=row.header.cancel, inbox=len(row.inbox)))
        return states

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """One after the other."""
        assert now_ms is not None
        return [self._commit(commit, now_ms) for commit in commits]

    def _commit(self, commit: Commit, now: int) -> Verdict:
        row = self.rows.get(commit.run_id)
        if row is None:
            return Missing()
        if row.last_commit != commit.commit_id:
            if not _owns(row, commit.owner, commit.fence):
                return Fenced()
            if len(row.entries) != commit.base:
                return Gap(len(row.entries))
            self._apply(row, commit, now)
        return Done(len(row.entries), row.header.cancel, len(row.inbox), now)

    def _apply(self, row: Row, commit: Commit, now: int) -> None:
        row.last_commit = commit.commit_id
        row.entries += commit.entries
        row.header = evolve(row.header, crashes=0 if commit.entries else row.header.crashes)
        row.inbox = [message for message in row.inbox if message.id not in commit.consume]
        row.received |= set(commit.consume)
        self.submit([new for new in commit.spawn if new.run_id not in self.rows], now_ms=now)
        for send in commit.send:
            self.send(send.run_id, send.message, now_ms=now)
        match commit.then:
            case Go(status=status):
                row.change(now, status)
            case Suspend(wake_at_ms=wake, inbox_at_least=enough):
                over = wake is not None and wake <= now
                if row.header.cancel or over or (enough is not None and len(row.inbox) >= enough):
                    row.rest(now, RunStatus.PENDING, ready=True)
                else:
                    row.rest(now, RunStatus.WAITING, wake=wake)
                    row.enough = enough
            case Block(reason=reason) if not row.header.cancel:
                row.rest(now, RunStatus.BLOCKED)
                row.result = reason
            case Finish(status=status, result=result):
                row.rest(now, status)
                row.result = result
                row.inbox = []
                row.header = evolve(row.header, finished_at_ms=now)
            case _:
                row.rest(now, RunStatus.PENDING, ready=True)

    def send(self, run_id: str, message: Message, *, now_ms: int | None = None) -> Delivery:
        """Known, closed, or taken in."""
        assert now_ms is not None
        row = self.rows.get(run_id)
        if row is None:
            return Delivery.MISSING
        if message.id in row.received:
            return Delivery.DUPLICATE
        over = row.header.status.finished
        reopening = message.kind is MessageKind.REOPEN
        if over if not reopening else row.header.status not in (RunStatus.FAILED, RunStatus.BLOCKED):
            return Delivery.CLOSED
        row.received.add(message.id)
        if message.kind is MessageKind.CANCEL:
            row.header = evolve(row.header, cancel=True)
        else:
            row.inbox.append(message)
        if reopening:
            row.header = evolve(row.header, cancel=False, crashes=0, finished_at_ms=None)
        idle = row.lease is None and row.ready_since is None
        enough = row.enough is not None and len(row.inbox) >= row.enough
        if idle and (reopening or enough or message.kind is MessageKind.CANCEL):
            row.result = None
            row.rest(now_ms, RunStatus.PENDING, ready=True)
        else:
            row.change(now_ms)
        return Delivery.DELIVERED

    def load(self, run_id: str, after: int = 0, limit: int | None = None) -> Snapshot | None:
        """A slice."""
        row = self.rows.get(run_id)
        if row is None:
            return None
        entries = row.entries[after:] if limit is None else row.entries[after : after + limit]
        return Snapshot(row.told(), row.new.input, row.result, tuple(entries), tuple(row.inbox), 0)

    def wait_for_work(self, want: AnyOf, timeout_s: float) -> None:
        """Nobody waits here."""

    def wait_for_run(self, run_id: str, revision: int, timeout_s: float) -> RunHeader | None:
        """Nobody waits here."""
        del revision, timeout_s
        return self.rows[run_id].told() if run_id in self.rows else None

    def list_runs(self, query: RunQuery, cursor: str | None = None, limit: int = 100) -> Page:
        """The numbers below the cursor."""
        rows = [row for row in self.rows.values() if cursor is None or row.number < int(cursor)]
        rows = [row for row in rows if query.status in (None, row.header.status)]
        rows = [row for row in rows if query.task in (None, row.new.task)]
        rows = [row for row in rows if query.tag is None or query.tag in row.new.tags]
        rows.sort(key=lambda row: -row.number)
        more = str(rows[limit - 1].number) if len(rows) > limit else None
        return Page(tuple(row.told() for row in rows[:limit]), more)

    def stats(self) -> Counts:
        """Count them all."""
        ready = Counter((row.new.queue, row.new.task) for row in self.rows.values() if row.ready_since is not None)
        by_status = Counter(row.header.status for row in self.rows.values())
        leased = Counter((row.new.queue, row.new.task) for row in self.rows.values() if row.lease is not None)
        lanes = sorted(ready.keys() | leased.keys())
        return Counts(dict(by_status), tuple(QueueCount(*lane, ready[lane], leased[lane]) for lane in lanes))

    def purge(self, before_ms: int, limit: int = 1000) -> int:
        """The ones that ended first."""
        over = [(row.header.finished_at_ms, row.number, row.new.run_id) for row in self.rows.values()
                if row.header.finished_at_ms is not None and row.header.finished_at_ms < before_ms]  # fmt: skip
        for *_, run_id in sorted(over)[:limit]:
            del self.rows[run_id]
        return len(over[:limit])

    def get(self, key: str) -> tuple[bytes, int] | None:
        """As it is."""
        return self.values.get(key)

    def compare_and_set(self, key: str, revision: int, value: bytes) -> int | None:
        """If it is the right one."""
        if self.values.get(key, (b"", 0))[1] != revision:
            return None
        self.values[key] = (value, revision + 1)
        return revision + 1


def _wanted(row: Row, want: Want) -> bool:
    if isinstance(want, AnyOf):
        return row.new.task in want.tasks and row.new.queue in want.queues
    return row.new.run_id == want.run_id


def _crowd(row: Row) -> tuple[str, str, str | None]:
    return row.new.queue, row.new.task, None if row.new.limit is None else row.new.limit.key


def _owns(row: Row, owner: str, fence: int) -> bool:
    return row.lease is not None and (row.lease.owner, row.lease.fence) == (owner, fence)


TestMemoryAgainstTheModel = storage_machine(MemoryStorage, oracle=Model).TestCase
TestMemoryAgainstTheModel.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
