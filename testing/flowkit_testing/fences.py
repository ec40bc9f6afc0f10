"""Fences that count from 1 in each run, whatever the storage behind makes them of.

A storage may make a fence of its clock, so the same calls made again give other ones. A log of calls that name fences
could then not be made again: each commit in it would be refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from flowkit.records import Claimed, Commit, Created, Grant, Lease, LeaseState, NewRun, Submitted, Verdict, Want
from flowkit.storage import Storage
from flowkit_testing.forward import Forward

_NONE = 0  # the fence of no lease


class CountedFences(Forward):
    """A storage whose leases have the fences 1, 2, 3... of their run, in the order in which they were given.

    Args:
        storage: the one behind.
    """

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self._behind: dict[str, list[int]] = {}

    def submit(self, runs: Sequence[NewRun], *, now_ms: int | None = None) -> list[Submitted]:
        """Create runs."""
        answers = self._storage.submit(runs, now_ms=now_ms)
        return [
            evolve(answer, lease=self._counted(answer.lease))
            if isinstance(answer, Created) and answer.lease is not None
            else answer
            for answer in answers
        ]

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs."""
        claimed = self._storage.claim(grant, want, limit, now_ms=now_ms)
        return evolve(claimed, leases=tuple(map(self._counted, claimed.leases)))

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes."""
        behind = [evolve(commit, fence=self._fence(commit.run_id, commit.fence)) for commit in commits]
        return self._storage.commit(behind, now_ms=now_ms)

    def renew(
        self, worker: str, leases: Sequence[Lease], lease_ms: int, *, now_ms: int | None = None
    ) -> list[LeaseState]:
        """Extend leases."""
        behind = [evolve(lease, fence=self._fence(lease.run_id, lease.fence)) for lease in leases]
        return self._storage.renew(worker, behind, lease_ms, now_ms=now_ms)

    def _counted(self, lease: Lease) -> Lease:
        known = self._behind.setdefault(lease.run_id, [])
        if lease.fence not in known:
            known.append(lease.fence)
        return evolve(lease, fence=known.index(lease.fence) + 1)

    def _fence(self, run_id: str, counted: int) -> int:
        known = self._behind.get(run_id, [])
        return known[counted - 1] if 0 < counted <= len(known) else _NONE
