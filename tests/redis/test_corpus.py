"""Workflows of all shapes on Redis, with a crash at every point, any number of times."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import pytest
from attrs import evolve

from flowkit.records import (
    Capabilities,
    Claimed,
    Commit,
    Created,
    Grant,
    Lease,
    LeaseState,
    NewRun,
    Submitted,
    Verdict,
    Want,
)
from flowkit.storage import Storage
from flowkit_redis import redis_storage
from flowkit_testing import Harness
from flowkit_testing.corpus import CASES, Case
from flowkit_testing.forward import Forward
from flowkit_testing.servers import Server

_namespaces = count()
# Each workflow of the corpus is tried in memory; here those in which the storage has the most to do.
CHOSEN = {
    "chain",
    "saga",
    "saga-nested",
    "parent",
    "rescuing-parent",
    "sleeps",
    "retries",
    "finally",
    "work-must",
    "each",
}
EXPLORED = [case for case in CASES if case.name in CHOSEN]


class Repeatable(Forward):
    """What an exploration needs, which makes states anew from the calls that led to them.

    Fences count from 1 in each run, as in memory, and commits are made where they are asked for, in no batches.
    """

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self._real: dict[str, list[int]] = {}

    def open(self) -> Capabilities:
        """Get ready for use."""
        return evolve(self._storage.open(), instant=True)

    def submit(self, runs: Sequence[NewRun], *, now_ms: int | None = None) -> list[Submitted]:
        """Create runs."""
        answers = self._storage.submit(runs, now_ms=now_ms)
        return [
            evolve(answer, lease=self._counted(answer.lease))
            if isinstance(answer, Created) and answer.lease
            else answer
            for answer in answers
        ]

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs."""
        claimed = self._storage.claim(grant, want, limit, now_ms=now_ms)
        return evolve(claimed, leases=tuple(map(self._counted, claimed.leases)))

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes."""
        real = [evolve(commit, fence=self._fence(commit.run_id, commit.fence)) for commit in commits]
        return self._storage.commit(real, now_ms=now_ms)

    def renew(
        self, worker: str, leases: Sequence[Lease], lease_ms: int, *, now_ms: int | None = None
    ) -> list[LeaseState]:
        """Extend leases."""
        real = [evolve(lease, fence=self._fence(lease.run_id, lease.fence)) for lease in leases]
        return self._storage.renew(worker, real, lease_ms, now_ms=now_ms)

    def _counted(self, lease: Lease) -> Lease:
        known = self._real.setdefault(lease.run_id, [])
        if lease.fence not in known:
            known.append(lease.fence)
        return evolve(lease, fence=known.index(lease.fence) + 1)

    def _fence(self, run_id: str, counted: int) -> int:
        known = self._real.get(run_id, [])
        return known[counted - 1] if 0 < counted <= len(known) else 0


@pytest.mark.parametrize("case", EXPLORED, ids=lambda case: case.name)
def test_survives_a_crash_at_every_point(case: Case, flowkit_redis_server: Server) -> None:
    """Wherever its process dies, it ends as without a crash; the storage is a real server."""

    def make() -> Storage:
        return Repeatable(redis_storage(f"{flowkit_redis_server.url}?namespace=corpus{next(_namespaces)}"))

    storage = make()
    harness = Harness(storage, make_storage=make)
    try:
        harness.explore(case.task, *case.args).assert_safe()
    finally:
        harness.close()
        storage.close()
