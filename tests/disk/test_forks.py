"""Forks: the child goes on with connections and locks of its own, and the parent notices nothing."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest

from flowkit.records import AnyOf, Commit, Done, Exactly, Grant, Lease, NewRun
from flowkit_disk import DiskStorage

Open = Callable[..., DiskStorage]
Born = Callable[..., Lease]
LARGE = b"x" * 300_000
Python = Callable[..., subprocess.Popen[str]]


def write(storage: DiskStorage, lease: Lease, base: int, entry: bytes = b"entry") -> bool:
    """Append one entry."""
    commit = Commit(lease.run_id, lease.owner, lease.fence, f"c{base}-of-{os.getpid()}", base, (entry,))
    return isinstance(storage.commit([commit])[0], Done)


def length(storage: DiskStorage, run_id: str) -> int:
    """How long a journal is."""
    snapshot = storage.load(run_id)
    return -1 if snapshot is None else len(snapshot.entries)


def in_child(body: Callable[[], bool]) -> int:
    """Fork, and do something in the child, which ends as its answer says."""
    pid = os.fork()
    if pid:
        return pid
    try:
        code = 0 if body() else 1
    except BaseException as error:  # noqa: BLE001 # the child must not go on as a second test run
        os.write(2, f"in the child: {error!r}\n".encode())
        code = 2
    os._exit(code)


def succeeded(pid: int) -> bool:
    """Wait for a child."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_parent_and_child_both_go_on(disk: DiskStorage, born: Born) -> None:
    """Each writes to runs of its own, and everything is there in the end."""
    lease = born(disk, "parent")
    write(disk, lease, 0)

    def body() -> bool:
        mine = born(disk, "child", "worker-of-child")
        return all(write(disk, mine, base) for base in range(20))

    pid = in_child(body)
    assert all(write(disk, lease, base) for base in range(1, 20))
    assert succeeded(pid)
    assert (length(disk, "parent"), length(disk, "child")) == (20, 20)


@pytest.mark.parametrize("connections", ["mine", "of a thread that has ended", "of a thread that lives", "frozen"])
def test_what_the_child_writes_after_the_parent_has_closed_is_kept(opened: Open, born: Born, connections: str) -> None:
    """A child that leaks a connection it inherited would lose this: SQLite would think that it holds the locks.

    The parent closes the database, which removes the write-ahead log if nobody else holds it open.
    """
    storage = opened()
    ended, stop = Event(), Event()

    def read() -> None:
        length(storage, "run")
        ended.set()
        if connections == "of a thread that lives":
            stop.wait(60)

    thread = Thread(target=read)
    if connections != "mine":
        thread.start()
        ended.wait(60)
    if connections == "frozen":
        thread.join()
        gc.freeze()
    told, tell = os.pipe()
    ready, be_ready = os.pipe()

    def body() -> bool:
        lease = born(storage, "child", "worker-of-child")
        write(storage, lease, 0)
        os.write(be_ready, b"!")
        os.read(told, 1)
        return all(write(storage, lease, base) for base in range(1, 10))

    pid = in_child(body)
    os.read(ready, 1)
    gc.unfreeze()
    stop.set()
    if connections != "mine":
        thread.join()
    storage.close()
    os.write(tell, b"!")
    assert succeeded(pid)
    for descriptor in (told, tell, ready, be_ready):
        os.close(descriptor)
    assert length(opened(), "child") == 10


def test_forks_while_other_threads_read_and_write(disk: DiskStorage, born: Born) -> None:
    """Whenever it happens, no child finds a lock taken or a transaction begun, and nothing is lost."""
    lease = born(disk, "parent")
    stop = Event()
    written: list[int] = []

    def keep_writing() -> None:
        while not stop.is_set():
            assert write(disk, lease, len(written))
            written.append(1)

    def keep_reading() -> None:
        while not stop.is_set():
            length(disk, "parent")

    threads = [Thread(target=keep_writing), Thread(target=keep_reading)]
    for thread in threads:
        thread.start()

    def body(name: str) -> bool:
        mine = born(disk, name, f"worker-of-{name}")
        return write(disk, mine, 0) and length(disk, name) == 1

    for n in range(6):
        assert succeeded(in_child(lambda: body(f"child-{n}")))  # noqa: B023 # called at once
    stop.set()
    for thread in threads:
        thread.join()
    assert length(disk, "parent") == len(written)
    assert all(length(disk, f"child-{n}") == 1 for n in range(6))


