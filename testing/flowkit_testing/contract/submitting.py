"""Contract: how runs come into being."""

# ruff: noqa: PLR2004 - an expected number is its own explanation
from __future__ import annotations

from flowkit.records import Created, Exists, Finish, NewRun, RunStatus, Yield
from flowkit.storage import Storage
from flowkit_testing.contract.base import (
    LEASE_MS,
    T0,
    StorageSuite,
    begin,
    claim_ids,
    enqueue,
    grant,
    header_of,
    snapshot_of,
    take,
)


class Submitting(StorageSuite):
    """A run id is one run for as long as it is kept (rule X3)."""

    def test_a_new_run_is_pending_and_keeps_what_it_was_given(self, storage: Storage) -> None:
        """A submitted run is there, with everything that was said of it."""
        new = NewRun("run", "task", b"input", queue="q", priority=3, tags=("a", "b"), parent="mother")

        (answer,) = storage.submit([new], now_ms=T0)

        assert answer == Created(None, T0)
        header = header_of(storage)
        assert (header.task, header.queue, header.priority, header.tags, header.parent) == (
            "task",
            "q",
            3,
            ("a", "b"),
            "mother",
        )
        assert (header.status, header.length, header.inbox, header.crashes) == (RunStatus.PENDING, 0, 0, 0)
        assert (header.created_at_ms, header.updated_at_ms) == (T0, T0)
        assert (header.finished_at_ms, header.wake_at_ms, header.worker, header.cancel) == (None, None, None, False)
        assert snapshot_of(storage).input == b"input"
        assert snapshot_of(storage).result is None

    def test_an_existing_run_is_left_alone(self, storage: Storage) -> None:
        """A second run of the same id changes nothing and is told what is there."""
        enqueue(storage, "run")
        before = snapshot_of(storage)

        (answer,) = storage.submit([NewRun("run", "other", b"other", entries=(b"x",))], now_ms=T0 + 5)

        assert isinstance(answer, Exists)
        assert answer.header == before.header
        assert snapshot_of(storage).header == before.header
        assert snapshot_of(storage).input == b"input"

    def test_a_batch_answers_each_run_in_order(self, storage: Storage) -> None:
        """New and existing runs mix in one call, also when it names one id twice."""
        enqueue(storage, "b")

        answers = storage.submit([NewRun(run_id, "task", b"new") for run_id in ("a", "b", "c", "a")], now_ms=T0)

        assert [type(answer) for answer in answers] == [Created, Exists, Created, Exists]
        assert snapshot_of(storage, "b").input == b"input"

    def test_nothing_submitted_is_nothing_answered(self, storage: Storage) -> None:
        """An empty call is allowed."""
        assert storage.submit([], now_ms=T0) == []

    def test_a_fork_brings_its_journal_along(self, storage: Storage) -> None:
        """A run may begin with entries; the first commit goes on after them."""
        storage.submit([NewRun("run", "task", b"", entries=(b"one", b"two"))], now_ms=T0)

        writer = take(storage)
        writer.write(b"three")

        assert writer.length == 3
        assert snapshot_of(storage).entries == (b"one", b"two", b"three")

    def test_a_run_born_claimed_is_nobody_elses(self, storage: Storage) -> None:
        """With a grant the run is leased in the same change that creates it."""
        lease = begin(storage, owner="mine").lease

        assert (lease.run_id, lease.owner, lease.crashes) == ("run", "mine", 0)
        assert (header_of(storage).status, header_of(storage).worker) == (RunStatus.RUNNING, "worker-1")
        assert claim_ids(storage, "other") == []

    def test_born_claimed_and_sent_again_gets_the_same_lease(self, storage: Storage) -> None:
        """D7: a submit whose answer was lost is sent again and is still its own."""
        first = begin(storage, owner="mine")
        header = header_of(storage)

        again = begin(storage, owner="mine", now_ms=T0 + 1)

        assert again.lease == first.lease
        assert header_of(storage) == header

    def test_born_claimed_is_no_ones_but_its_grants(self, storage: Storage) -> None:
        """Another grant for the same id is told that the run exists."""
        begin(storage, owner="mine")

        (answer,) = storage.submit([NewRun("run", "task", b"input", grant=grant("other"))], now_ms=T0)

        assert isinstance(answer, Exists)
        assert answer.header.status is RunStatus.RUNNING

    def test_born_claimed_but_taken_over_is_not_given_back(self, storage: Storage) -> None:
        """D4: a resent submit does not bring a lost lease back."""
        begin(storage, owner="mine")
        take(storage, owner="other", now_ms=T0 + LEASE_MS)

        (answer,) = storage.submit([NewRun("run", "task", b"input", grant=grant("mine"))], now_ms=T0 + LEASE_MS)

        assert isinstance(answer, Exists)

    def test_born_claimed_but_handed_back_is_not_claimed_again(self, storage: Storage) -> None:
        """A resent submit claims nothing: the run waits in its queue."""
        begin(storage, owner="mine").write(then=Yield())

        (answer,) = storage.submit([NewRun("run", "task", b"input", grant=grant("mine"))], now_ms=T0)

        assert isinstance(answer, Exists)
        assert header_of(storage).status is RunStatus.PENDING

    def test_several_runs_may_be_born_under_one_grant(self, storage: Storage) -> None:
        """One grant can own a whole batch."""
        runs = [NewRun(run_id, "task", b"", grant=grant("mine")) for run_id in ("a", "b")]

        answers = storage.submit(runs, now_ms=T0)

        assert [answer.lease.run_id for answer in answers if isinstance(answer, Created) and answer.lease] == ["a", "b"]

    def test_a_finished_run_keeps_its_id(self, storage: Storage) -> None:
        """X3: an id stays taken after the end."""
        begin(storage).write(then=Finish(RunStatus.SUCCEEDED, b"done"))

        (answer,) = storage.submit([NewRun("run", "task", b"again")], now_ms=T0)

        assert isinstance(answer, Exists)
        assert answer.header.status is RunStatus.SUCCEEDED

    def test_a_delayed_run_is_not_claimable_before_its_time(self, storage: Storage) -> None:
        """A start time holds the run back, to the millisecond, and shows in its header."""
        storage.submit([NewRun("run", "task", b"", start_at_ms=T0 + 500)], now_ms=T0)

        assert (header_of(storage).status, header_of(storage).wake_at_ms) == (RunStatus.PENDING, T0 + 500)
        assert claim_ids(storage, "early", now_ms=T0 + 499) == []
        assert claim_ids(storage, "on-time", now_ms=T0 + 500) == ["run"]
        assert header_of(storage).wake_at_ms is None

    def test_a_start_time_that_has_passed_delays_nothing(self, storage: Storage) -> None:
        """A run that should have started already is ready at once."""
        storage.submit([NewRun("run", "task", b"", start_at_ms=T0)], now_ms=T0)

        assert header_of(storage).wake_at_ms is None
        assert claim_ids(storage, "token") == ["run"]

    def test_born_claimed_knows_no_delay(self, storage: Storage) -> None:
        """A grant and a start time: the grant holds, the start time is ignored."""
        storage.submit([NewRun("run", "task", b"", start_at_ms=T0 + 500, grant=grant("mine"))], now_ms=T0)

        assert (header_of(storage).status, header_of(storage).wake_at_ms) == (RunStatus.RUNNING, None)
