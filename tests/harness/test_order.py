"""What the harness writes down has the order in which the storage did it, and leads to the same once more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import count

import pytest
from attrs import evolve

from flowkit.codec import JsonCodec
from flowkit.memory import MemoryStorage
from flowkit.records import (
    Claimed,
    Commit,
    Created,
    Exactly,
    Fenced,
    Grant,
    Lease,
    NewRun,
    Submitted,
    Verdict,
    Want,
)
from flowkit.storage import Storage
from flowkit_testing import Harness, trial
from flowkit_testing.corpus import CASES
from flowkit_testing.exploration import Exploration
from flowkit_testing.forward import Forward
from flowkit_testing.ledger import Ledger
from flowkit_testing.log import LoggedStorage
from flowkit_testing.port import Audited

LEASE_MS = 1000
PATIENCE_S = 60.0


class SeenLock:
    """A lock that tells when somebody has to wait for it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.waited_for = threading.Event()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.waited_for.set()
            self._lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()


class Interrupted(Forward):
    """A storage in whose commits somebody comes in between."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes; the server is done before the answer has come."""
        self.before()
        verdicts = super().commit(commits, now_ms=now_ms)
        self.after()
        return verdicts


class Rival:
    """Takes the run over on a thread of its own, as far as a lock lets it."""

    def __init__(self, storage: Storage, lock: SeenLock) -> None:
        self._storage = storage
        self._through_or_waiting = lock.waited_for
        self._thread = threading.Thread(target=self._claim)
        self._claimed: Claimed | None = None

    def come(self) -> None:
        """Claim, and come back when it is done or has to wait."""
        self._thread.start()
        assert self._through_or_waiting.wait(PATIENCE_S)

    def join(self) -> None:
        """Wait until it has the run."""
        self._thread.join()
        assert self._claimed is not None
        assert len(self._claimed.leases) == 1

    def _claim(self) -> None:
        grant = Grant("rival", "rival", LEASE_MS)
        self._claimed = self._storage.claim(grant, Exactly("run"), 1, now_ms=10 * LEASE_MS)
        self._through_or_waiting.set()


def born(storage: Storage) -> Lease:
    """A run that is leased."""
    [made] = storage.submit([NewRun("run", "task", b"null", grant=Grant("first", "first", LEASE_MS))], now_ms=0)
    assert isinstance(made, Created)
    assert made.lease is not None
    return made.lease


def test_a_commit_before_a_claim_is_written_down_before_it() -> None:
    """D4: what a server has applied before it gave the run to somebody else is no write of a superseded lease."""
    ledger, lock = Ledger(JsonCodec()), SeenLock()
    ledger.order = lock  # type: ignore[assignment]  # as a lock it is used
    storage = Interrupted(MemoryStorage())
    storage.open()
    audited = Audited(storage, ledger)
    lease, rival = born(audited), Rival(audited, lock)
    storage.after = rival.come

    audited.commit([Commit("run", lease.owner, lease.fence, "commit", 0)], now_ms=1)
    rival.join()

    assert ledger.broken == []
    storage.after = lambda: None
    assert audited.commit([Commit("run", lease.owner, lease.fence, "late", 0)], now_ms=2) == [Fenced()]


def test_a_log_that_is_done_again_leads_to_the_same() -> None:
    """Two threads' changes are logged in the order in which they were made."""
    lock = SeenLock()
    storage = Interrupted(MemoryStorage())
    logged = LoggedStorage(storage)
    logged.lock = lock  # type: ignore[assignment]  # as a lock it is used
    logged.open()
    lease, rival = born(logged), Rival(logged, lock)
    storage.before = rival.come

    logged.commit([Commit("run", lease.owner, lease.fence, "commit", 0, (b"entry",))], now_ms=1)
    rival.join()

    storage.before = lambda: None
    again = MemoryStorage()
    again.open()
    for change in logged.changes:
        change(again)
    assert again.load("run") == logged.load("run")


class FencesByTheClock(Forward):
    """A storage that makes fences of a clock which nobody can set, as Redis does."""

    clock = count(1_000)

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self._told: dict[int, int] = {}
        self._made: dict[tuple[str, int], int] = {}

    def submit(self, runs: Sequence[NewRun], *, now_ms: int | None = None) -> list[Submitted]:
        """Create runs."""
        answers = super().submit(runs, now_ms=now_ms)
        return [
            evolve(answer, lease=self._tell(answer.lease)) if isinstance(answer, Created) and answer.lease else answer
            for answer in answers
        ]

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs."""
        claimed = super().claim(grant, want, limit, now_ms=now_ms)
        return evolve(claimed, leases=tuple(map(self._tell, claimed.leases)))

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes."""
        return super().commit(
            [evolve(commit, fence=self._told.get(commit.fence, -1)) for commit in commits], now_ms=now_ms
        )

    def _tell(self, lease: Lease) -> Lease:
        told = self._made.get((lease.run_id, lease.fence))  # of one that is asked for again, the same
        if told is None:
            told = self._made[lease.run_id, lease.fence] = next(self.clock)
        self._told[told] = lease.fence
        return evolve(lease, fence=told)


def explored() -> Exploration:
    """What is found on such a storage."""
    [case] = [case for case in CASES if case.name == "chain"]
    harness = Harness(MemoryStorage(), make_storage=lambda: FencesByTheClock(MemoryStorage()))
    try:
        return harness.explore(case.task, *case.args)
    finally:
        harness.close()


def test_fences_that_are_others_each_time() -> None:
    """States are made again on a storage whose fences nobody can foresee."""
    found = explored()
    found.assert_safe()
    assert found.resumes == found.states > 5


def test_a_state_that_is_not_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is resumed from is compared with what was left behind: from another state, resuming would prove nothing."""
    monkeypatch.setattr(trial, "CountedFences", lambda storage: storage)
    with pytest.raises(AssertionError, match="the storage holds something else after the same calls"):
        explored().assert_safe()
