"""Contract: reading runs, listing and counting them."""

# ruff: noqa: PLR2004 - an expected number is its own explanation
from __future__ import annotations

import pytest

from flowkit.records import Block, Finish, NewRun, QueueCount, RunQuery, RunStatus, Suspend
from flowkit.storage import Storage
from flowkit_testing.contract.base import T0, StorageSuite, begin, enqueue, header_of, snapshot_of, take, tell


class Loading(StorageSuite):
    """A run is read as it is at one moment, its journal in pages if wanted."""

    def test_a_run_that_is_not_there(self, storage: Storage) -> None:
        """Nothing is None."""
        assert storage.load("unknown") is None

    @pytest.mark.parametrize(
        ("after", "limit", "expected"),
        [
            (0, None, b"abcde"),
            (2, None, b"cde"),
            (0, 2, b"ab"),
            (2, 2, b"cd"),
            (4, 5, b"e"),
            (5, None, b""),
            (9, None, b""),
            (0, 0, b""),
        ],
    )
    def test_the_journal_in_pages(self, storage: Storage, after: int, limit: int | None, expected: bytes) -> None:
        """Entries after a position, at most so many; the header tells the whole length."""
        begin(storage).write(b"a", b"b", b"c", b"d", b"e")

        snapshot = storage.load("run", after, limit)

        assert snapshot is not None
        assert b"".join(snapshot.entries) == expected
        assert snapshot.header.length == 5

    def test_reading_changes_nothing(self, storage: Storage) -> None:
        """A read is no change, of whatever place a run is in."""
        writer = begin(storage)
        tell(storage, "id")
        before = header_of(storage)

        snapshot_of(storage)
        storage.list_runs(RunQuery())
        storage.stats()

        assert header_of(storage) == before
        writer.write(b"still mine")

    def test_a_long_journal(self, storage: Storage) -> None:
        """A thousand entries come back, in order, whole or by page."""
        writer = begin(storage)
        for start in range(0, 1000, 100):
            writer.write(*(b"%d" % n for n in range(start, start + 100)))

        assert snapshot_of(storage).entries == tuple(b"%d" % n for n in range(1000))
        page = storage.load("run", 990, 5)
        assert page is not None
        assert page.entries == tuple(b"%d" % n for n in range(990, 995))


