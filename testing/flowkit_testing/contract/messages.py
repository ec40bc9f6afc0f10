"""Contract: events are kept, cancellations wake, and what has ended can be reopened only as the rules say."""

from __future__ import annotations

import pytest

from flowkit.records import Block, Delivery, Finish, Message, MessageKind, NewRun, RunStatus, Send, Suspend, Then, Yield
from flowkit.storage import Storage
from flowkit_testing.contract.base import (
    LEASE_MS,
    T0,
    StorageSuite,
    begin,
    cancel,
    claim_ids,
    enqueue,
    event,
    header_of,
    reopen_run,
    snapshot_of,
    take,
    tell,
)

FINISHED = [RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED]


class Sending(StorageSuite):
    """A message is received once, in order (rules E2, E3, E5)."""

    def test_messages_are_kept_oldest_first(self, storage: Storage) -> None:
        """E5: an event sent before it is awaited lies in the inbox, whole and in order."""
        enqueue(storage, "run")
        sent = [event(message_id, message_id.encode()) for message_id in ("z", "a", "m")]
        sent.append(Message("child-1", MessageKind.CHILD, "name", b"outcome"))

        answers = [storage.send("run", message, now_ms=T0 + age) for age, message in enumerate(sent)]

        assert answers == [Delivery.DELIVERED] * 4
        assert snapshot_of(storage).inbox == tuple(sent)
        assert (header_of(storage).inbox, header_of(storage).updated_at_ms) == (4, T0 + 3)

    def test_an_inbox_is_kept_whole_however_long(self, storage: Storage) -> None:
        """E5: a thousand messages, large ones among them, are there in order; so are those that are left later."""
        sent = [event(f"message-{number}", b"%d" % number * (1 if number % 7 else 500)) for number in range(1000)]
        writer = begin(storage)
        enqueue(storage, "peer")
        for begins in range(0, len(sent), 250):
            writer.write(send=tuple(Send("peer", message) for message in sent[begins : begins + 250]))
        assert snapshot_of(storage, "peer").inbox == tuple(sent)

        peer, consumed, left = take(storage, "peer"), sent[:400], sent[400:]
        assert peer.write(consume=tuple(message.id for message in consumed)).inbox == len(left)
        tell(storage, "late", "peer")
        assert snapshot_of(storage, "peer").inbox == (*left, event("late"))

    def test_the_same_id_is_received_once(self, storage: Storage) -> None:
        """E5: sent twice, received once, and the first one stays."""
        enqueue(storage, "run")
        storage.send("run", event("id", b"first"), now_ms=T0)
        before = header_of(storage)

        assert storage.send("run", event("id", b"second"), now_ms=T0 + 1) is Delivery.DUPLICATE
        assert snapshot_of(storage).inbox == (event("id", b"first"),)
        assert header_of(storage) == before

    def test_a_consumed_message_is_still_known(self, storage: Storage) -> None:
        """E5: received is received, also after it has been consumed and the run has changed hands."""
        writer = begin(storage)
        tell(storage, "id")
        writer.write(consume=("id",), then=Yield())

        assert tell(storage, "id") is Delivery.DUPLICATE
        take(storage)
        assert tell(storage, "id") is Delivery.DUPLICATE

    def test_ids_are_each_runs_own(self, storage: Storage) -> None:
        """One id sent to two runs is two messages."""
        enqueue(storage, "a", "b")

        assert tell(storage, "id", "a") is Delivery.DELIVERED
        assert tell(storage, "id", "b") is Delivery.DELIVERED

    @pytest.mark.parametrize("kind", list(MessageKind))
    def test_nobody_there(self, storage: Storage, kind: MessageKind) -> None:
        """A message to a run that does not exist is told so, and creates nothing."""
        assert storage.send("unknown", Message("id", kind), now_ms=T0) is Delivery.MISSING
        assert storage.load("unknown") is None

    @pytest.mark.parametrize("status", FINISHED)
    @pytest.mark.parametrize("kind", [MessageKind.EVENT, MessageKind.CHILD, MessageKind.CANCEL])
    def test_a_finished_run_is_closed(self, storage: Storage, status: RunStatus, kind: MessageKind) -> None:
        """X2: nothing reaches a run that has ended."""
        begin(storage).write(then=Finish(status, b"result"))
        before = snapshot_of(storage)

        assert storage.send("run", Message("id", kind), now_ms=T0) is Delivery.CLOSED
        assert snapshot_of(storage).header == before.header

    def test_a_resent_message_is_a_duplicate_even_after_the_end(self, storage: Storage) -> None:
        """D7: whoever lost only the answer is not told that the message came too late."""
        writer = begin(storage)
        tell(storage, "id")
        writer.write(then=Finish(RunStatus.SUCCEEDED, b""))

        assert tell(storage, "id") is Delivery.DUPLICATE

    def test_what_lay_in_the_inbox_is_dropped_at_the_end(self, storage: Storage) -> None:
        """A finished run holds no messages, and its last commit says so."""
        writer = begin(storage)
        tell(storage, "unread")

        done = writer.write(then=Finish(RunStatus.SUCCEEDED, b""))

        assert done.inbox == 0
        assert (snapshot_of(storage).inbox, header_of(storage).inbox) == ((), 0)

    def test_a_blocked_run_keeps_its_messages(self, storage: Storage) -> None:
        """It is not finished: what is sent to it lies there until it is reopened."""
        begin(storage).write(then=Block(b"why"))

        assert tell(storage, "id") is Delivery.DELIVERED
        assert (header_of(storage).status, header_of(storage).inbox) == (RunStatus.BLOCKED, 1)


