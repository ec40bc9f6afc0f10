"""Contract: how many runs of a key may be leased at a time."""

from __future__ import annotations

from flowkit.records import (
    AnyOf,
    Created,
    Exactly,
    Finish,
    Limit,
    NewRun,
    RunQuery,
    RunStatus,
    Suspend,
    Then,
    Yield,
)
from flowkit.storage import Storage
from flowkit_testing.contract.base import (
    ANY_TASK,
    LEASE_MS,
    T0,
    StorageSuite,
    Writer,
    begin,
    cancel,
    claim_ids,
    enqueue,
    grant,
    header_of,
    take,
    tell,
)

ONE = Limit(1)


def crowd(storage: Storage, *run_ids: str, limit: Limit = ONE, now_ms: int = T0, priority: int = 0) -> None:
    """Create ready runs of one limit, each a moment after the other: within one, a storage may be in several places."""
    for age, run_id in enumerate(run_ids, 1 - len(run_ids)):
        storage.submit([NewRun(run_id, "task", b"", limit=limit, priority=priority)], now_ms=now_ms + age)


def holder(storage: Storage, token: str) -> Writer:
    """The one run that a token holds."""
    (lease,) = storage.claim(grant(token), ANY_TASK, 1, now_ms=T0).leases
    return Writer(storage, lease)


