"""Connections: one for each thread, closed when the thread has ended or the storage is closed, by us."""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import pytest

from flowkit.errors import StorageError
from flowkit_disk import DiskStorage

Open = Callable[..., DiskStorage]


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Nothing is closed for us."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def descriptors(state: Path) -> int:
    """How many files of a storage this process has open; what threads of other tests leave open is theirs."""
    open_now = 0
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # it was that of this very list, or some thread has closed it
            open_now += each.readlink().is_relative_to(state)
    return open_now


def in_thread(body: Callable[[], object]) -> None:
    """Do something in a thread that ends."""
    thread = Thread(target=body)
    thread.start()
    thread.join()


@contextmanager
def a_thread_that_stays(storage: DiskStorage) -> Iterator[None]:
    """It has used the storage, and does not end while the block runs."""
    read, stop = Event(), Event()

    def stay() -> None:
        storage.stats()
        read.set()
        stop.wait(60)

    thread = Thread(target=stay)
    thread.start()
    read.wait(60)
    yield
    stop.set()
    thread.join()


def test_threads_that_come_and_go_leave_nothing_open(disk: DiskStorage, state: Path) -> None:
    """However many have used the storage, no more files are open than one of them needs."""
    in_thread(disk.stats)
    in_thread(disk.stats)
    before = descriptors(state)
    assert before
    for _ in range(20):
        in_thread(disk.stats)
    assert descriptors(state) == before


def test_those_of_all_threads_close_with_the_storage(opened: Open, state: Path) -> None:
    """Of threads that have ended and of those that go on; the last one takes the write-ahead log away."""
    before = descriptors(state)
    storage = opened()
    in_thread(storage.stats)
    with a_thread_that_stays(storage):
        storage.close()
        assert not list(state.glob("*-wal"))
        assert descriptors(state) == before


def test_a_cache_that_was_given_up_leaves_nothing_open(opened: Open, state: Path) -> None:
    """Its connections close with the storage, even if the failure still holds it and a thread has not come again."""
    before = descriptors(state)
    storage = opened()
    with a_thread_that_stays(storage):
        with pytest.raises(StorageError) as failure, storage.ledger.engine.writing():
            raise sqlite3.OperationalError("disk I/O error")
        storage.close()
        assert failure.value.__cause__
        assert descriptors(state) == before
