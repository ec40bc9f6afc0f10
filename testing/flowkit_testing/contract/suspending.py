"""Contract: how a run waits, and what wakes it."""

# ruff: noqa: PLR2004 - an expected number is its own explanation
from __future__ import annotations

import pytest

from flowkit.records import Delivery, Exactly, Go, RunStatus, Suspend
from flowkit.storage import Storage
from flowkit_testing.contract.base import (
    LEASE_MS,
    T0,
    StorageSuite,
    begin,
    cancel,
    claim_ids,
    grant,
    header_of,
    take,
    tell,
)

LATER = T0 + 60_000


class Suspending(StorageSuite):
    """A run waits for a time, for messages, or for both; no wake-up is lost (rules X1, E1, E4)."""

    def test_a_waiting_run_holds_no_worker(self, storage: Storage) -> None:
        """E1: it is let go of, shows when it wakes, and is not claimable until then."""
        begin(storage).write(b"sleep", then=Suspend(wake_at_ms=LATER))

        header = header_of(storage)
        assert (header.status, header.worker, header.wake_at_ms) == (RunStatus.WAITING, None, LATER)
        assert claim_ids(storage, "early", now_ms=LATER - 1) == []

    def test_a_timer_fires_at_its_time(self, storage: Storage) -> None:
        """E4: a point in time, to the millisecond, and no crash."""
        begin(storage).write(then=Suspend(wake_at_ms=LATER))

        writer = take(storage, now_ms=LATER)

        assert (writer.lease.crashes, header_of(storage).status) == (0, RunStatus.RUNNING)
        assert header_of(storage).wake_at_ms is None

    def test_a_timer_in_the_past_goes_straight_back(self, storage: Storage) -> None:
        """E4: a time that has come while the commit was under way is not waited for."""
        begin(storage).write(then=Suspend(wake_at_ms=T0))

        assert (header_of(storage).status, header_of(storage).wake_at_ms) == (RunStatus.PENDING, None)
        assert claim_ids(storage, "token") == ["run"]

    @pytest.mark.parametrize("wake_at_ms", [None, LATER])
    def test_enough_messages_wake(self, storage: Storage, wake_at_ms: int | None) -> None:
        """E1: the message that makes it enough wakes the run at once, with or without a timer."""
        begin(storage).write(then=Suspend(wake_at_ms=wake_at_ms, inbox_at_least=2))

        tell(storage, "one")
        assert (claim_ids(storage, "early"), header_of(storage).status) == ([], RunStatus.WAITING)
        tell(storage, "two", now_ms=T0 + 1)
        assert (header_of(storage).status, header_of(storage).wake_at_ms) == (RunStatus.PENDING, None)
        assert claim_ids(storage, "token", now_ms=T0 + 1) == ["run"]

    def test_a_duplicate_message_does_not_count(self, storage: Storage) -> None:
        """E5: the same message twice is one message."""
        begin(storage).write(then=Suspend(inbox_at_least=2))

        tell(storage, "one")
        tell(storage, "one")

        assert claim_ids(storage, "token") == []

    def test_messages_that_came_before_count(self, storage: Storage) -> None:
        """X1: a message that arrived while the run was still leased is no lost wake-up."""
        writer = begin(storage)
        tell(storage, "early")

        done = writer.write(then=Suspend(wake_at_ms=LATER, inbox_at_least=1))

        assert done.inbox == 1
        assert (header_of(storage).status, header_of(storage).wake_at_ms) == (RunStatus.PENDING, None)
        assert claim_ids(storage, "token") == ["run"]

    def test_messages_consumed_by_the_commit_do_not_count(self, storage: Storage) -> None:
        """What is taken out of the inbox in the same commit does not wake."""
        writer = begin(storage)
        tell(storage, "early")

        writer.write(consume=("early",), then=Suspend(inbox_at_least=1))

        assert header_of(storage).status is RunStatus.WAITING

    def test_no_messages_asked_for_is_always_enough(self, storage: Storage) -> None:
        """At least none is what every inbox holds."""
        begin(storage).write(then=Suspend(inbox_at_least=0))

        assert claim_ids(storage, "token") == ["run"]

    def test_a_run_that_waits_for_time_only_is_not_woken_by_messages(self, storage: Storage) -> None:
        """They lie in the inbox until the run asks for them (rule E5)."""
        begin(storage).write(then=Suspend(wake_at_ms=LATER))

        assert tell(storage, "event") is Delivery.DELIVERED
        assert (claim_ids(storage, "token"), header_of(storage).inbox) == ([], 1)

    def test_the_timer_of_a_run_woken_by_a_message_is_gone(self, storage: Storage) -> None:
        """A run that was woken early is not claimable a second time when its old timer comes due."""
        begin(storage).write(then=Suspend(wake_at_ms=T0 + 5, inbox_at_least=1))
        tell(storage, "event")
        writer = take(storage)

        assert claim_ids(storage, "thief", now_ms=T0 + 6) == []
        assert claim_ids(storage, "thief", Exactly("run"), now_ms=T0 + 6) == []
        assert storage.claim(grant("asker"), Exactly("run"), 1, now_ms=T0 + 6).next_due_ms == T0 + LEASE_MS
        writer.write(b"on", now_ms=T0 + 6)

    def test_an_old_threshold_does_not_wake_a_later_wait(self, storage: Storage) -> None:
        """Each wait has its own conditions."""
        begin(storage).write(then=Suspend(inbox_at_least=1))
        tell(storage, "first")
        take(storage).write(then=Suspend(wake_at_ms=LATER))

        tell(storage, "second")

        assert claim_ids(storage, "token") == []

    @pytest.mark.parametrize(
        "wait", [Suspend(), Suspend(wake_at_ms=LATER), Suspend(inbox_at_least=3), Suspend(LATER, 3)], ids=str
    )
    def test_cancelling_always_wakes(self, storage: Storage, wait: Suspend) -> None:
        """E2: whatever a run waits for, a cancellation wakes it."""
        begin(storage).write(then=wait)
        assert claim_ids(storage, "early") == []

        assert cancel(storage) is Delivery.DELIVERED

        assert (header_of(storage).status, header_of(storage).cancel) == (RunStatus.PENDING, True)
        assert claim_ids(storage, "token") == ["run"]

    def test_a_cancellation_that_was_heard_does_not_wake_again(self, storage: Storage) -> None:
        """E2: a body that has heard of its cancellation may wait, in a `finally` say, until its time has come."""
        writer = begin(storage)
        cancel(storage)

        writer.write(then=Suspend(wake_at_ms=LATER, cancel_seen=True))

        assert claim_ids(storage, "early") == []
        assert claim_ids(storage, "token", now_ms=LATER) == ["run"]

    def test_a_cancellation_that_came_before_wakes_too(self, storage: Storage) -> None:
        """E2: a mark set while the run was leased is no lost wake-up."""
        writer = begin(storage)
        cancel(storage)

        done = writer.write(then=Suspend(wake_at_ms=LATER))

        assert done.cancel
        assert claim_ids(storage, "token") == ["run"]

    def test_a_woken_run_waits_no_longer_than_others(self, storage: Storage) -> None:
        """A run that goes back to ready stands where its waking put it in line."""
        begin(storage, "woken").write(then=Suspend(inbox_at_least=1))
        begin(storage, "timer").write(then=Suspend(wake_at_ms=T0 + 5))
        tell(storage, "event", "woken", now_ms=T0 + 3)

        assert claim_ids(storage, "token", now_ms=T0 + 9) == ["woken", "timer"]

    def test_sleeping_again_and_again(self, storage: Storage) -> None:
        """E4: each sleep has a timer of its own; the journal grows across them."""
        writer = begin(storage)
        for turn in range(1, 6):
            writer.write(b"turn", then=Suspend(wake_at_ms=T0 + turn * 10), now_ms=T0 + turn * 10 - 5)
            assert claim_ids(storage, f"early-{turn}", now_ms=T0 + turn * 10 - 1) == []
            writer = take(storage, owner=f"turn-{turn}", now_ms=T0 + turn * 10)

        assert writer.length == 5
        writer.write(then=Go())
