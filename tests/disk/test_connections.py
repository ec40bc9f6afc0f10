"""Connections: one for each thread, closed when the thread has ended or the storage is closed, by us."""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Callable, Iterator
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


def descriptors() -> int:
    """How many files this process has open."""
    return len(list(Path("/dev/fd").iterdir()))


def in_thread(body: Callable[[], object]) -> None:
    """Do something in a thread that ends."""
    thread = Thread(target=body)
    thread.start()
    thread.join()


def test_threads_that_come_and_go_leave_nothing_open(disk: DiskStorage) -> None:
    """However many have used the storage, no more files are open than one of them needs."""
    in_thread(disk.stats)
    in_thread(disk.stats)
    before = descriptors()
    for _ in range(20):
        in_thread(disk.stats)
    assert descriptors() == before


def test_those_of_all_threads_close_with_the_storage(opened: Open, state: Path) -> None:
    """Of threads that have ended and of those that go on; the last one takes the write-ahead log away."""
    before = descriptors()
    storage, read, stop = opened(), Event(), Event()

    def stay() -> None:
        storage.stats()
        read.set()
        stop.wait(60)

    in_thread(storage.stats)
    thread = Thread(target=stay)
    thread.start()
    read.wait(60)
    storage.close()
    assert not list(state.glob("*-wal"))
    assert descriptors() == before
    stop.set()
    thread.join()


def test_a_cache_that_was_given_up_leaves_nothing_open(opened: Open) -> None:
    """Its connections close with the storage, even if the failure still holds it and a thread has not come again."""
    before = descriptors()
    storage, read, stop = opened(), Event(), Event()

    def stay() -> None:
        storage.stats()
        read.set()
        stop.wait(60)

    thread = Thread(target=stay)
    thread.start()
    read.wait(60)
    with pytest.raises(StorageError) as failure, storage.ledger.engine.writing():
        raise sqlite3.OperationalError("disk I/O error")
    storage.close()
    assert failure.value.__cause__
    assert descriptors() == before
    stop.set()
    thread.join()