class Cancelling(StorageSuite):
    """A cancellation is a mark that always wakes (rule E2)."""

    def test_a_running_run_is_told_at_its_next_commit(self, storage: Storage) -> None:
        """The mark is not in the inbox; the run keeps its owner."""
        writer = begin(storage)

        assert cancel(storage) is Delivery.DELIVERED

        header = header_of(storage)
        assert (header.cancel, header.inbox, header.status) == (True, 0, RunStatus.RUNNING)
        assert writer.write(b"entry").cancel

    def test_a_pending_run_stays_claimable(self, storage: Storage) -> None:
        """The core finishes it; the storage only marks it."""
        enqueue(storage, "run")

        cancel(storage)

        assert (header_of(storage).status, header_of(storage).cancel) == (RunStatus.PENDING, True)
        assert claim_ids(storage, "token") == ["run"]
        assert header_of(storage).cancel

    def test_a_delayed_run_is_ready_at_once(self, storage: Storage) -> None:
        """It need not wait for its start time to be ended."""
        storage.submit([NewRun("run", "task", b"", start_at_ms=T0 + 1000)], now_ms=T0)

        cancel(storage)

        assert header_of(storage).wake_at_ms is None
        assert claim_ids(storage, "token") == ["run"]

    def test_a_blocked_run_is_taken_up_again(self, storage: Storage) -> None:
        """It becomes ready, without its reason, so that the core can finish it as cancelled."""
        begin(storage).write(then=Block(b"why"))

        assert cancel(storage) is Delivery.DELIVERED

        assert (snapshot_of(storage).result, header_of(storage).status) == (None, RunStatus.PENDING)
        assert claim_ids(storage, "token") == ["run"]

    def test_a_mark_set_before_blocking_wakes_too(self, storage: Storage) -> None:
        """A cancellation on its way while the run was blocked is no lost wake-up."""
        writer = begin(storage)
        cancel(storage)

        writer.write(then=Block(b"why"))

        assert claim_ids(storage, "token") == ["run"]

    def test_cancelling_twice_is_cancelling_once(self, storage: Storage) -> None:
        """The same request again is a duplicate; another one is taken and changes nothing."""
        begin(storage)

        answers = [cancel(storage), cancel(storage), cancel(storage, message_id="other")]

        assert answers == [Delivery.DELIVERED, Delivery.DUPLICATE, Delivery.DELIVERED]
        assert header_of(storage).cancel

    def test_the_mark_outlives_its_owner(self, storage: Storage) -> None:
        """X1: after a takeover the run is still to be cancelled."""
        begin(storage)
        cancel(storage)

        assert take(storage, now_ms=T0 + LEASE_MS).write(now_ms=T0 + LEASE_MS).cancel


