"""Ask a storage again until it answers: every change is idempotent, so asking twice is safe (rule D7)."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from flowkit.errors import FlowkitError, StorageError
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

log = logging.getLogger(__name__)
_T = TypeVar("_T")

FIRST_PAUSE_S = 0.01
LONGEST_PAUSE_S = 1.0


class PatientStorage:
    """A storage whose calls are sent again while it does not answer.

    Args:
        storage: the storage that is asked.
        patience_s: seconds after which it is given up, with a `StorageError`.
        sleep: how to wait before asking again.
    """

    def __init__(self, storage: Storage, patience_s: float, sleep: Callable[[float], None] = time.sleep) -> None:
        self.inner = storage
        self._patience_s = patience_s
        self._sleep = sleep
        self.on_time: Callable[[int, int], None] | None = None  # told the storage's time, and how long that took, in ms

    def insist(self, what: str, call: Callable[[], _T]) -> _T:
        """The answer; a `FlowkitError` is one, any other exception means "unknown, ask again"."""
        pause_s, paused_s, began_s = FIRST_PAUSE_S, 0.0, time.monotonic()
        while True:
            try:
                return call()
            except FlowkitError:
                raise
            except Exception as error:  # noqa: BLE001  # whatever a third party's storage raises
                failure = error
            spent_s = max(paused_s, time.monotonic() - began_s)  # pauses may take virtual time
            if spent_s + pause_s > self._patience_s:
                raise StorageError(
                    f"the storage did not answer ({what}) for {self._patience_s:.0f} s "
                    f"({type(failure).__name__}: {failure}). Whether it did what it was asked is unknown; what is "
                    "stored stays as it is, and an unfinished run will be resumed"
                ) from failure
            log.warning("no answer from the storage (%s: %s), asking again", type(failure).__name__, failure)
            self._sleep(pause_s)
            paused_s += pause_s
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def open(self) -> Capabilities:
        """Open the storage; asked once, since a mistake in its configuration shows here."""
        return self.inner.open()

    def close(self) -> None:
        """Close the storage."""
        self.inner.close()

    def submit(self, runs: Sequence[NewRun], *, now_ms: int | None = None) -> list[Submitted]:
        """Create runs."""
        return self.insist("submit", lambda: self.inner.submit(runs, now_ms=now_ms))

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs; the grant's token makes asking again safe."""
        began_s = time.monotonic()
        claimed = self.insist("claim", lambda: self.inner.claim(grant, want, limit, now_ms=now_ms))
        self._tell_time(claimed.now_ms, began_s)
        return claimed

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes; their commit ids make asking again safe."""
        return self.insist("commit", lambda: self.inner.commit(commits, now_ms=now_ms))

    def renew(
        self, worker: str, leases: Sequence[Lease], lease_ms: int, *, now_ms: int | None = None
    ) -> list[LeaseState]:
        """Extend leases; asked once, since the heartbeat asks again by itself."""
        return self.inner.renew(worker, leases, lease_ms, now_ms=now_ms)

    def send(self, run_id: str, message: Message, *, now_ms: int | None = None) -> Delivery:
        """Deliver a message; a duplicate that we caused ourselves counts as delivered."""
        attempts = 0

        def call() -> Delivery:
            nonlocal attempts
            attempts += 1
            delivery = self.inner.send(run_id, message, now_ms=now_ms)
            return Delivery.DELIVERED if attempts > 1 and delivery is Delivery.DUPLICATE else delivery

        return self.insist("send", call)

    def load(self, run_id: str, after: int = 0, limit: int | None = None) -> Snapshot | None:
        """Read a run."""
        began_s = time.monotonic()
        snapshot = self.insist("load", lambda: self.inner.load(run_id, after, limit))
        if snapshot is not None:
            self._tell_time(snapshot.now_ms, began_s)
        return snapshot

    def _tell_time(self, now_ms: int, began_s: float) -> None:
        if self.on_time is not None:
            self.on_time(now_ms, math.ceil((time.monotonic() - began_s) * 1000))

    def wait_for_work(self, want: AnyOf, timeout_s: float) -> None:
        """Wait for a hint; asked once, since hints are not needed."""
        self.inner.wait_for_work(want, timeout_s)

    def wait_for_run(self, run_id: str, revision: int, timeout_s: float) -> RunHeader | None:
        """Wait for a change of a run."""
        return self.insist("wait", lambda: self.inner.wait_for_run(run_id, revision, timeout_s))

    def list_runs(self, query: RunQuery, cursor: str | None = None, limit: int = 100) -> Page:
        """List runs."""
        return self.insist("list", lambda: self.inner.list_runs(query, cursor, limit))

    def stats(self) -> Counts:
        """Count runs."""
        return self.insist("stats", self.inner.stats)

    def purge(self, before_ms: int, limit: int = 1000) -> int:
        """Forget old runs."""
        return self.insist("purge", lambda: self.inner.purge(before_ms, limit))

    def get(self, key: str) -> tuple[bytes, int] | None:
        """Read a shared value."""
        return self.insist("get", lambda: self.inner.get(key))

    def compare_and_set(self, key: str, revision: int, value: bytes) -> int | None:
        """Write a shared value; asked once, since a second asking could not tell its own success from another's."""
        return self.inner.compare_and_set(key, revision, value)
