"""Contract: one commit is one atomic change of one run."""

# ruff: noqa: PLR2004 - an expected number is its own explanation
from __future__ import annotations

import pytest
from attrs import evolve

from flowkit.records import (
    AnyOf,
    Block,
    Done,
    Fenced,
    Finish,
    Gap,
    Go,
    Limit,
    Missing,
    NewRun,
    RunHeader,
    RunQuery,
    RunStatus,
    Send,
    Suspend,
    Then,
    Yield,
)
from flowkit.storage import Storage
from flowkit_testing.contract.base import (
    LEASE_MS,
    T0,
    StorageSuite,
    begin,
    claim_ids,
    enqueue,
    event,
    header_of,
    reopen_run,
    snapshot_of,
    take,
    tell,
)

END = T0 + LEASE_MS
LETTING_GO = [Yield(), Suspend(wake_at_ms=T0 + 9), Block(b"why"), Finish(RunStatus.FAILED, b"why")]


def done(length: int, now_ms: int = T0) -> Done:
    """The verdict on a commit of a run with nothing in its inbox."""
    return Done(length, cancel=False, inbox=0, now_ms=now_ms)


class Committing(StorageSuite):
    """Applied once, by the owner alone, all of it or nothing (rules D1, D4, D7)."""

    def test_entries_are_appended_in_order(self, storage: Storage) -> None:
        """D1: what was acknowledged is there to read, in the order in which it was written."""
        writer = begin(storage)

        first = writer.write(b"one", b"two", now_ms=T0 + 1)
        second = writer.write(b"three", now_ms=T0 + 2)

        assert (first, second) == (done(2, T0 + 1), done(3, T0 + 2))
        assert snapshot_of(storage).entries == (b"one", b"two", b"three")
        assert (header_of(storage).length, header_of(storage).updated_at_ms) == (3, T0 + 2)

    def test_every_change_raises_the_revision(self, storage: Storage) -> None:
        """Whoever waits for a run sees that something happened."""
        enqueue(storage, "run")
        revisions = [header_of(storage).revision]
        writer = take(storage)
        revisions.append(header_of(storage).revision)
        for then in (Go(), Go(RunStatus.COMPENSATING), Finish(RunStatus.FAILED, b"")):
            writer.write(b"entry", then=then)
            revisions.append(header_of(storage).revision)
        reopen_run(storage)
        revisions.append(header_of(storage).revision)

        assert revisions == sorted(set(revisions))

    def test_no_commits_no_verdicts(self, storage: Storage) -> None:
        """An empty call is allowed."""
        assert storage.commit([], now_ms=T0) == []

    def test_the_same_commit_again_is_applied_once(self, storage: Storage) -> None:
        """D7: a commit whose answer was lost is sent again, and nothing of it happens twice."""
        writer = begin(storage)
        enqueue(storage, "peer")
        tell(storage, "used")
        commit = writer.draft(
            b"one",
            consume=("used",),
            spawn=(NewRun("child", "other", b""),),
            send=(Send("peer", event("hello")),),
        )

        first, again = writer.try_(commit), writer.try_(commit, T0 + 1)

        assert (first, again) == (done(1, T0), done(1, T0 + 1))
        assert snapshot_of(storage).entries == (b"one",)
        assert header_of(storage, "peer").inbox == 1
        assert header_of(storage).updated_at_ms == T0

    def test_the_same_commit_twice_in_one_call(self, storage: Storage) -> None:
        """D7: also when both sendings end up in one batch."""
        writer = begin(storage)
        commit = writer.draft(b"one")

        assert storage.commit([commit, commit], now_ms=T0) == [done(1, T0)] * 2
        assert snapshot_of(storage).entries == (b"one",)

    @pytest.mark.parametrize("then", LETTING_GO, ids=lambda then: type(then).__name__)
    def test_a_commit_that_lets_go_is_done_again(self, storage: Storage, then: Then) -> None:
        """D7: who lost only the answer is not told that the lease was lost."""
        writer = begin(storage)
        commit = writer.draft(b"one", then=then)
        writer.try_(commit)
        before = header_of(storage)

        assert writer.try_(commit) == done(1, T0)
        assert header_of(storage) == before

    def test_the_last_commit_is_done_again_after_a_takeover(self, storage: Storage) -> None:
        """D7, D4: what was applied stays applied; the next write of the zombie is fenced."""
        zombie = begin(storage)
        commit = zombie.draft(b"one")
        zombie.try_(commit)
        take(storage, now_ms=END)

        assert zombie.try_(commit, END) == done(1, END)
        assert zombie.try_(zombie.draft(b"two"), END) == Fenced()

    def test_an_old_commit_again_is_not_applied(self, storage: Storage) -> None:
        """D7: only the last id is remembered; an older one no longer fits the journal."""
        writer = begin(storage)
        old = writer.draft(b"one")
        writer.try_(old)
        writer.write(b"two")

        assert writer.try_(old) == Gap(2)
        assert snapshot_of(storage).entries == (b"one", b"two")

    def test_another_owner_is_fenced(self, storage: Storage) -> None:
        """D4: owner and fence must both be those of the last claim."""
        writer = begin(storage)
        commit = writer.draft(b"one")

        assert writer.try_(evolve(commit, owner="other")) == Fenced()
        assert writer.try_(evolve(commit, fence=commit.fence + 1)) == Fenced()
        assert writer.try_(evolve(commit, fence=commit.fence - 1)) == Fenced()
        assert header_of(storage).length == 0

    @pytest.mark.parametrize("then", LETTING_GO, ids=lambda then: type(then).__name__)
    def test_who_has_let_go_is_fenced(self, storage: Storage, then: Then) -> None:
        """D4: a run that is not leased takes no commit, not even from its last owner."""
        writer = begin(storage)
        writer.write(then=then)
        before = header_of(storage)

        assert writer.try_(writer.draft(b"more")) == Fenced()
        assert header_of(storage) == before

    def test_a_run_never_claimed_takes_no_commit(self, storage: Storage) -> None:
        """D4: no owner, no write."""
        enqueue(storage, "run")
        writer = begin(storage, "other")
        commit = evolve(writer.draft(b"one"), run_id="run")

        assert storage.commit([commit, evolve(commit, owner="", fence=0)], now_ms=T0) == [Fenced(), Fenced()]

    def test_the_owner_from_before_a_reopening_is_fenced(self, storage: Storage) -> None:
        """X2, D4: a run that was reopened belongs to whoever claims it next."""
        zombie = begin(storage)
        zombie.write(then=Finish(RunStatus.FAILED, b"why"))
        reopen_run(storage)

        assert zombie.try_(zombie.draft(b"more")) == Fenced()
        take(storage)
        assert zombie.try_(zombie.draft(b"more")) == Fenced()

    def test_a_journal_of_another_length_is_a_gap(self, storage: Storage) -> None:
        """D4: two writers under one lease cannot both extend the same journal."""
        writer = begin(storage)
        writer.write(b"one", b"two")
        commit = writer.draft(b"three")

        assert storage.commit([evolve(commit, base=1), evolve(commit, base=3)], now_ms=T0) == [Gap(2), Gap(2)]
        assert header_of(storage).length == 2

    def test_a_run_that_is_not_there_is_missing(self, storage: Storage) -> None:
        """A commit creates no run."""
        writer = begin(storage)

        assert writer.try_(evolve(writer.draft(b"one"), run_id="unknown")) == Missing()
        assert storage.load("unknown") is None

    def test_a_refused_commit_changes_nothing(self, storage: Storage) -> None:
        """D4: not its entries, nor its children, messages, receipts or end."""
        writer = begin(storage)
        enqueue(storage, "peer")
        tell(storage, "kept")
        before = snapshot_of(storage).header, header_of(storage, "peer")
        commit = writer.draft(
            b"one",
            consume=("kept", "later"),
            spawn=(NewRun("child", "task", b""),),
            send=(Send("peer", event("hello")),),
            then=Finish(RunStatus.SUCCEEDED, b"result"),
        )

        verdicts = storage.commit([evolve(commit, owner="zombie"), evolve(commit, base=7)], now_ms=T0)

        assert verdicts == [Fenced(), Gap(0)]
        assert (header_of(storage), header_of(storage, "peer")) == before
        assert [message.id for message in snapshot_of(storage).inbox] == ["kept"]
        assert storage.load("child") is None
        assert tell(storage, "later") == "delivered"

    def test_one_bad_commit_does_not_hold_up_the_others(self, storage: Storage) -> None:
        """Each commit of a batch stands for itself, and each verdict at its place."""
        a, b, c, d = (begin(storage, run_id) for run_id in "abcd")
        take(storage, "b", now_ms=END)
        bad_base = evolve(d.draft(b"4"), base=9)

        verdicts = storage.commit([a.draft(b"1"), b.draft(b"2"), c.draft(b"3"), bad_base, a.draft(b"5")], now_ms=END)

        assert verdicts == [done(1, END), Fenced(), done(1, END), Gap(0), Gap(1)]
        assert [header_of(storage, run_id).length for run_id in "abcd"] == [1, 0, 1, 0]

    def test_commits_of_one_run_in_one_call_build_on_each_other(self, storage: Storage) -> None:
        """They are applied in the order given."""
        writer = begin(storage)
        first = writer.draft(b"one")
        second = evolve(writer.draft(b"two", then=Finish(RunStatus.SUCCEEDED, b"")), base=1)
        third = evolve(writer.draft(b"three"), base=2)

        assert storage.commit([first, second, third], now_ms=T0) == [
            done(1, T0),
            done(2, T0),
            Fenced(),
        ]

    def test_a_batch_of_many_runs(self, storage: Storage) -> None:
        """A hundred commits in one call are a hundred answers."""
        writers = [begin(storage, f"run-{n}") for n in range(100)]

        verdicts = storage.commit([writer.draft(b"entry %d" % n) for n, writer in enumerate(writers)], now_ms=T0)

        assert verdicts == [done(1, T0)] * 100
        assert snapshot_of(storage, "run-57").entries == (b"entry 57",)

    def test_status_follows_go(self, storage: Storage) -> None:
        """X6: a run that goes on is running or compensating, as it says."""
        writer = begin(storage)

        writer.write(then=Go(RunStatus.COMPENSATING))
        assert header_of(storage).status is RunStatus.COMPENSATING
        assert [header.run_id for header in self._listed(storage, RunStatus.COMPENSATING)] == ["run"]
        writer.write(then=Go(RunStatus.RUNNING))
        assert header_of(storage).status is RunStatus.RUNNING
        assert self._listed(storage, RunStatus.COMPENSATING) == ()

    def test_children_are_born_with_the_commit(self, storage: Storage) -> None:
        """E3: a spawned run is there, pending and claimable, once the commit is applied."""
        writer = begin(storage)

        writer.write(b"spawned", spawn=tuple(NewRun(f"child-{n}", "task", b"x", parent="run") for n in range(3)))

        assert header_of(storage, "child-1").parent == "run"
        assert header_of(storage, "child-1").created_at_ms == T0
        assert claim_ids(storage, "token") == ["child-0", "child-1", "child-2"]

    def test_a_child_is_all_that_a_submitted_run_is(self, storage: Storage) -> None:
        """E3: queue, priority, tags, parent, journal, start and limit of a child are kept as those of any run."""
        child = NewRun(
            "child",
            "task",
            b"x",
            queue="slow",
            priority=7,
            tags=("vip", "eu"),
            parent="run",
            entries=(b"brought along",),
            start_at_ms=T0 + 5,
            limit=Limit(2, "key"),
        )
        begin(storage).write(spawn=(child,))
        storage.submit([evolve(child, run_id="other")], now_ms=T0)

        spawned, submitted = snapshot_of(storage, "child"), snapshot_of(storage, "other")
        assert spawned == evolve(
            submitted,
            header=evolve(submitted.header, run_id="child", revision=spawned.header.revision),
            now_ms=spawned.now_ms,
        )
        wanted = AnyOf(("task",), ("slow",))
        assert claim_ids(storage, "early", wanted, now_ms=T0) == []
        assert claim_ids(storage, "late", wanted, now_ms=T0 + 5) == ["child", "other"]

    def test_a_child_spawned_twice_exists_once(self, storage: Storage) -> None:
        """E3: an existing run is left as it is, and the commit is applied all the same."""
        writer = begin(storage)
        begin(storage, "child").write(b"progress")

        writer.write(b"again", spawn=(NewRun("child", "other", b"other"), NewRun("child", "other", b"other")))

        assert (header_of(storage, "child").task, header_of(storage, "child").length) == ("task", 1)

    def test_a_delayed_child(self, storage: Storage) -> None:
        """A spawned run may have a start time."""
        begin(storage).write(spawn=(NewRun("child", "task", b"", start_at_ms=T0 + 5),))

        assert claim_ids(storage, "early", now_ms=T0 + 4) == []
        assert claim_ids(storage, "on-time", now_ms=T0 + 5) == ["child"]

    def test_messages_leave_with_the_commit(self, storage: Storage) -> None:
        """E3: what a commit sends has arrived once it is applied, and wakes who waits for it."""
        begin(storage, "peer").write(then=Suspend(inbox_at_least=1))
        writer = begin(storage)

        writer.write(b"sent", send=(Send("peer", event("hello", b"payload")),))

        assert claim_ids(storage, "token") == ["peer"]
        assert snapshot_of(storage, "peer").inbox == (event("hello", b"payload"),)

    def test_a_child_can_be_written_to_at_its_birth(self, storage: Storage) -> None:
        """Children are created before messages are sent."""
        begin(storage).write(spawn=(NewRun("child", "task", b""),), send=(Send("child", event("hello")),))

        assert header_of(storage, "child").inbox == 1

    def test_messages_to_nobody_do_no_harm(self, storage: Storage) -> None:
        """A commit is applied also when whom it writes to is gone, finished, or has the message already."""
        begin(storage, "over").write(then=Finish(RunStatus.SUCCEEDED, b""))
        enqueue(storage, "peer")
        tell(storage, "known", "peer")

        begin(storage).write(b"x", send=tuple(Send(to, event("known")) for to in ("unknown", "over", "peer")))

        assert header_of(storage, "peer").inbox == 1

    def test_a_message_to_itself_counts(self, storage: Storage) -> None:
        """What a commit sends to its own run is in the inbox before the run is let go."""
        done = begin(storage).write(send=(Send("run", event("self")),), then=Suspend(inbox_at_least=1))

        assert done.inbox == 1
        assert claim_ids(storage, "token") == ["run"]

    def test_consumed_messages_leave_the_inbox(self, storage: Storage) -> None:
        """E5: the receipt is part of the commit, and the count follows it."""
        writer = begin(storage)
        for message_id in ("a", "b", "c"):
            tell(storage, message_id)

        done = writer.write(b"received", consume=("b", "a"))

        assert done.inbox == 1
        assert [message.id for message in snapshot_of(storage).inbox] == ["c"]

    def test_what_was_received_elsewhere_never_arrives(self, storage: Storage) -> None:
        """E5: a consumed id that was not in the inbox is taken as received, so a later sending is a duplicate."""
        writer = begin(storage)

        done = writer.write(consume=("early",))

        assert done.inbox == 0
        assert tell(storage, "early") == "duplicate"
        assert header_of(storage).inbox == 0

    @staticmethod
    def _listed(storage: Storage, status: RunStatus) -> tuple[RunHeader, ...]:
        return storage.list_runs(RunQuery(status=status)).headers