class Ending(StorageSuite):
    """A finished run stays finished; failed and blocked ones can be reopened (rule X2)."""

    @pytest.mark.parametrize("status", FINISHED)
    def test_a_finished_run_keeps_its_outcome(self, storage: Storage, status: RunStatus) -> None:
        """X2: status, result, time and journal are there to read, and nobody can claim it."""
        begin(storage).write(b"last", then=Finish(status, b"outcome"), now_ms=T0 + 7)

        snapshot, header = snapshot_of(storage), header_of(storage)
        assert (header.status, header.finished_at_ms, header.worker) == (status, T0 + 7, None)
        assert (snapshot.result, snapshot.entries) == (b"outcome", (b"last",))
        assert claim_ids(storage, "token", now_ms=T0 + 10 * LEASE_MS) == []

    def test_a_blocked_run_keeps_its_reason(self, storage: Storage) -> None:
        """I3: parked, not finished, and its lease does not run out into a takeover."""
        begin(storage).write(then=Block(b"reason"))

        header = header_of(storage)
        assert (header.status, header.finished_at_ms, header.worker) == (RunStatus.BLOCKED, None, None)
        assert snapshot_of(storage).result == b"reason"
        assert claim_ids(storage, "token", now_ms=T0 + 10 * LEASE_MS) == []

    @pytest.mark.parametrize("then", [Finish(RunStatus.FAILED, b"why"), Block(b"why")], ids=["failed", "blocked"])
    def test_reopening_puts_the_run_back(self, storage: Storage, then: Finish | Block) -> None:
        """X2: it is pending again with its journal, without its result, and finds the request in its inbox."""
        begin(storage).write(b"one", then=then)

        assert reopen_run(storage, now_ms=T0 + 5) is Delivery.DELIVERED

        snapshot, header = snapshot_of(storage), header_of(storage)
        assert (header.status, header.finished_at_ms, header.updated_at_ms) == (RunStatus.PENDING, None, T0 + 5)
        assert (snapshot.result, snapshot.entries) == (None, (b"one",))
        assert snapshot.inbox == (Message("reopen", MessageKind.REOPEN, "retry", b"why"),)
        taker = take(storage)
        taker.write(b"two", consume=("reopen",), then=Finish(RunStatus.SUCCEEDED, b"good"))
        assert snapshot_of(storage).result == b"good"

    def test_reopening_clears_marks_and_crashes(self, storage: Storage) -> None:
        """R4, E2: a person decided to go on, so neither an old cancellation nor old crashes count."""
        begin(storage)
        taker = take(storage, now_ms=T0 + LEASE_MS)
        cancel(storage)
        taker.write(then=Finish(RunStatus.FAILED, b"why"))
        assert (header_of(storage).crashes, header_of(storage).cancel) == (1, True)

        reopen_run(storage)

        assert (header_of(storage).crashes, header_of(storage).cancel) == (0, False)

    def test_reopening_sent_twice_happens_once(self, storage: Storage) -> None:
        """D7: also when the run has failed again in between."""
        begin(storage).write(then=Finish(RunStatus.FAILED, b"why"))
        reopen_run(storage)
        assert reopen_run(storage) is Delivery.DUPLICATE
        take(storage).write(then=Finish(RunStatus.FAILED, b"again"))

        assert reopen_run(storage) is Delivery.DUPLICATE
        assert header_of(storage).status is RunStatus.FAILED
        assert reopen_run(storage, message_id="second") is Delivery.DELIVERED

    @pytest.mark.parametrize("state", ["pending", "running", "waiting", "succeeded", "cancelled"])
    def test_nothing_else_can_be_reopened(self, storage: Storage, state: str) -> None:
        """X2: only failed and blocked runs; the others are left as they are."""
        writer = begin(storage)
        ends: dict[str, Then] = {
            "pending": Yield(),
            "waiting": Suspend(inbox_at_least=1),
            "succeeded": Finish(RunStatus.SUCCEEDED, b""),
            "cancelled": Finish(RunStatus.CANCELLED, b""),
        }
        writer.write(then=ends.get(state))
        before = header_of(storage)

        assert reopen_run(storage) is Delivery.CLOSED
        assert header_of(storage) == before
        assert before.status == state

    def test_a_request_that_found_the_run_closed_may_come_again(self, storage: Storage) -> None:
        """What was not delivered is not a duplicate later."""
        writer = begin(storage)
        assert reopen_run(storage) is Delivery.CLOSED
        writer.write(then=Block(b"why"))

        assert reopen_run(storage) is Delivery.DELIVERED
