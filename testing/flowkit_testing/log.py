"""A storage that remembers what was asked of it, so that any state it was in can be made again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flowkit.records import (
    AnyOf,
    Capabilities,
    Claimed,
    Commit,
    Counts,
    Delivery,
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

Change = Callable[[Storage], object]


class LoggedStorage:
    """A storage, and the changes that were made to it, in order.

    Args:
        storage: where they are made.
        changes: made at once; the state to begin with.
    """

    def __init__(self, storage: Storage, changes: Sequence[Change] = ()) -> None:
        self._storage = storage
        self._capabilities = storage.open()
        self.changes = list(changes)
        for change in changes:
            change(storage)

    def open(self) -> Capabilities:
        """It is open."""
        return self._capabilities

    def close(self) -> None:
        """Close it."""
        self._storage.close()

    def submit(self, runs: Sequence[NewRun], *, now_ms: int | None = None) -> list[Submitted]:
        """Create runs."""
        self.changes.append(lambda storage: storage.submit(runs, now_ms=now_ms))
        return self._storage.submit(runs, now_ms=now_ms)

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs."""
        claimed = self._storage.claim(grant, want, limit, now_ms=now_ms)
        if claimed.leases:
            self.changes.append(lambda storage: storage.claim(grant, want, limit, now_ms=now_ms))
        return claimed

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes."""
        self.changes.append(lambda storage: storage.commit(commits, now_ms=now_ms))
        return self._storage.commit(commits, now_ms=now_ms)

    def renew(
        self, worker: str, leases: Sequence[Lease], lease_ms: int, *, now_ms: int | None = None
    ) -> list[LeaseState]:
        """Extend leases."""
        self.changes.append(lambda storage: storage.renew(worker, leases, lease_ms, now_ms=now_ms))
        return self._storage.renew(worker, leases, lease_ms, now_ms=now_ms)

    def send(self, run_id: str, message: Message, *, now_ms: int | None = None) -> Delivery:
        """Deliver a message."""
        self.changes.append(lambda storage: storage.send(run_id, message, now_ms=now_ms))
        return self._storage.send(run_id, message, now_ms=now_ms)

    def load(self, run_id: str, after: int = 0, limit: int | None = None) -> Snapshot | None:
        """Read a run."""
        return self._storage.load(run_id, after, limit)

    def wait_for_work(self, want: AnyOf, timeout_s: float) -> None:
        """Wait for a hint."""
        self._storage.wait_for_work(want, timeout_s)

    def wait_for_run(self, run_id: str, revision: int, timeout_s: float) -> RunHeader | None:
        """Wait for a change."""
        return self._storage.wait_for_run(run_id, revision, timeout_s)

    def list_runs(self, query: RunQuery, cursor: str | None = None, limit: int = 100) -> Page:
        """List runs."""
        return self._storage.list_runs(query, cursor, limit)

    def stats(self) -> Counts:
        """Count runs."""
        return self._storage.stats()

    def purge(self, before_ms: int, limit: int = 1000) -> int:
        """Forget finished runs."""
        self.changes.append(lambda storage: storage.purge(before_ms, limit))
        return self._storage.purge(before_ms, limit)

    def get(self, key: str) -> tuple[bytes, int] | None:
        """Read a shared value."""
        return self._storage.get(key)

    def compare_and_set(self, key: str, revision: int, value: bytes) -> int | None:
        """Write a shared value."""
        self.changes.append(lambda storage: storage.compare_and_set(key, revision, value))
        return self._storage.compare_and_set(key, revision, value)
