"""Contract: who gets which run, and in what order."""

from __future__ import annotations

import pytest

from flowkit.records import AnyOf, Block, Exactly, Finish, NewRun, RunStatus, Suspend, Then, Yield
from flowkit.storage import Storage
from flowkit_testing.contract.base import (
    ANY_TASK,
    LEASE_MS,
    T0,
    StorageSuite,
    begin,
    claim_ids,
    enqueue,
    grant,
    header_of,
    take,
)


class Claiming(StorageSuite):
    """Highest priority, then longest ready, then oldest; only what was asked for (rule X4)."""

    def test_an_empty_storage_has_nothing_to_claim(self, storage: Storage) -> None:
        """No runs, no leases, nothing to wait for."""
        claimed = storage.claim(grant("token"), ANY_TASK, 10, now_ms=T0)

        assert (claimed.leases, claimed.next_due_ms, claimed.now_ms) == ((), None, T0)

    def test_a_claimed_run_is_running_under_its_worker(self, storage: Storage) -> None:
        """A claim makes the token the owner and shows the worker."""
        enqueue(storage, "run")

        (lease,) = storage.claim(grant("token", worker="w"), ANY_TASK, 1, now_ms=T0 + 1).leases

        assert (lease.run_id, lease.owner, lease.crashes) == ("run", "token", 0)
        header = header_of(storage)
        assert (header.status, header.worker, header.updated_at_ms) == (RunStatus.RUNNING, "w", T0 + 1)

    def test_the_longest_ready_comes_first(self, storage: Storage) -> None:
        """First in, first out."""
        for age, run_id in enumerate(("z", "m", "a")):
            enqueue(storage, run_id, now_ms=T0 + age)

        assert claim_ids(storage, "token", now_ms=T0 + 9) == ["z", "m", "a"]

    def test_runs_of_one_moment_come_in_the_order_of_their_creation(self, storage: Storage) -> None:
        """A batch is served in its own order."""
        enqueue(storage, "z", "m", "a", "q")

        assert claim_ids(storage, "token") == ["z", "m", "a", "q"]

    def test_a_higher_priority_comes_first(self, storage: Storage) -> None:
        """Priority goes before age, negative ones last."""
        priorities = {"low": -5, "none": 0, "high": 7, "higher": 1000}
        storage.submit([NewRun(run_id, "task", b"", priority=p) for run_id, p in priorities.items()], now_ms=T0)

        assert claim_ids(storage, "token") == ["higher", "high", "none", "low"]

    def test_order_holds_across_tasks_and_queues(self, storage: Storage) -> None:
        """Several tasks and queues are served as one line."""
        runs = [("a", "t1", "q1", 0), ("b", "t2", "q2", 5), ("c", "t2", "q1", 0), ("d", "t1", "q2", 1)]
        for age, (run_id, task, queue, priority) in enumerate(runs):
            storage.submit([NewRun(run_id, task, b"", queue=queue, priority=priority)], now_ms=T0 + age)

        assert claim_ids(storage, "token", AnyOf(("t1", "t2"), ("q1", "q2")), now_ms=T0 + 9) == ["b", "d", "a", "c"]

    def test_only_wanted_tasks_and_queues_are_claimed(self, storage: Storage) -> None:
        """X4: what a worker does not know it does not get."""
        for task in ("t1", "t2"):
            storage.submit([NewRun(f"{task}-{queue}", task, b"", queue=queue) for queue in ("q1", "q2")], now_ms=T0)

        assert claim_ids(storage, "token", AnyOf(("t1",), ("q2",))) == ["t1-q2"]
        assert claim_ids(storage, "nothing", AnyOf((), ("q1",))) == []
        assert claim_ids(storage, "nowhere", AnyOf(("t1",), ())) == []

    def test_unknown_tasks_do_not_stand_in_the_way(self, storage: Storage) -> None:
        """X4: a known run behind many unknown ones of higher priority is found."""
        storage.submit([NewRun(f"u{n}", f"unknown-{n % 7}", b"", priority=9) for n in range(300)], now_ms=T0)
        enqueue(storage, "known", now_ms=T0 + 1)

        assert claim_ids(storage, "token", limit=1, now_ms=T0 + 1) == ["known"]
        assert header_of(storage, "u0").status is RunStatus.PENDING

    def test_a_name_asked_for_twice_is_served_once(self, storage: Storage) -> None:
        """Repeated tasks and queues change nothing."""
        enqueue(storage, "a", "b")

        assert claim_ids(storage, "token", AnyOf(("task", "task"), ("default", "default"))) == ["a", "b"]

    def test_no_more_than_the_limit(self, storage: Storage) -> None:
        """A claim takes at most what it asked for; the rest stays claimable."""
        enqueue(storage, "a", "b", "c")

        assert claim_ids(storage, "none", limit=0) == []
        assert claim_ids(storage, "two", limit=2) == ["a", "b"]
        assert claim_ids(storage, "rest", limit=2) == ["c"]

    def test_the_same_token_gets_the_same_leases(self, storage: Storage) -> None:
        """D7: a claim whose answer was lost is sent again and takes nothing more."""
        enqueue(storage, "a", "b", "c", "d")
        first = storage.claim(grant("token"), ANY_TASK, 2, now_ms=T0)
        header = header_of(storage, "a")

        again = storage.claim(grant("token"), ANY_TASK, 2, now_ms=T0 + 1)

        assert again.leases == first.leases
        assert header_of(storage, "a") == header
        assert claim_ids(storage, "other") == ["c", "d"]

    def test_a_token_keeps_only_what_it_still_owns(self, storage: Storage) -> None:
        """What a token has handed back or lost is not given to it again while it owns others."""
        enqueue(storage, "a", "b")
        assert claim_ids(storage, "token") == ["a", "b"]
        take(storage, "a", "token").write(then=Finish(RunStatus.SUCCEEDED, b""))
        enqueue(storage, "c")

        assert claim_ids(storage, "token") == ["b"]

    def test_a_token_asked_for_again_after_its_lease_ended_counts_no_crash(self, storage: Storage) -> None:
        """Nobody has taken the run over, so nobody has crashed."""
        enqueue(storage, "run")
        first = storage.claim(grant("token"), ANY_TASK, 1, now_ms=T0)

        again = storage.claim(grant("token"), ANY_TASK, 1, now_ms=T0 + 2 * LEASE_MS)

        assert again.leases == first.leases

    def test_fences_grow_with_every_claim(self, storage: Storage) -> None:
        """D4: each owner of a run has a higher fence than the one before."""
        writer = begin(storage)
        fences = [writer.lease.fence]
        for turn in range(5):
            writer.write(then=Yield())
            writer = take(storage, owner=f"turn-{turn}")
            fences.append(writer.lease.fence)

        assert fences == sorted(set(fences))

    def test_a_run_handed_back_goes_to_the_end_of_the_line(self, storage: Storage) -> None:
        """What has been ready for longer is served before it."""
        enqueue(storage, "a", "b")
        take(storage, "a", now_ms=T0 + 1).write(then=Yield(), now_ms=T0 + 2)

        assert claim_ids(storage, "token", now_ms=T0 + 3) == ["b", "a"]

    def test_timers_and_lost_leases_stand_in_the_same_line(self, storage: Storage) -> None:
        """A due timer is as old as its wake time, a lost run as old as the end of its lease."""
        begin(storage, "lost")  # its lease ends at T0 + LEASE_MS
        begin(storage, "timer").write(then=Suspend(wake_at_ms=T0 + 500))
        enqueue(storage, "early", now_ms=T0 + 400)
        enqueue(storage, "middle", now_ms=T0 + 600)
        enqueue(storage, "late", now_ms=T0 + LEASE_MS + 1)

        assert claim_ids(storage, "token", now_ms=T0 + 2 * LEASE_MS) == ["early", "timer", "middle", "lost", "late"]

    def test_priority_goes_before_everything_for_timers_too(self, storage: Storage) -> None:
        """A timer that has just come due overtakes older runs of lower priority."""
        enqueue(storage, "old")
        storage.submit([NewRun("urgent", "task", b"", priority=1, start_at_ms=T0 + 5)], now_ms=T0)

        assert claim_ids(storage, "token", limit=1, now_ms=T0 + 5) == ["urgent"]

    def test_a_due_run_that_was_not_taken_stays_claimable(self, storage: Storage) -> None:
        """A claim that leaves due runs behind, for its limit, loses none of them."""
        storage.submit([NewRun(run_id, "task", b"", start_at_ms=T0 + 5) for run_id in "abc"], now_ms=T0)

        claimed = [claim_ids(storage, f"t{n}", limit=1, now_ms=T0 + 5) for n in range(4)]

        assert claimed == [["a"], ["b"], ["c"], []]

    def test_a_claim_tells_when_to_come_again(self, storage: Storage) -> None:
        """The next timer or lease among the wanted tasks is known, so that an idle worker can sleep until then."""
        storage.submit([NewRun("later", "task", b"", start_at_ms=T0 + 900)], now_ms=T0)
        storage.submit([NewRun("sooner", "task", b"", start_at_ms=T0 + 300)], now_ms=T0)
        storage.submit([NewRun("unwanted", "other", b"", start_at_ms=T0 + 100)], now_ms=T0)
        begin(storage, "held")

        assert storage.claim(grant("token"), ANY_TASK, 10, now_ms=T0).next_due_ms == T0 + 300

    def test_a_lease_is_something_to_wait_for(self, storage: Storage) -> None:
        """X1: an idle worker knows when another one's lease would end."""
        begin(storage)

        assert storage.claim(grant("token"), ANY_TASK, 10, now_ms=T0).next_due_ms == T0 + LEASE_MS

    def test_exactly_one_run_whatever_its_task_and_queue(self, storage: Storage) -> None:
        """A ready run can be claimed by its id; the others stay."""
        storage.submit([NewRun(run_id, "t", b"", queue="q") for run_id in ("a", "b")], now_ms=T0)

        assert claim_ids(storage, "token", Exactly("b")) == ["b"]
        assert claim_ids(storage, "other", AnyOf(("t",), ("q",))) == ["a"]

    def test_exactly_one_run_again_with_the_same_token(self, storage: Storage) -> None:
        """D7: asked for again it is the same lease, and no other run of the token's."""
        enqueue(storage, "a", "b")
        (first,) = storage.claim(grant("token"), Exactly("a"), 1, now_ms=T0).leases
        (second,) = storage.claim(grant("token"), Exactly("b"), 1, now_ms=T0).leases

        assert storage.claim(grant("token"), Exactly("a"), 1, now_ms=T0).leases == (first,)
        assert storage.claim(grant("token"), Exactly("b"), 1, now_ms=T0).leases == (second,)

    @pytest.mark.parametrize("state", ["unknown", "leased", "waiting", "blocked", "finished"])
    def test_exactly_one_run_that_cannot_be_claimed(self, storage: Storage, state: str) -> None:
        """A run that is not ready, due or left alone is not granted, and not changed."""
        if state != "unknown":
            writer = begin(storage)
            ends: dict[str, Then] = {
                "waiting": Suspend(wake_at_ms=T0 + 10, inbox_at_least=1),
                "blocked": Block(b"why"),
                "finished": Finish(RunStatus.FAILED, b"why"),
            }
            writer.write(then=ends.get(state))
        before = storage.load("run")

        assert claim_ids(storage, "token", Exactly("run"), now_ms=T0 + 9) == []
        after = storage.load("run")
        assert (before and before.header) == (after and after.header)

    def test_exactly_one_run_that_is_due(self, storage: Storage) -> None:
        """A timer's run can be claimed by its id once its time has come, and tells when that is."""
        begin(storage).write(then=Suspend(wake_at_ms=T0 + 10))

        early = storage.claim(grant("early"), Exactly("run"), 1, now_ms=T0 + 9)

        assert (early.leases, early.next_due_ms) == ((), T0 + 10)
        assert claim_ids(storage, "token", Exactly("run"), now_ms=T0 + 10) == ["run"]

    def test_exactly_one_run_whose_owner_is_gone(self, storage: Storage) -> None:
        """X1: a run can be claimed by its id once its lease has ended."""
        begin(storage)

        assert claim_ids(storage, "early", Exactly("run"), now_ms=T0 + LEASE_MS - 1) == []
        assert take(storage, now_ms=T0 + LEASE_MS).lease.crashes == 1

    def test_a_run_claimed_by_id_leaves_its_line(self, storage: Storage) -> None:
        """No run is granted twice."""
        enqueue(storage, "a", "b")
        take(storage, "a")

        assert claim_ids(storage, "token") == ["b"]
