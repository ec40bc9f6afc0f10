"""A storage that remembers what was asked of it, so that any state it was in can be made again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from attrs import evolve

from flowkit.records import (
    AnyOf,
    Capabilities,
    Claimed,
    Commit,
    Delivery,
    Grant,
    Lease,
    LeaseState,
    Message,
    NewRun,
    Submitted,
    Verdict,
    Want,
)
from flowkit.storage import Storage
from flowkit_testing.forward import Forward, T

Change = Callable[[Storage], object]
_CHANGES = frozenset({"submit", "claim", "commit", "renew", "send", "purge", "compare_and_set"})


class LoggedStorage(Forward):
    """A storage, the changes that were made to it, in order, and the runs that they were about.

    One call is made at a time, where it is asked for. Of two at once nobody could tell which one a server has made
    first, and in the other order they might lead to another state. Which commits a batch takes along would depend on
    how fast the machine is, and points are named by the number of a call.

    Args:
        storage: where they are made.
    """

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self.lock = threading.RLock()  # held while something is changed and written down
        self.changes: list[Change] = []
        self.touched: dict[str, None] = {}  # runs that a change was about since somebody has last looked

    @property
    def behind(self) -> Storage:
        """The storage, for what is not to be remembered."""
        return self._storage

    def open(self) -> Capabilities:
        """Get ready for use."""
        return evolve(super().open(), instant=True)

    def through(self, operation: str, call: Callable[[Storage], T]) -> T:
        """Make a call, and remember it if it may change something."""
        if operation not in _CHANGES:
            return call(self._storage)
        with self.lock:
            self.changes.append(call)
            return call(self._storage)

    def submit(self, runs: Sequence[NewRun], *, now_ms: int | None = None) -> list[Submitted]:
        """Create runs."""
        with self.lock:
            self._touch(*(new.run_id for new in runs))
            return super().submit(runs, now_ms=now_ms)

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs. A claim that has found nothing has changed nothing."""
        with self.lock:
            known = len(self.changes)
            claimed = super().claim(grant, want, limit, now_ms=now_ms)
            self._touch(*(lease.run_id for lease in claimed.leases))
            if not claimed.leases and isinstance(want, AnyOf):
                del self.changes[known:]
            return claimed

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes."""
        with self.lock:
            for commit in commits:
                self._touch(
                    commit.run_id, *(new.run_id for new in commit.spawn), *(send.run_id for send in commit.send)
                )
            return super().commit(commits, now_ms=now_ms)

    def renew(
        self, worker: str, leases: Sequence[Lease], lease_ms: int, *, now_ms: int | None = None
    ) -> list[LeaseState]:
        """Extend leases."""
        with self.lock:
            self._touch(*(lease.run_id for lease in leases))
            return super().renew(worker, leases, lease_ms, now_ms=now_ms)

    def send(self, run_id: str, message: Message, *, now_ms: int | None = None) -> Delivery:
        """Deliver a message."""
        with self.lock:
            self._touch(run_id)
            return super().send(run_id, message, now_ms=now_ms)

    def _touch(self, *run_ids: str) -> None:
        self.touched.update(dict.fromkeys(run_ids))
