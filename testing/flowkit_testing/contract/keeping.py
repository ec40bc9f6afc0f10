"""Contract: what is forgotten and what is kept: purge, shared values, reopening the storage."""

# ruff: noqa: PLR2004 - an expected number is its own explanation
from __future__ import annotations

from collections.abc import Callable

import pytest

from flowkit.errors import StorageError
from flowkit.records import (
    Block,
    Done,
    Durability,
    Fenced,
    Finish,
    LeaseState,
    Missing,
    NewRun,
    RunQuery,
    RunStatus,
    Suspend,
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
    event,
    grant,
    header_of,
    reopen_run,
    snapshot_of,
    take,
    tell,
)
from flowkit_testing.contract.killing import Killing

DONE = Finish(RunStatus.SUCCEEDED, b"result")
FAR = T0 + 10**9


class Purging(StorageSuite):
    """Finished runs are forgotten when asked, unfinished ones never (rule X3)."""

    def test_finished_runs_are_forgotten(self, storage: Storage) -> None:
        """All of a run goes, and its id is free again."""
        writer = begin(storage)
        writer.write(b"entry", then=DONE, now_ms=T0)

        assert storage.purge(T0 + 1) == 1

        assert storage.load("run") is None
        assert storage.list_runs(RunQuery()).headers == ()
        assert sum(storage.stats().by_status.values()) == 0
        assert writer.try_(writer.draft(b"late")) == Missing()
        assert tell(storage, "id") == "missing"

    def test_an_id_used_again_is_a_new_run(self, storage: Storage) -> None:
        """X3: nothing of the forgotten run shows in the new one: no journal, no messages, no owner."""
        old = begin(storage)
        tell(storage, "id")
        old.write(b"entry", then=DONE)
        storage.purge(FAR)

        begin(storage, owner="new")

        assert (snapshot_of(storage).entries, header_of(storage).inbox) == ((), 0)
        assert tell(storage, "id") == "delivered"
        assert old.try_(old.draft(b"late")) == Fenced()
        assert header_of(storage).length == 0

    def test_only_what_finished_before(self, storage: Storage) -> None:
        """The time itself is not before it."""
        for n in range(3):
            begin(storage, f"run-{n}").write(then=DONE, now_ms=T0 + n)

        assert storage.purge(T0 + 1) == 1
        assert [header.run_id for header in storage.list_runs(RunQuery()).headers] == ["run-2", "run-1"]

    def test_at_most_so_many_oldest_first(self, storage: Storage) -> None:
        """A limit leaves the rest for the next call."""
        for n in (3, 1, 2):
            begin(storage, f"run-{n}").write(then=DONE, now_ms=T0 + n)

        assert storage.purge(FAR, limit=2) == 2
        assert [header.run_id for header in storage.list_runs(RunQuery()).headers] == ["run-3"]
        assert storage.purge(FAR, limit=2) == 1
        assert storage.purge(FAR, limit=2) == 0

    def test_unfinished_runs_are_never_forgotten(self, storage: Storage) -> None:
        """X3: pending, running, waiting, blocked or reopened, however old."""
        enqueue(storage, "pending")
        begin(storage, "running")
        begin(storage, "waiting").write(then=Suspend(inbox_at_least=1))
        begin(storage, "blocked").write(then=Block(b""))

        assert storage.purge(FAR) == 0
        assert len(storage.list_runs(RunQuery()).headers) == 4

    def test_a_reopened_run_is_not_finished(self, storage: Storage) -> None:
        """X3, X2: and once it has ended again, only the second end counts."""
        begin(storage).write(then=Finish(RunStatus.FAILED, b""))
        reopen_run(storage)

        assert storage.purge(FAR) == 0
        take(storage).write(then=DONE, now_ms=T0 + 100)
        assert storage.purge(T0 + 100) == 0
        assert storage.purge(T0 + 101) == 1

    def test_others_keep_their_place(self, storage: Storage) -> None:
        """Forgetting runs changes nothing for the ones around them."""
        for n in range(6):
            writer = begin(storage, f"run-{n}")
            writer.write(b"%d" % n, then=DONE if n % 2 else Suspend(wake_at_ms=T0 + 5))

        assert storage.purge(FAR) == 3
        assert claim_ids(storage, "token", now_ms=T0 + 5) == ["run-0", "run-2", "run-4"]
        assert snapshot_of(storage, "run-4").entries == (b"4",)


class Values(StorageSuite):
    """Small shared values change only from a revision that the writer has seen."""

    def test_a_value_that_is_not_there(self, storage: Storage) -> None:
        """Nothing is None, and its revision is 0."""
        assert storage.get("key") is None
        assert storage.compare_and_set("key", 7, b"value") is None
        assert storage.get("key") is None

    def test_a_value_is_written_from_its_revision(self, storage: Storage) -> None:
        """Each write gives the revision to write from next."""
        first = storage.compare_and_set("key", 0, b"one")
        assert first is not None
        assert storage.get("key") == (b"one", first)
        second = storage.compare_and_set("key", first, b"")
        assert second is not None
        assert second > first
        assert storage.get("key") == (b"", second)

    def test_a_stale_writer_loses(self, storage: Storage) -> None:
        """What another one wrote is not overwritten unseen."""
        first = storage.compare_and_set("key", 0, b"one")
        assert first is not None
        storage.compare_and_set("key", first, b"two")

        assert storage.compare_and_set("key", first, b"three") is None
        assert storage.compare_and_set("key", 0, b"three") is None
        value = storage.get("key")
        assert value is not None
        assert value[0] == b"two"

    def test_keys_are_apart(self, storage: Storage) -> None:
        """A key is no prefix, and no run id."""
        enqueue(storage, "key")
        storage.compare_and_set("key", 0, b"one")

        assert storage.get("ke") is None
        assert storage.get("key2") is None
        assert snapshot_of(storage, "key").input == b"input"