def test_a_child_does_not_unlock_its_parent(disk: DiskStorage, opened: Open, born: Born) -> None:
    """X1: the parent's worker is alive after its child has ended."""
    born(disk)
    assert succeeded(in_child(lambda: True))
    assert succeeded(in_child(lambda: disk.load("run") is not None))
    claimed = opened().claim(Grant("other", "token", 1000), AnyOf(("task",)), 1)
    assert claimed.leases == ()


def test_a_child_does_not_keep_its_dead_parent_alive(python: Python, disk: DiskStorage) -> None:
    """X1: a worker is dead when its process is, whatever children it leaves behind."""
    parent = python("""
        born(storage, "run")
        if os.fork() == 0:
            say(os.getpid())
            time.sleep(600)
        os.waitpid(-1, 0)
    """)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert disk.claim(Grant("other", "early", 1000), Exactly("run"), 1).leases == ()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    (lease,) = disk.claim(Grant("other", "token", 1000), Exactly("run"), 1).leases
    assert lease.crashes == 1
    os.kill(child, signal.SIGKILL)


def test_a_lease_shared_with_a_child_is_written_once(disk: DiskStorage, born: Born) -> None:
    """D4: what either of them writes, the other one finds as a gap."""
    lease = born(disk)
    write(disk, lease, 0)
    pid = in_child(lambda: write(disk, lease, 1, b"of the child"))
    assert succeeded(pid)
    assert not write(disk, lease, 1, b"of the parent")
    assert write(disk, lease, 2)
    assert length(disk, "run") == 3


def test_files_made_in_advance_are_the_parents(disk: DiskStorage, born: Born) -> None:
    """Parent and child never write to the same file, even at the same moment."""
    write(disk, born(disk), 0, LARGE)
    told, tell = os.pipe()
    stop, stopped = os.pipe()

    def body() -> bool:
        with disk.ledger.blobs.staged([LARGE]) as staged:
            os.write(tell, staged.names()[0].encode())
            os.read(stop, 1)
        return True

    pid = in_child(body)
    of_child = os.read(told, 100).decode()
    with disk.ledger.blobs.staged([LARGE]) as staged:
        assert staged.names() != [of_child]
    os.write(stopped, b"!")
    assert succeeded(pid)
    for descriptor in (told, tell, stop, stopped):
        os.close(descriptor)


def test_large_payloads_after_a_fork(disk: DiskStorage, born: Born) -> None:
    """Parent and child never write to the same file."""
    lease = born(disk, "parent")
    write(disk, lease, 0, b"a" * 300_000)
    pid = in_child(lambda: write(disk, born(disk, "child", "worker-of-child"), 0, b"c" * 300_000))
    write(disk, lease, 1, b"b" * 300_000)
    assert succeeded(pid)
    for run_id, letters in (("parent", b"ab"), ("child", b"c")):
        snapshot = disk.load(run_id)
        assert snapshot is not None
        assert snapshot.entries == tuple(bytes([letter]) * 300_000 for letter in letters)


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_closed_storage_and_a_fork(state: Path, where: str) -> None:
    """A storage that is not open when its process forks is no trouble, and may be opened in the child."""
    storage = DiskStorage(state)
    if where == "after":
        storage.open()
        storage.close()

    def body() -> bool:
        storage.open()
        storage.submit([NewRun("run", "task", b"")])
        storage.close()
        return True

    assert succeeded(in_child(body))
    storage.open()
    assert length(storage, "run") == 0
    storage.close()


def test_multiprocessing_workers(python: Python, disk: DiskStorage) -> None:
    """A pool of forked workers, each of which uses the storage that was opened before."""
    process = python("""
        from multiprocessing import get_context
        def work(n):
            lease = born(storage, f"run-{n}", f"worker-{n}")
            return all(isinstance(write(storage, lease, base, b"x"), Done) for base in range(5))
        with get_context("fork").Pool(3) as pool:
            say(all(pool.map(work, range(12), chunksize=1)))
    """)
    said, _ = process.communicate()
    assert said == "True\n"
    assert [length(disk, f"run-{n}") for n in range(12)] == [5] * 12
