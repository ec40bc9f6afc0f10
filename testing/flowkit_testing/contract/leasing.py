"""Contract: leases end, are renewed, and are taken over."""

# ruff: noqa: PLR2004 - an expected number is its own explanation
from __future__ import annotations

from attrs import evolve

from flowkit.records import Done, Fenced, Go, LeaseState, RunStatus, Suspend, Yield
from flowkit.storage import Storage
from flowkit_testing.contract.base import LEASE_MS, T0, StorageSuite, begin, cancel, claim_ids, header_of, take, tell

END = T0 + LEASE_MS
GONE = LeaseState(held=False)


class Leasing(StorageSuite):
    """A dead worker's runs are taken over; expiry alone revokes nothing (rules D4, X1)."""

    def test_a_lease_holds_until_its_end(self, storage: Storage) -> None:
        """X1: not a millisecond earlier, and from then on anyone may take over."""
        begin(storage)

        assert claim_ids(storage, "early", now_ms=END - 1) == []
        assert claim_ids(storage, "late", now_ms=END) == ["run"]

    def test_a_takeover_counts_a_crash(self, storage: Storage) -> None:
        """R4: takeovers in a row are counted, in the lease and in the header."""
        begin(storage)

        crashes = [take(storage, owner=f"t{n}", now_ms=T0 + n * LEASE_MS).lease.crashes for n in (1, 2, 3)]

        assert crashes == [1, 2, 3]
        assert header_of(storage).crashes == 3

    def test_a_new_entry_resets_the_crashes(self, storage: Storage) -> None:
        """R4: only crashes without progress add up."""
        begin(storage)
        taker = take(storage, now_ms=END)

        taker.write(b"progress", now_ms=END)

        assert header_of(storage).crashes == 0
        assert take(storage, owner="next", now_ms=END + LEASE_MS).lease.crashes == 1

    def test_a_commit_without_entries_is_no_progress(self, storage: Storage) -> None:
        """R4: handing back or consuming does not hide crashes."""
        begin(storage)
        take(storage, now_ms=END).write(then=Yield(), now_ms=END)

        assert header_of(storage).crashes == 1
        assert take(storage, owner="next", now_ms=END).lease.crashes == 1

    def test_a_lease_asked_for_again_tells_the_crashes_as_they_are(self, storage: Storage) -> None:
        """R4: a claim sent again after progress gives the same lease, with nothing held against the run any more."""
        begin(storage)
        taker = take(storage, owner="taker", now_ms=END)
        taker.write(b"progress", now_ms=END)

        again = take(storage, owner="taker", now_ms=END)

        assert again.lease == evolve(taker.lease, crashes=0)

    def test_handing_back_is_no_crash(self, storage: Storage) -> None:
        """X5: a run that was handed back can be claimed at once, and nobody is blamed."""
        begin(storage).write(then=Yield())

        assert take(storage).lease.crashes == 0

    def test_a_renewed_lease_does_not_end(self, storage: Storage) -> None:
        """X1: a live worker keeps its runs, counted from the renewal."""
        lease = begin(storage).lease

        states = storage.renew("worker-1", [lease], LEASE_MS, now_ms=END - 1)

        assert states == [LeaseState(held=True)]
        assert claim_ids(storage, "early", now_ms=END - 1 + LEASE_MS - 1) == []
        assert claim_ids(storage, "late", now_ms=END - 1 + LEASE_MS) == ["run"]

    def test_a_renewal_can_shorten_a_lease(self, storage: Storage) -> None:
        """The end is set, not pushed."""
        lease = begin(storage).lease

        storage.renew("worker-1", [lease], 10, now_ms=T0)

        assert claim_ids(storage, "late", now_ms=T0 + 10) == ["run"]

    def test_a_late_renewal_is_good_while_nobody_took_over(self, storage: Storage) -> None:
        """Expiry alone revokes nothing; the run is protected again, also when a claim has seen it expired."""
        first, second = begin(storage, "run").lease, begin(storage, "second").lease
        assert claim_ids(storage, "seen", limit=1, now_ms=END) == ["run"]

        states = storage.renew("worker-1", [first, second], LEASE_MS, now_ms=END + 1)

        assert states == [GONE, LeaseState(held=True)]
        assert claim_ids(storage, "early", now_ms=END + 1) == []

    def test_a_renewal_tells_of_cancel_and_inbox(self, storage: Storage) -> None:
        """E2: the heartbeat brings the news, without a read."""
        lease = begin(storage).lease
        tell(storage, "one")
        tell(storage, "two")
        cancel(storage)

        assert storage.renew("worker-1", [lease], LEASE_MS, now_ms=T0) == [LeaseState(held=True, cancel=True, inbox=2)]

    def test_what_is_lost_cannot_be_renewed(self, storage: Storage) -> None:
        """D4: taken over, handed back, suspended, never there: not held, and nothing is extended."""
        taken, back, parked = (begin(storage, run_id) for run_id in ("taken", "back", "parked"))
        back.write(then=Yield())
        parked.write(then=Suspend(inbox_at_least=1))
        winner = take(storage, "taken", now_ms=END)
        unknown = evolve(taken.lease, run_id="unknown")
        other_fence = evolve(winner.lease, fence=winner.lease.fence + 1)

        asked = [taken.lease, back.lease, parked.lease, unknown, other_fence, winner.lease]
        states = storage.renew("worker-1", asked, 10 * LEASE_MS, now_ms=END)

        assert states == [GONE, GONE, GONE, GONE, GONE, LeaseState(held=True)]
        assert claim_ids(storage, "other", now_ms=END) == ["back"]

    def test_nothing_asked_is_nothing_answered(self, storage: Storage) -> None:
        """An empty renewal is allowed."""
        assert storage.renew("worker-1", [], LEASE_MS, now_ms=T0) == []

    def test_expiry_alone_does_not_fence(self, storage: Storage) -> None:
        """D4: a slow owner may still write as long as nobody has claimed the run."""
        writer = begin(storage)

        writer.write(b"late", now_ms=END + 5)

        assert header_of(storage).length == 1

    def test_a_commit_does_not_extend_the_lease(self, storage: Storage) -> None:
        """Only a renewal does: a step that hangs after a commit is not protected for longer by it."""
        writer = begin(storage)

        writer.write(b"entry", then=Go(), now_ms=END - 1)

        assert claim_ids(storage, "late", now_ms=END) == ["run"]

    def test_a_zombie_can_do_nothing(self, storage: Storage) -> None:
        """D4: after a takeover the first owner records, renews and finishes nothing."""
        zombie = begin(storage)
        winner = take(storage, now_ms=END)

        assert zombie.try_(zombie.draft(b"zombie"), END) == Fenced()
        assert zombie.try_(zombie.draft(then=Yield()), END) == Fenced()
        assert storage.renew("worker-1", [zombie.lease], LEASE_MS, now_ms=END) == [GONE]
        assert isinstance(winner.try_(winner.draft(b"winner"), END), Done)

    def test_a_compensating_run_is_still_compensating_after_a_takeover(self, storage: Storage) -> None:
        """G3: a rollback never turns around; ready, waiting or taken over, the run shows it."""
        begin(storage).write(b"rollback", then=Go(RunStatus.COMPENSATING))

        taker = take(storage, now_ms=END)
        assert header_of(storage).status is RunStatus.COMPENSATING
        taker.write(then=Suspend(wake_at_ms=END + 5), now_ms=END)
        assert header_of(storage).status is RunStatus.COMPENSATING
        take(storage, owner="again", now_ms=END + 5).write(then=Yield(), now_ms=END + 5)
        assert header_of(storage).status is RunStatus.COMPENSATING
