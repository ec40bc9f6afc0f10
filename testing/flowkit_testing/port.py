"""A storage as one pretended process sees it: its calls can fail, and end for good when the process dies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from flowkit.records import (
    AnyOf,
    Capabilities,
    Claimed,
    Commit,
    Counts,
    Created,
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
from flowkit_testing.fake_clock import FakeClock
from flowkit_testing.ledger import Ledger

_T = TypeVar("_T")


class Line(Protocol):
    """What stands between a process and the storage."""

    def ask(self, operation: str, perform: Callable[[], _T]) -> _T:
        """Perform a call of the storage; may raise before or after it."""


class Port:
    """The `Storage` of one process. Closing it leaves the storage behind it open."""

    def __init__(self, storage: Storage, clock: FakeClock, ledger: Ledger, line: Line) -> None:
        self._storage = storage
        self._clock = clock
        self._ledger = ledger
        self._line = line

    def open(self) -> Capabilities:
        """Get ready for use."""
        return self._storage.open()

    def close(self) -> None:
        """Others use the storage too."""

    def submit(self, runs: Sequence[NewRun], *, now_ms: int | None = None) -> list[Submitted]:
        """Create runs."""
        answers = self._line.ask("submit", lambda: self._storage.submit(runs, now_ms=now_ms))
        for answer in answers:
            if isinstance(answer, Created) and answer.lease is not None:
                self._ledger.granted(answer.lease)
        return answers

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs."""

        def perform() -> Claimed:
            claimed = self._storage.claim(grant, want, limit, now_ms=now_ms)
            for lease in claimed.leases:
                self._ledger.granted(lease)
            return claimed

        return self._line.ask("claim", perform)

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes."""

        def perform() -> list[Verdict]:
            verdicts = self._storage.commit(commits, now_ms=now_ms)
            for commit, verdict in zip(commits, verdicts, strict=True):
                self._ledger.answered(commit, verdict)
            return verdicts

        return self._line.ask("commit", perform)

    def renew(
        self, worker: str, leases: Sequence[Lease], lease_ms: int, *, now_ms: int | None = None
    ) -> list[LeaseState]:
        """Extend leases."""
        return self._line.ask("renew", lambda: self._storage.renew(worker, leases, lease_ms, now_ms=now_ms))

    def send(self, run_id: str, message: Message, *, now_ms: int | None = None) -> Delivery:
        """Deliver a message."""
        return self._line.ask("send", lambda: self._storage.send(run_id, message, now_ms=now_ms))

    def load(self, run_id: str, after: int = 0, limit: int | None = None) -> Snapshot | None:
        """Read a run."""
        return self._line.ask("load", lambda: self._storage.load(run_id, after, limit))

    def wait_for_work(self, want: AnyOf, timeout_s: float) -> None:
        """Let virtual time pass."""
        del want
        self._clock.sleep(timeout_s)

    def wait_for_run(self, run_id: str, revision: int, timeout_s: float) -> RunHeader | None:
        """Let virtual time pass unless the run has changed already."""
        snapshot = self.load(run_id, 0, 0)
        if snapshot is not None and snapshot.header.revision <= revision:
            self._clock.sleep(timeout_s)
            snapshot = self.load(run_id, 0, 0)
        return None if snapshot is None else snapshot.header

    def list_runs(self, query: RunQuery, cursor: str | None = None, limit: int = 100) -> Page:
        """List runs."""
        return self._line.ask("list_runs", lambda: self._storage.list_runs(query, cursor, limit))

    def stats(self) -> Counts:
        """Count runs."""
        return self._line.ask("stats", self._storage.stats)

    def purge(self, before_ms: int, limit: int = 1000) -> int:
        """Forget finished runs."""
        return self._line.ask("purge", lambda: self._storage.purge(before_ms, limit))

    def get(self, key: str) -> tuple[bytes, int] | None:
        """Read a shared value."""
        return self._line.ask("get", lambda: self._storage.get(key))

    def compare_and_set(self, key: str, revision: int, value: bytes) -> int | None:
        """Write a shared value."""
        return self._line.ask("compare_and_set", lambda: self._storage.compare_and_set(key, revision, value))