class Listing(StorageSuite):
    """Newest first, in pages that do not shift; counts agree with what is there (rule X4)."""

    def test_newest_first(self, storage: Storage) -> None:
        """By creation, also within one batch."""
        enqueue(storage, "a", "b")
        enqueue(storage, "c", now_ms=T0 + 1)

        page = storage.list_runs(RunQuery())

        assert [header.run_id for header in page.headers] == ["c", "b", "a"]
        assert page.cursor is None
        assert page.headers[0] == header_of(storage, "c")

    def test_nothing_to_list(self, storage: Storage) -> None:
        """An empty page has no next one."""
        page = storage.list_runs(RunQuery(RunStatus.FAILED, "task", "tag"))

        assert (page.headers, page.cursor) == ((), None)

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            (RunQuery(status=RunStatus.PENDING), "ab"),
            (RunQuery(status=RunStatus.WAITING), "c"),
            (RunQuery(status=RunStatus.BLOCKED), "d"),
            (RunQuery(status=RunStatus.FAILED), "e"),
            (RunQuery(status=RunStatus.RUNNING), "f"),
            (RunQuery(status=RunStatus.CANCELLED), ""),
            (RunQuery(task="odd"), "ace"),
            (RunQuery(task="none"), ""),
            (RunQuery(tag="x"), "abc"),
            (RunQuery(tag="y"), "bc"),
            (RunQuery(task="odd", tag="x"), "ac"),
            (RunQuery(RunStatus.PENDING, "odd", "x"), "a"),
        ],
        ids=str,
    )
    def test_narrowed_lists(self, storage: Storage, query: RunQuery, expected: str) -> None:
        """By status, task and tag, and by all of them together."""
        tags = {"a": ("x",), "b": ("x", "y"), "c": ("y", "x")}
        for n, run_id in enumerate("abcdef"):
            task = "even" if n % 2 else "odd"
            storage.submit([NewRun(run_id, task, b"", tags=tags.get(run_id, ()))], now_ms=T0 + n)
        take(storage, "c", now_ms=T0 + 9).write(then=Suspend(inbox_at_least=1))
        take(storage, "d", now_ms=T0 + 9).write(then=Block(b""))
        take(storage, "e", now_ms=T0 + 9).write(then=Finish(RunStatus.FAILED, b""))
        take(storage, "f", now_ms=T0 + 9)

        found = [header.run_id for header in storage.list_runs(query).headers]

        assert found == sorted(expected, reverse=True)

    def test_pages_do_not_shift(self, storage: Storage) -> None:
        """Runs that come in between, or change, neither hide nor repeat a run on the following pages."""
        for n in range(10):
            enqueue(storage, f"run-{n}", now_ms=T0 + n)

        seen: list[str] = []
        cursor = None
        for turn in range(4):
            page = storage.list_runs(RunQuery(), cursor, limit=3)
            seen += [header.run_id for header in page.headers]
            cursor = page.cursor
            enqueue(storage, f"newcomer-{turn}", now_ms=T0 + 20 + turn)
            take(storage, f"run-{turn}", now_ms=T0 + 30)

        assert seen == [f"run-{n}" for n in reversed(range(10))]
        assert cursor is None

    def test_the_pages_of_a_narrowed_list(self, storage: Storage) -> None:
        """A cursor goes on within the same query, and the last page says that it is the last."""
        for n in range(9):
            storage.submit([NewRun(f"run-{n}", f"task-{n % 2}", b"")], now_ms=T0)

        first = storage.list_runs(RunQuery(task="task-0"), limit=3)
        second = storage.list_runs(RunQuery(task="task-0"), first.cursor, limit=3)

        assert [header.run_id for header in first.headers + second.headers] == [f"run-{n}" for n in (8, 6, 4, 2, 0)]
        assert first.cursor is not None
        assert second.cursor is None

    def test_a_full_last_page_is_the_last(self, storage: Storage) -> None:
        """No cursor leads to an empty page."""
        enqueue(storage, "a", "b")

        assert storage.list_runs(RunQuery(), limit=2).cursor is None

    def test_counts_by_status(self, storage: Storage) -> None:
        """Every run is counted once, under the status it shows."""
        enqueue(storage, "a", "b")
        begin(storage, "c")
        begin(storage, "d").write(then=Suspend(inbox_at_least=1))
        begin(storage, "e").write(then=Finish(RunStatus.SUCCEEDED, b""))

        counts = {status: number for status, number in storage.stats().by_status.items() if number}

        assert counts == {
            RunStatus.PENDING: 2,
            RunStatus.RUNNING: 1,
            RunStatus.WAITING: 1,
            RunStatus.SUCCEEDED: 1,
        }

    def test_ready_and_leased_runs_by_queue_and_task(self, storage: Storage) -> None:
        """X4: runs of tasks that nobody knows show up, delayed and leased ones are not ready."""
        for task, queue in (("t1", "q1"), ("t1", "q1"), ("t2", "q1"), ("t1", "q0")):
            number = sum(storage.stats().by_status.values())
            storage.submit([NewRun(f"run-{number}", task, b"", queue=queue)], now_ms=T0)
        storage.submit([NewRun("delayed", "t1", b"", queue="q1", start_at_ms=T0 + 5)], now_ms=T0)
        take(storage, "run-2")

        counts = (QueueCount("q0", "t1", 1), QueueCount("q1", "t1", 2), QueueCount("q1", "t2", 0, leased=1))
        assert storage.stats().queues == counts
