"""A storage in front of another one: every call goes through one method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

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

T = TypeVar("T")


class Forward:
    """A `Storage` that hands every call to another one.

    Args:
        storage: the other one.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def through(self, operation: str, call: Callable[[Storage], T]) -> T:
        """Make a call of the storage behind. Override this."""
        del operation
        return call(self._storage)

    def open(self) -> Capabilities:
        """Get ready for use."""
        return self._storage.open()

    def close(self) -> None:
        """Let go of everything."""
        self._storage.close()

    def submit(self, runs: Sequence[NewRun], *, now_ms: int | None = None) -> list[Submitted]:
        """Create runs."""
        return self.through("submit", lambda storage: storage.submit(runs, now_ms=now_ms))

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs."""
        return self.through("claim", lambda storage: storage.claim(grant, want, limit, now_ms=now_ms))

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes."""
        return self.through("commit", lambda storage: storage.commit(commits, now_ms=now_ms))

    def renew(
        self, worker: str, leases: Sequence[Lease], lease_ms: int, *, now_ms: int | None = None
    ) -> list[LeaseState]:
        """Extend leases."""
        return self.through("renew", lambda storage: storage.renew(worker, leases, lease_ms, now_ms=now_ms))

    def send(self, run_id: str, message: Message, *, now_ms: int | None = None) -> Delivery:
        """Deliver a message."""
        return self.through("send", lambda storage: storage.send(run_id, message, now_ms=now_ms))

    def load(self, run_id: str, after: int = 0, limit: int | None = None) -> Snapshot | None:
        """Read a run."""
        return self.through("load", lambda storage: storage.load(run_id, after, limit))

    def wait_for_work(self, want: AnyOf, timeout_s: float) -> None:
        """Wait for a hint."""
        self.through("wait_for_work", lambda storage: storage.wait_for_work(want, timeout_s))

    def wait_for_run(self, run_id: str, revision: int, timeout_s: float) -> RunHeader | None:
        """Wait for a change."""
        return self.through("wait_for_run", lambda storage: storage.wait_for_run(run_id, revision, timeout_s))

    def list_runs(self, query: RunQuery, cursor: str | None = None, limit: int = 100) -> Page:
        """List runs."""
        return self.through("list_runs", lambda storage: storage.list_runs(query, cursor, limit))

    def stats(self) -> Counts:
        """Count runs."""
        return self.through("stats", lambda storage: storage.stats())

    def purge(self, before_ms: int, limit: int = 1000) -> int:
        """Forget finished runs."""
        return self.through("purge", lambda storage: storage.purge(before_ms, limit))

    def get(self, key: str) -> tuple[bytes, int] | None:
        """Read a shared value."""
        return self.through("get", lambda storage: storage.get(key))

    def compare_and_set(self, key: str, revision: int, value: bytes) -> int | None:
        """Write a shared value."""
        return self.through("compare_and_set", lambda storage: storage.compare_and_set(key, revision, value))
