"""A part of a shared storage that looks like an empty storage of its own.

Opening a storage on disk takes longer than a run does. An exploration opens one, and gives each of its trials such a
part: ids of runs, queues and owners get a prefix on their way in and lose it on their way out. Nothing of one part is
seen by claims of another, since their queues are others (rule X4).
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from flowkit.records import (
    AnyOf,
    Capabilities,
    Claimed,
    Commit,
    Created,
    Delivery,
    Exactly,
    Exists,
    Grant,
    Lease,
    LeaseState,
    Message,
    NewRun,
    Page,
    RunHeader,
    RunQuery,
    Snapshot,
    Submitted,
    Verdict,
    Want,
)
from flowkit.storage import Storage
from flowkit_testing.forward import Forward

_WORKER = "exploration"  # one for all: each costs a storage on disk a lock file


class Namespace(Forward):
    """The runs of one trial in a storage that has those of others too.

    Args:
        storage: the shared one; it is opened and closed by whoever made it.
        prefix: of all ids in this part; no other part has it.
        capabilities: what opening the storage has told.
    """

    def __init__(self, storage: Storage, prefix: str, capabilities: Capabilities) -> None:
        super().__init__(storage)
        self._prefix = prefix
        self._capabilities = capabilities
        self._run_ids: dict[str, None] = {}

    def open(self) -> Capabilities:
        """It is open."""
        return self._capabilities

    def close(self) -> None:
        """The storage stays open for the other parts."""

    def submit(self, runs: Sequence[NewRun], *, now_ms: int | None = None) -> list[Submitted]:
        """Create runs."""
        answers = self._storage.submit([self._new(new) for new in runs], now_ms=now_ms)
        return [self._submitted(answer) for answer in answers]

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs."""
        wanted: Want
        if isinstance(want, Exactly):
            wanted = Exactly(self._in(want.run_id))
        else:
            wanted = AnyOf(want.tasks, tuple(map(self._in, want.queues)))
        claimed = self._storage.claim(self._grant(grant), wanted, limit, now_ms=now_ms)
        return evolve(claimed, leases=tuple(map(self._lease_out, claimed.leases)))

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes."""
        return self._storage.commit([self._commit(commit) for commit in commits], now_ms=now_ms)

    def renew(
        self, worker: str, leases: Sequence[Lease], lease_ms: int, *, now_ms: int | None = None
    ) -> list[LeaseState]:
        """Extend leases."""
        del worker
        return self._storage.renew(_WORKER, list(map(self._lease_in, leases)), lease_ms, now_ms=now_ms)

    def send(self, run_id: str, message: Message, *, now_ms: int | None = None) -> Delivery:
        """Deliver a message."""
        return self._storage.send(self._in(run_id), message, now_ms=now_ms)

    def load(self, run_id: str, after: int = 0, limit: int | None = None) -> Snapshot | None:
        """Read a run."""
        snapshot = self._storage.load(self._in(run_id), after, limit)
        return None if snapshot is None else evolve(snapshot, header=self._header(snapshot.header))

    def wait_for_work(self, want: AnyOf, timeout_s: float) -> None:
        """Wait for a hint."""
        self._storage.wait_for_work(AnyOf(want.tasks, tuple(map(self._in, want.queues))), timeout_s)

    def wait_for_run(self, run_id: str, revision: int, timeout_s: float) -> RunHeader | None:
        """Wait for a change."""
        header = self._storage.wait_for_run(self._in(run_id), revision, timeout_s)
        return None if header is None else self._header(header)

    def list_runs(self, query: RunQuery, cursor: str | None = None, limit: int = 100) -> Page:
        """All runs of this part, on one page."""
        del cursor, limit
        found = [snapshot.header for run_id in self._run_ids if (snapshot := self.load(run_id, 0, 0)) is not None]
        wanted = [
            header
            for header in reversed(found)
            if query.status in {None, header.status}
            and query.task in {None, header.task}
            and (query.tag is None or query.tag in header.tags)
        ]
        return Page(tuple(wanted), None)

    def get(self, key: str) -> tuple[bytes, int] | None:
        """Read a shared value."""
        return self._storage.get(self._in(key))

    def compare_and_set(self, key: str, revision: int, value: bytes) -> int | None:
        """Write a shared value."""
        return self._storage.compare_and_set(self._in(key), revision, value)

    # ---- the prefix -------------------------------------------------------------------------------------------

    def _in(self, name: str) -> str:
        return self._prefix + name

    def _out(self, name: str) -> str:
        return name.removeprefix(self._prefix)

    def _grant(self, grant: Grant) -> Grant:
        return Grant(_WORKER, self._in(grant.token), grant.lease_ms)

    def _new(self, new: NewRun) -> NewRun:
        self._run_ids[new.run_id] = None
        return evolve(
            new,
            run_id=self._in(new.run_id),
            queue=self._in(new.queue),
            parent=None if new.parent is None else self._in(new.parent),
            grant=None if new.grant is None else self._grant(new.grant),
        )

    def _submitted(self, answer: Submitted) -> Submitted:
        match answer:
            case Created(lease=lease):
                return evolve(answer, lease=None if lease is None else self._lease_out(lease))
            case Exists(header=header):
                return evolve(answer, header=self._header(header))

    def _commit(self, commit: Commit) -> Commit:
        return evolve(
            commit,
            run_id=self._in(commit.run_id),
            owner=self._in(commit.owner),
            spawn=tuple(map(self._new, commit.spawn)),
            send=tuple(evolve(send, run_id=self._in(send.run_id)) for send in commit.send),
        )

    def _lease_in(self, lease: Lease) -> Lease:
        return evolve(lease, run_id=self._in(lease.run_id), owner=self._in(lease.owner))

    def _lease_out(self, lease: Lease) -> Lease:
        return evolve(lease, run_id=self._out(lease.run_id), owner=self._out(lease.owner))

    def _header(self, header: RunHeader) -> RunHeader:
        return evolve(
            header,
            run_id=self._out(header.run_id),
            queue=self._out(header.queue),
            parent=None if header.parent is None else self._out(header.parent),
        )
