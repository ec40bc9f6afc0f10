"""Storages that grant, read and keep wrongly, one fault each."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from flowkit.memory.run import Place
from flowkit.records import (
    Claimed,
    Delivery,
    Exactly,
    Grant,
    Lease,
    LeaseState,
    Message,
    MessageKind,
    Snapshot,
    Want,
)
from flowkit_testing.forward import Forward
from tests.harness.gauntlet.broken_memory import BrokenMemory


class EmptiesInboxes(BrokenMemory):
    """Loses the inbox of a run that is taken over (E5)."""

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs, wrongly."""
        claimed = self._storage.claim(grant, want, limit, now_ms=now_ms)
        for lease in claimed.leases:
            self.state.runs[lease.run_id].inbox.clear()
        return claimed


class LosesCancellations(Forward):
    """Says that a run was told to stop, and tells it nothing (E2)."""

    def send(self, run_id: str, message: Message, *, now_ms: int | None = None) -> Delivery:
        """Deliver a message, or not."""
        if message.kind is MessageKind.CANCEL:
            return Delivery.DELIVERED
        return self._storage.send(run_id, message, now_ms=now_ms)


class GivesFinishedRuns(BrokenMemory):
    """Lets a finished run be claimed (X2)."""

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs, wrongly."""
        run = self.state.runs.get(want.run_id) if isinstance(want, Exactly) else None
        if run is not None and run.place is Place.FINISHED:
            return Claimed((Lease(run.new.run_id, grant.token, run.fence + 1),), None, now_ms or 0)
        return self._storage.claim(grant, want, limit, now_ms=now_ms)


class TakesAllLeases(BrokenMemory):
    """Ends the leases of all runs whenever one is claimed (X1)."""

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs, wrongly."""
        claimed = self._storage.claim(grant, want, limit, now_ms=now_ms)
        mine = {lease.run_id for lease in claimed.leases}
        for run_id, run in self.state.runs.items():
            if mine and run_id not in mine:
                run.fence += 1
        return claimed


class LoadsStale(Forward):
    """Reads a journal from a copy that is one entry behind (D2)."""

    def load(self, run_id: str, after: int = 0, limit: int | None = None) -> Snapshot | None:
        """Read a run, wrongly."""
        snapshot = self._storage.load(run_id, after, limit)
        if snapshot is None or after or not snapshot.entries or snapshot.header.worker is None:
            return snapshot
        return evolve(snapshot, entries=snapshot.entries[:-1])


class GarblesEntries(Forward):
    """Reads back another value than was written (D5)."""

    def load(self, run_id: str, after: int = 0, limit: int | None = None) -> Snapshot | None:
        """Read a run, wrongly."""
        snapshot = self._storage.load(run_id, after, limit)
        if snapshot is None or snapshot.header.worker is None:
            return snapshot
        entries = tuple(raw[:-1] + b"9" if raw.endswith(b"\n1") else raw for raw in snapshot.entries)
        return evolve(snapshot, entries=entries)


class ForgetsRuns(BrokenMemory):
    """Loses a run whose owner has died (X1)."""

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs, wrongly."""
        claimed = self._storage.claim(grant, want, limit, now_ms=now_ms)
        lost = [lease for lease in claimed.leases if lease.crashes]
        for lease in lost:
            self.state.forget(self.state.runs[lease.run_id])
        return evolve(claimed, leases=tuple(lease for lease in claimed.leases if lease not in lost))


class NeverCountsCrashes(Forward):
    """Grants a run again and again without telling that its owners have died (R4)."""

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs, wrongly."""
        claimed = self._storage.claim(grant, want, limit, now_ms=now_ms)
        return evolve(claimed, leases=tuple(evolve(lease, crashes=0) for lease in claimed.leases))


class RenewsForStrangers(BrokenMemory):
    """Renews a lease for whoever asks (D4)."""

    def renew(
        self, worker: str, leases: Sequence[Lease], lease_ms: int, *, now_ms: int | None = None
    ) -> list[LeaseState]:
        """Extend leases, wrongly."""
        mended = []
        for lease in leases:
            run = self.state.runs.get(lease.run_id)
            if run is not None and run.owner is not None:
                mended.append(evolve(lease, owner=run.owner, fence=run.fence))
            else:
                mended.append(lease)
        return self._storage.renew(worker, mended, lease_ms, now_ms=now_ms)


class PurgesUnfinished(BrokenMemory):
    """Forgets old runs, finished or not (X3)."""

    def purge(self, before_ms: int, limit: int = 1000) -> int:
        """Forget runs, wrongly."""
        old = [run for run in self.state.runs.values() if run.created_ms < before_ms][:limit]
        for run in old:
            self.state.forget(run)
        return len(old)


class ReceivesTwice(Forward):
    """Takes a message that is sent again for a new one (E5)."""

    count = 0

    def send(self, run_id: str, message: Message, *, now_ms: int | None = None) -> Delivery:
        """Deliver a message, wrongly."""
        self.count += 1
        renamed = evolve(message, id=f"{message.id}/{self.count}") if message.kind is MessageKind.EVENT else message
        return self._storage.send(run_id, renamed, now_ms=now_ms)