class Opening(StorageSuite):
    """A storage is opened, used, closed; what it has acknowledged is there again."""

    def test_it_is_a_storage(self, storage: Storage) -> None:
        """Every method of the protocol is there."""
        assert isinstance(storage, Storage)

    def test_opening_twice_and_closing_twice_is_harmless(self, storage: Storage) -> None:
        """Both can be said again."""
        enqueue(storage, "run")
        capabilities = storage.open()

        assert capabilities == storage.open()
        assert capabilities.max_value_bytes >= 1024 * 1024
        assert header_of(storage).run_id == "run"
        storage.close()
        storage.close()

    def test_what_is_said_to_survive_is_shown(self, storage: Storage) -> None:
        """D1: a storage that claims to outlive its process is killed as well."""
        claims = storage.open().durability
        shown = isinstance(self, Killing)
        assert shown or claims is Durability.MEMORY, f"it says {claims!r}: subclass DurableStorageContract to show it"

    def test_without_a_time_the_storages_own_clock_counts(self, storage: Storage) -> None:
        """Every call that looks at the clock can do without being told the time, and tells it back."""
        (created,) = storage.submit([NewRun("run", "task", b"", start_at_ms=T0)])
        claimed = storage.claim(grant("token"), ANY_TASK, 1)
        (lease,) = claimed.leases
        writer = Writer(storage, lease)
        (verdict,) = storage.commit([writer.draft(b"one")])
        assert storage.renew("worker-1", [lease], LEASE_MS) == [LeaseState(held=True)]
        assert storage.send("run", event("id")) == "delivered"

        assert isinstance(verdict, Done)
        times = [T0, created.now_ms, claimed.now_ms, verdict.now_ms, snapshot_of(storage).now_ms]
        assert times == sorted(times)

    def test_a_closed_storage_says_so(self, storage: Storage) -> None:
        """One clear error, nothing half-done."""
        writer = begin(storage)
        storage.close()

        calls: list[Callable[[], object]] = [
            lambda: storage.submit([NewRun("new", "task", b"")], now_ms=T0),
            lambda: claim_ids(storage, "token"),
            lambda: writer.try_(writer.draft(b"x")),
            lambda: storage.renew("worker-1", [writer.lease], LEASE_MS, now_ms=T0),
            lambda: tell(storage, "id"),
            lambda: storage.load("run"),
            lambda: storage.list_runs(RunQuery()),
            storage.stats,
            lambda: storage.purge(FAR),
            lambda: storage.get("key"),
            lambda: storage.compare_and_set("key", 0, b""),
        ]
        for call in calls:
            with pytest.raises(StorageError):
                call()

    def test_opened_again_everything_is_there(self, storage: Storage) -> None:
        """D1, X1, E4: journals, leases, timers, inboxes, marks, results, values and the line of the ready."""
        enqueue(storage, "second", "third")
        leased = begin(storage, "leased")
        last = leased.draft(b"one", b"two")
        leased.try_(last)
        tell(storage, "id", "leased")
        begin(storage, "timer").write(then=Suspend(wake_at_ms=T0 + 500))
        begin(storage, "patient").write(then=Suspend(inbox_at_least=1))
        begin(storage, "over").write(then=DONE)
        begin(storage, "stuck").write(then=Block(b"reason"))
        cancel(storage, "leased")
        revision = storage.compare_and_set("key", 0, b"value")
        before = storage.list_runs(RunQuery()).headers

        fresh = self.reopen(storage)
        try:
            assert fresh.list_runs(RunQuery()).headers == before
            assert fresh.get("key") == (b"value", revision)
            assert snapshot_of(fresh, "leased").entries == (b"one", b"two")
            assert [message.id for message in snapshot_of(fresh, "leased").inbox] == ["id"]
            assert (snapshot_of(fresh, "over").result, snapshot_of(fresh, "stuck").result) == (b"result", b"reason")
            assert tell(fresh, "id", "leased") == "duplicate"
            leased.storage = fresh
            assert leased.try_(last) == Done(2, cancel=True, inbox=1, now_ms=T0)  # D7: its id is remembered
            tell(fresh, "wake", "patient", now_ms=T0 + 600)
            claimed = claim_ids(fresh, "token", now_ms=T0 + LEASE_MS, worker="worker-2")
            assert "leased" in claimed  # its place in line is the storage's affair: it may know that the owner is gone
            assert [run_id for run_id in claimed if run_id != "leased"] == ["second", "third", "timer", "patient"]
        finally:
            fresh.close()

    def test_two_storages_on_one_store_see_the_same(self, storage: Storage) -> None:
        """X1, D4: what one process writes the other one reads, claims and is fenced by."""
        other = self.another(storage)
        writer = begin(storage)
        writer.write(b"one")

        assert snapshot_of(other).entries == (b"one",)
        take(other, now_ms=T0 + LEASE_MS, worker="worker-2").write(b"two", now_ms=T0 + LEASE_MS)
        assert snapshot_of(storage).entries == (b"one", b"two")
        assert writer.try_(writer.draft(b"zombie"), T0 + LEASE_MS) == Fenced()
        assert header_of(storage).length == 2
        other.close()
