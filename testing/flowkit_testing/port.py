"""A storage as one pretended process sees it: its calls can fail, and end for good when the process dies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from flowkit.records import (
    AnyOf,
    Claimed,
    Commit,
    Created,
    Delivery,
    Grant,
    Lease,
    LeaseState,
    Message,
    MessageKind,
    NewRun,
    RunHeader,
    Submitted,
    Verdict,
    Want,
)
from flowkit.storage import Storage
from flowkit_testing.fake_clock import FakeClock
from flowkit_testing.forward import Forward, T
from flowkit_testing.ledger import Ledger


class Line(Protocol):
    """What stands between a process and the storage."""

    def ask(self, operation: str, perform: Callable[[], T]) -> T:
        """Perform a call of the storage; may raise before or after it."""


class Port(Forward):
    """The storage of one process. Closing it leaves the storage behind it open."""

    def __init__(self, storage: Storage, clock: FakeClock, ledger: Ledger, line: Line) -> None:
        super().__init__(Audited(storage, ledger))
        self._clock = clock
        self._line = line

    def through(self, operation: str, call: Callable[[Storage], T]) -> T:
        """Make a call, if the process lives and the test does not want otherwise."""
        return self._line.ask(operation, lambda: call(self._storage))

    def close(self) -> None:
        """Others use the storage too."""

    def wait_for_work(self, want: AnyOf, timeout_s: float) -> None:
        """Let virtual time pass."""
        del want
        self._clock.sleep(timeout_s)

    def wait_for_run(self, run_id: str, revision: int, timeout_s: float) -> RunHeader | None:
        """Let virtual time pass unless the run has changed already."""

        def header() -> RunHeader | None:
            snapshot = self._storage.load(run_id, 0, 0)
            return None if snapshot is None else snapshot.header

        def changed() -> bool:
            found = header()
            return found is None or found.revision > revision

        self._clock.wait(timeout_s, changed)
        return header()


class Audited(Forward):
    """A storage whose answers are written into a ledger, in the order in which it gave them."""

    def __init__(self, storage: Storage, ledger: Ledger) -> None:
        super().__init__(storage)
        self._ledger = ledger

    def submit(self, runs: Sequence[NewRun], *, now_ms: int | None = None) -> list[Submitted]:
        """Create runs."""
        with self._ledger.order:
            answers = self._storage.submit(runs, now_ms=now_ms)
            for answer in answers:
                if isinstance(answer, Created) and answer.lease is not None:
                    self._ledger.granted(answer.lease, answer.now_ms)
            return answers

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs."""
        with self._ledger.order:
            claimed = self._storage.claim(grant, want, limit, now_ms=now_ms)
            for lease in claimed.leases:
                self._ledger.granted(lease, claimed.now_ms)
            return claimed

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes."""
        with self._ledger.order:
            verdicts = self._storage.commit(commits, now_ms=now_ms)
            for commit, verdict in zip(commits, verdicts, strict=True):
                self._ledger.answered(commit, verdict)
            return verdicts

    def renew(
        self, worker: str, leases: Sequence[Lease], lease_ms: int, *, now_ms: int | None = None
    ) -> list[LeaseState]:
        """Extend leases."""
        with self._ledger.order:
            states = self._storage.renew(worker, leases, lease_ms, now_ms=now_ms)
            for lease, state in zip(leases, states, strict=True):
                if state.held:
                    self._ledger.renewed(lease)
            return states

    def send(self, run_id: str, message: Message, *, now_ms: int | None = None) -> Delivery:
        """Deliver a message."""
        with self._ledger.order:
            delivery = self._storage.send(run_id, message, now_ms=now_ms)
            if message.kind is MessageKind.REOPEN and delivery is Delivery.DELIVERED:
                self._ledger.reopened(run_id)
            return delivery

    def purge(self, before_ms: int, limit: int = 1000) -> int:
        """Forget finished runs."""
        with self._ledger.order:
            removed = self._storage.purge(before_ms, limit)
            self._ledger.purged(self._storage)
            return removed
