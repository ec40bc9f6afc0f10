"""Contract: whoever waits is woken. Nothing here waits for time to pass; the timeouts only end a broken test."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread

import pytest

from flowkit.errors import StorageError
from flowkit.records import AnyOf, Finish, Limit, NewRun, RunHeader, RunStatus, Suspend, Yield
from flowkit.storage import Storage
from flowkit_testing.contract.base import (
    ANY_TASK,
    T0,
    StorageSuite,
    Writer,
    begin,
    enqueue,
    grant,
    header_of,
    reopen_run,
    take,
    tell,
)

LONG_S = 60.0
GENEROUS_S = 50.0


class Waiter:
    """Calls something that waits, on a thread of its own.

    Args:
        call: what to call; its answer or error is kept.
    """

    def __init__(self, call: Callable[[], RunHeader | None]) -> None:
        self.answer: RunHeader | StorageError | None = None
        self._started = Event()
        self._call = call
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()
        self._started.wait(GENEROUS_S)

    def finished(self) -> bool:
        """Wait for the end of the call; False if it does not come."""
        self._thread.join(GENEROUS_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._started.set()
        try:
            self.answer = self._call()
        except StorageError as error:
            self.answer = error


def work_waiter(storage: Storage, want: AnyOf = ANY_TASK) -> Waiter:
    """Wait for work as an idle worker does."""

    def call() -> None:
        storage.wait_for_work(want, LONG_S)

    return Waiter(call)


class Waiting(StorageSuite):
    """A wake-up may come early, and never late by more than a poll."""

    def test_work_that_is_there_is_not_waited_for(self, storage: Storage) -> None:
        """A ready run answers at once."""
        enqueue(storage, "run")

        storage.wait_for_work(ANY_TASK, LONG_S)

    def test_no_work_until_the_timeout(self, storage: Storage) -> None:
        """The wait ends by itself."""
        storage.wait_for_work(ANY_TASK, 0.01)
        storage.wait_for_work(ANY_TASK, 0)

    def test_a_new_run_wakes(self, storage: Storage) -> None:
        """X1: an idle worker learns of a run that was submitted."""
        waiter = work_waiter(storage)

        enqueue(storage, "run")

        assert waiter.finished()

    def test_a_run_from_another_storage_wakes(self, storage: Storage) -> None:
        """X1: also when another process has submitted it."""
        other = self.another(storage)
        waiter = work_waiter(other)

        enqueue(storage, "run")

        assert waiter.finished()
        other.close()

    @pytest.mark.parametrize("how", ["handed back", "message", "child", "reopened"])
    def test_a_run_that_becomes_ready_wakes(self, storage: Storage, how: str) -> None:
        """Every way back into the line wakes whoever waits there."""
        if how == "message":
            begin(storage).write(then=Suspend(inbox_at_least=1))
            waiter = work_waiter(storage)
            tell(storage, "id")
        elif how == "handed back":
            writer = begin(storage)
            waiter = work_waiter(storage)
            writer.write(then=Yield())
        elif how == "child":
            writer = begin(storage)
            waiter = work_waiter(storage)
            writer.write(spawn=(NewRun("child", "task", b""),))
        else:
            begin(storage).write(then=Finish(RunStatus.FAILED, b""))
            waiter = work_waiter(storage)
            reopen_run(storage)

        assert waiter.finished()

    def test_a_place_that_becomes_free_wakes(self, storage: Storage) -> None:
        """What had no room can be claimed now, though nothing new has become ready."""
        storage.submit([NewRun(run_id, "task", b"", limit=Limit(1)) for run_id in "ab"], now_ms=T0)
        (lease,) = storage.claim(grant("token"), ANY_TASK, 10, now_ms=T0).leases
        assert storage.claim(grant("idle"), ANY_TASK, 10, now_ms=T0).leases == ()
        waiter = work_waiter(storage)

        Writer(storage, lease).write(then=Finish(RunStatus.SUCCEEDED, b""))

        assert waiter.finished()

    def test_closing_wakes_whoever_waits_for_work(self, storage: Storage) -> None:
        """X5: a worker can be stopped at once."""
        waiter = work_waiter(storage)

        storage.close()

        assert waiter.finished()

    def test_several_waiters_are_all_served(self, storage: Storage) -> None:
        """Two idle workers, two runs: neither stays asleep."""
        waiters = [work_waiter(storage, AnyOf((task,))) for task in ("task", "task")]

        enqueue(storage, "a", "b")

        assert all(waiter.finished() for waiter in waiters)

    def test_a_run_that_is_not_there_is_not_waited_for(self, storage: Storage) -> None:
        """None comes at once."""
        assert storage.wait_for_run("unknown", 0, LONG_S) is None

    def test_a_run_that_has_changed_is_not_waited_for(self, storage: Storage) -> None:
        """A revision above the one given is told at once."""
        enqueue(storage, "run")
        header = header_of(storage)

        assert storage.wait_for_run("run", header.revision - 1, LONG_S) == header

    def test_a_run_that_does_not_change(self, storage: Storage) -> None:
        """After the timeout it is told as it is."""
        enqueue(storage, "run")
        header = header_of(storage)

        assert storage.wait_for_run("run", header.revision, 0.01) == header

    def test_a_finish_wakes_whoever_waits_for_the_run(self, storage: Storage) -> None:
        """The result is there when the wait is over."""
        writer = begin(storage)
        revision = header_of(storage).revision
        waiter = Waiter(lambda: storage.wait_for_run("run", revision, LONG_S))

        writer.write(then=Finish(RunStatus.SUCCEEDED, b""))

        assert waiter.finished()
        assert isinstance(waiter.answer, RunHeader)
        assert waiter.answer.status is RunStatus.SUCCEEDED

    def test_everyone_who_waits_for_a_run_is_woken(self, storage: Storage) -> None:
        """Two who ask for the same result both get it."""
        writer = begin(storage)
        revision = header_of(storage).revision
        waiters = [Waiter(lambda: storage.wait_for_run("run", revision, LONG_S)) for _ in range(2)]

        writer.write(then=Finish(RunStatus.SUCCEEDED, b""))

        assert all(waiter.finished() for waiter in waiters)

    def test_a_change_by_another_storage_wakes(self, storage: Storage) -> None:
        """Whoever waits need not be in the process that runs it."""
        other = self.another(storage)
        writer = begin(storage)
        revision = header_of(storage).revision
        waiter = Waiter(lambda: other.wait_for_run("run", revision, LONG_S))

        writer.write(then=Finish(RunStatus.SUCCEEDED, b""))

        assert waiter.finished()
        assert isinstance(waiter.answer, RunHeader)
        other.close()

    def test_other_runs_do_not_end_the_wait(self, storage: Storage) -> None:
        """Only a change of this run counts."""
        writer, other = begin(storage), begin(storage, "other")
        revision = header_of(storage).revision
        waiter = Waiter(lambda: storage.wait_for_run("run", revision, LONG_S))

        other.write(b"noise")
        other.write(then=Finish(RunStatus.SUCCEEDED, b""))
        writer.write(b"news")

        assert waiter.finished()
        assert isinstance(waiter.answer, RunHeader)
        assert waiter.answer.revision > revision

    def test_a_claim_is_a_change(self, storage: Storage) -> None:
        """Whoever waits for a pending run sees it start."""
        enqueue(storage, "run")
        revision = header_of(storage).revision
        waiter = Waiter(lambda: storage.wait_for_run("run", revision, LONG_S))

        take(storage, now_ms=T0)

        assert waiter.finished()

    def test_closing_wakes_whoever_waits_for_a_run(self, storage: Storage) -> None:
        """The wait ends with the header as it is, or with the error that the storage is closed."""
        begin(storage)
        revision = header_of(storage).revision
        waiter = Waiter(lambda: storage.wait_for_run("run", revision, LONG_S))

        storage.close()

        assert waiter.finished()