class Limiting(StorageSuite):
    """A place is held by a lease; what has no room stands in nobody's way (rule X4)."""

    def test_no_more_are_granted_than_there_are_places(self, storage: Storage) -> None:
        """One claim, or several: the places are counted over all of them."""
        crowd(storage, "a", "b", "c", "d", limit=Limit(3))

        assert claim_ids(storage, "first", limit=2) == ["a", "b"]
        assert claim_ids(storage, "second") == ["c"]
        assert claim_ids(storage, "third") == []
        assert header_of(storage, "d").status is RunStatus.PENDING

    def test_each_key_has_places_of_its_own(self, storage: Storage) -> None:
        """One customer's runs do not wait for another's."""
        for customer in ("x", "y"):
            crowd(storage, f"{customer}1", f"{customer}2", limit=Limit(1, customer))

        assert sorted(claim_ids(storage, "token")) == ["x1", "y1"]

    def test_each_task_and_queue_has_places_of_its_own(self, storage: Storage) -> None:
        """The same key elsewhere is another key."""
        storage.submit(
            [NewRun(f"{task}-{queue}", task, b"", queue=queue, limit=ONE) for task in "tu" for queue in "pq"], now_ms=T0
        )

        assert sorted(claim_ids(storage, "token", AnyOf(("t", "u"), ("p", "q")))) == ["t-p", "t-q", "u-p", "u-q"]

    def test_what_has_no_room_stands_in_nobodys_way(self, storage: Storage) -> None:
        """X4: behind many runs over their limit, others are found, with a limit and without."""
        over = [NewRun(f"over-{n}", "task", b"", limit=Limit(1, "busy"), priority=9) for n in range(300)]
        storage.submit(over, now_ms=T0)
        assert len(claim_ids(storage, "busy", limit=2)) == 1
        enqueue(storage, "free", now_ms=T0 + 1)
        crowd(storage, "other", limit=Limit(1, "idle"), now_ms=T0 + 2)

        assert sorted(claim_ids(storage, "token", now_ms=T0 + 3)) == ["free", "other"]

    def test_letting_go_in_any_way_frees_the_place(self, storage: Storage) -> None:
        """A run that has finished, waits or was handed back holds no place."""
        crowd(storage, "a", "b", "c", "d")
        turns: list[Then] = [Finish(RunStatus.SUCCEEDED, b""), Suspend(wake_at_ms=T0 + 50), Yield()]
        for turn, (run_id, then) in enumerate(zip("abc", turns, strict=True)):
            (lease,) = storage.claim(grant(f"t{turn}"), ANY_TASK, 10, now_ms=T0 + turn).leases
            assert lease.run_id == run_id
            Writer(storage, lease).write(then=then, now_ms=T0 + turn)

        assert claim_ids(storage, "last", now_ms=T0 + 5) == ["d"]

    def test_the_first_of_its_key_is_next(self, storage: Storage) -> None:
        """Priority, then age, as everywhere, whenever a run has joined."""
        crowd(storage, "holder")
        assert claim_ids(storage, "holder") == ["holder"]
        crowd(storage, "old", "older", limit=ONE, now_ms=T0 + 1)
        crowd(storage, "urgent", priority=1, now_ms=T0 + 2)
        holder(storage, "holder").write(then=Finish(RunStatus.SUCCEEDED, b""))

        assert claim_ids(storage, "next", now_ms=T0 + 3) == ["urgent"]

    def test_the_order_across_keys_is_kept(self, storage: Storage) -> None:
        """Runs with room are served as one line with those that have no limit."""
        for age, (run_id, limit) in enumerate(
            [("a1", Limit(2, "a")), ("b1", Limit(1, "b")), ("free", None), ("a2", Limit(2, "a")), ("b2", Limit(1, "b"))]
        ):
            storage.submit([NewRun(run_id, "task", b"", limit=limit)], now_ms=T0 + age)

        assert claim_ids(storage, "token", now_ms=T0 + 9) == ["a1", "b1", "free", "a2"]

    def test_a_crashed_holder_loses_its_place_with_its_lease(self, storage: Storage) -> None:
        """Nothing else has to happen; the lost run stands in line again, as old as the end of its lease."""
        crowd(storage, "lost", "next")
        assert claim_ids(storage, "dead") == ["lost"]

        assert claim_ids(storage, "early", now_ms=T0 + LEASE_MS - 1) == []
        assert claim_ids(storage, "late", now_ms=T0 + LEASE_MS) == ["next"]
        assert claim_ids(storage, "later", now_ms=T0 + 2 * LEASE_MS) == ["lost"]

    def test_a_renewed_lease_keeps_its_place(self, storage: Storage) -> None:
        """Places live as long as leases do."""
        crowd(storage, "held", "next")
        (lease,) = storage.claim(grant("token"), ANY_TASK, 1, now_ms=T0).leases
        storage.renew("worker-1", [lease], LEASE_MS, now_ms=T0 + LEASE_MS - 1)

        assert claim_ids(storage, "early", now_ms=T0 + 2 * LEASE_MS - 2) == []
        assert claim_ids(storage, "late", now_ms=T0 + 2 * LEASE_MS - 1) == ["next"]

    def test_a_late_owner_that_renews_holds_its_place_again(self, storage: Storage) -> None:
        """Expiry alone revokes nothing: while nobody has taken it over the run is its owner's, and counted."""
        crowd(storage, "held", "next", "last")
        (lease,) = storage.claim(grant("token"), ANY_TASK, 1, now_ms=T0).leases
        assert claim_ids(storage, "late", now_ms=T0 + LEASE_MS, limit=1) == ["next"]
        assert storage.renew("worker-1", [lease], LEASE_MS, now_ms=T0 + LEASE_MS + 1)[0].held

        holder(storage, "late").write(then=Finish(RunStatus.SUCCEEDED, b""))

        assert claim_ids(storage, "more", now_ms=T0 + LEASE_MS + 2) == []

    def test_a_claim_by_id_heeds_the_limit(self, storage: Storage) -> None:
        """Nor does it jump over a limit that has no room."""
        crowd(storage, "a", "b")

        assert claim_ids(storage, "b", Exactly("b")) == ["b"]
        assert claim_ids(storage, "a", Exactly("a")) == []
        assert claim_ids(storage, "again", Exactly("b"), now_ms=T0 + LEASE_MS) == ["b"]

    def test_a_run_is_born_ready_if_its_limit_has_no_room(self, storage: Storage) -> None:
        """Whoever wanted it at once gets no lease, and the run waits in its queue; asked again, it exists."""
        first, second = (NewRun(run_id, "task", b"", limit=ONE, grant=grant(run_id)) for run_id in "ab")

        (born,), (waits,) = (storage.submit([new], now_ms=T0) for new in (first, second))

        assert isinstance(born, Created)
        assert born.lease is not None
        assert waits == Created(None, T0)
        assert header_of(storage, "b").status is RunStatus.PENDING
        Writer(storage, born.lease).write(then=Yield(), now_ms=T0 + 1)
        assert claim_ids(storage, "token", now_ms=T0 + 2) == ["b"]

    def test_timers_wait_for_a_place_too(self, storage: Storage) -> None:
        """A run whose time has come takes its turn; one whose time has not takes no place."""
        storage.submit([NewRun("timer", "task", b"", limit=ONE, start_at_ms=T0 + 10)], now_ms=T0)
        crowd(storage, "now")

        (lease,) = storage.claim(grant("now"), ANY_TASK, 10, now_ms=T0 + 5).leases
        assert lease.run_id == "now"
        assert claim_ids(storage, "early", now_ms=T0 + 20) == []
        Writer(storage, lease).write(then=Finish(RunStatus.SUCCEEDED, b""), now_ms=T0 + 21)
        assert claim_ids(storage, "then", now_ms=T0 + 22) == ["timer"]

    def test_messages_and_cancellations_wait_for_a_place_too(self, storage: Storage) -> None:
        """What wakes a run puts it in line; its limit holds for whatever it does then."""
        for run_id in "ab":
            crowd(storage, run_id)
            take(storage, run_id).write(then=Suspend(inbox_at_least=1))
        crowd(storage, "holder")
        assert claim_ids(storage, "holder") == ["holder"]
        tell(storage, "message", "a", now_ms=T0 + 1)
        cancel(storage, "b", now_ms=T0 + 2)

        assert claim_ids(storage, "token", now_ms=T0 + 3) == []
        assert header_of(storage, "a").status is RunStatus.PENDING
        holder(storage, "holder").write(then=Yield(), now_ms=T0 + 4)
        assert claim_ids(storage, "a", now_ms=T0 + 5) == ["a"]

    def test_children_are_held_to_their_limits(self, storage: Storage) -> None:
        """A batch spawned in one commit is served as its limit allows."""
        children = tuple(NewRun(f"child-{n}", "child", b"", limit=ONE) for n in range(5))
        begin(storage).write(spawn=children)

        assert len(claim_ids(storage, "token", AnyOf(("child",)))) == 1

    def test_every_run_brings_its_own_number_of_places(self, storage: Storage) -> None:
        """After a change of the limit, old runs wait by the old one and new runs by the new one, in order."""
        crowd(storage, "a", "b", limit=Limit(1))
        crowd(storage, "c", "d", limit=Limit(3), now_ms=T0 + 1)

        assert claim_ids(storage, "first", now_ms=T0 + 2) == ["a"]
        holder(storage, "first").write(then=Finish(RunStatus.SUCCEEDED, b""))
        assert claim_ids(storage, "second", now_ms=T0 + 3) == ["b", "c", "d"]

    def test_a_limit_is_told(self, storage: Storage) -> None:
        """Whoever reads the run sees what it may be waiting for."""
        crowd(storage, "a", limit=Limit(2, "k"))

        assert header_of(storage, "a").limit == Limit(2, "k")
        assert storage.list_runs(RunQuery()).headers[0].limit == Limit(2, "k")

    def test_limits_outlive_the_process(self, storage: Storage) -> None:
        """What is held stays held when the storage is opened again by others."""
        crowd(storage, "a", "b")
        (lease,) = storage.claim(grant("token"), ANY_TASK, 1, now_ms=T0).leases
        other = self.another(storage)

        assert claim_ids(other, "other", now_ms=T0 + 1, worker="worker-2") == []
        Writer(storage, lease).write(then=Yield(), now_ms=T0 + 2)
        assert claim_ids(other, "other", now_ms=T0 + 3, worker="worker-2") == ["b"]
        if other is not storage:
            other.close()
