"""What happens rarely: interrupted waits, files that vanish, runs that do not keep still, lists that are long."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from threading import Event, Thread

import pytest

from flowkit.errors import StorageError
from flowkit.records import (
    AnyOf,
    Block,
    Commit,
    Done,
    Exactly,
    Finish,
    Grant,
    Lease,
    Message,
    MessageKind,
    NewRun,
    RunQuery,
    RunStatus,
)
from flowkit_disk import DiskStorage
from flowkit_disk.locks import Queue, WriteLock
from flowkit_disk.logrows import Part
from flowkit_disk.rows import BytesDisk
from flowkit_disk.wake import WORK, Wake
from flowkit_disk.workers import Workers

Open = Callable[..., DiskStorage]
Born = Callable[..., Lease]
ANY = AnyOf(("task",))


def commit(storage: DiskStorage, lease: Lease, base: int, *entries: bytes) -> bool:
    """Append entries."""
    work = Commit(lease.run_id, lease.owner, lease.fence, f"c{base}", base, entries)
    return isinstance(storage.commit([work])[0], Done)


def can_lock(path: Path) -> bool:
    """Whether nobody holds a lock."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


# ---- locks


def test_an_interrupted_wait_does_not_keep_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at the moment when the lock is granted: nobody would let go of it."""
    queue = Queue(tmp_path / "lock")
    wait_for = queue._changed.wait_for  # noqa: SLF001 # the moment cannot be met from outside

    def interrupted(granted: Callable[[], bool], timeout_s: float | None = None) -> bool:
        wait_for(granted, timeout_s)
        if timeout_s is not None:
            raise KeyboardInterrupt
        return True

    monkeypatch.setattr(queue._changed, "wait_for", interrupted)  # noqa: SLF001 # as above
    with pytest.raises(KeyboardInterrupt):
        queue.wait(60)
    assert can_lock(tmp_path / "lock")
    queue.close()


def test_a_queue_that_nobody_used(tmp_path: Path) -> None:
    """It has no thread to end."""
    queue = Queue(tmp_path / "lock")
    queue.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(queue.descriptor)


def test_a_thread_that_holds_the_lock_for_too_long(tmp_path: Path) -> None:
    """Threads of one process wait as processes do."""
    lock = WriteLock(tmp_path / "write.lock", 0.05)
    held, release = Event(), Event()

    def hold() -> None:
        with lock:
            held.set()
            release.wait(60)

    thread = Thread(target=hold)
    thread.start()
    held.wait(60)
    with pytest.raises(StorageError, match="locked"):
        lock.acquire()
    release.set()
    thread.join()
    with lock, lock:
        assert not can_lock(tmp_path / "write.lock")
    assert can_lock(tmp_path / "write.lock")


def test_a_lock_file_that_cannot_be_opened(disk: DiskStorage) -> None:
    """The error names the storage."""
    disk.close()
    (disk.path / "write.lock").unlink()
    (disk.path / "write.lock").mkdir()
    with pytest.raises(StorageError, match=str(disk.path)):
        disk.open()


# ---- workers


def test_a_worker_whose_file_is_removed_as_it_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """X1: a claim elsewhere has just buried a worker of that name: the new one holds a file that others can find."""
    removed: list[str] = []

    def remove_first(descriptor: int, operation: int) -> None:
        if operation == LOCK_SH and not removed:
            (file,) = tmp_path.iterdir()
            removed.append(file.name)
            file.unlink()
        flock(descriptor, operation)

    monkeypatch.setattr("flowkit_disk.workers.flock", remove_first)
    mine, others = Workers(tmp_path), Workers(tmp_path)
    mine.hold("worker")
    assert removed
    assert not others.is_dead("worker")
    assert mine.holds("worker")
    mine.release()
    assert others.is_dead("worker")


def test_a_file_of_a_worker_that_is_removed_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the end there is an error, and nobody is told that the worker lives."""

    def remove(descriptor: int, operation: int) -> None:
        flock(descriptor, operation)
        for file in tmp_path.iterdir():
            file.unlink()

    monkeypatch.setattr("flowkit_disk.workers.flock", remove)
    mine = Workers(tmp_path)
    with pytest.raises(StorageError):
        mine.hold("worker")
    assert not mine.holds("worker")


def test_a_folder_of_workers_that_is_gone(disk: DiskStorage) -> None:
    """Somebody has tidied up: a claim is an error, and nothing is granted that nobody watches."""
    disk.submit([NewRun("run", "task", b"")])
    shutil.rmtree(disk.path / "workers")
    assert not disk.ledger.workers.any_dead()
    assert disk.ledger.workers.is_dead("anyone")
    with pytest.raises(StorageError, match=str(disk.path)):
        disk.claim(Grant("worker", "token", 1000), ANY, 1)
    (disk.path / "workers").mkdir()
    assert len(disk.claim(Grant("worker", "token", 1000), ANY, 1).leases) == 1


# ---- waking


def test_waiting_where_no_socket_can_be_bound(disk: DiskStorage, opened: Open) -> None:
    """It looks for itself now and then."""
    shutil.rmtree(disk.path / "wake")
    assert disk.claim(Grant("worker", "token", 1000), ANY, 1).leases == ()
    waiter = Thread(target=disk.wait_for_work, args=(ANY, 60.0))
    waiter.start()
    opened().submit([NewRun("run", "task", b"")])
    waiter.join(50)
    assert not waiter.is_alive()


def test_more_bytes_than_a_socket_takes(tmp_path: Path) -> None:
    """Whoever does not look is not waited for."""
    wake = Wake(tmp_path)
    with wake.waiter(WORK) as waiter:
        for _ in range(1000):
            wake.wake({WORK})
        for _ in range(100_000):
            waiter.poke()
        wake.wake_mine()
        waiter.wait_for(lambda: True, 60, lambda: 0.0)


def test_a_file_that_is_no_socket(tmp_path: Path) -> None:
    """What lies in `wake/` and cannot be written to is passed over."""
    (tmp_path / "work.1.1").write_text("")
    assert not Wake(tmp_path).wake({WORK})
    (tmp_path / "run-00000000.1.2").write_text("")
    assert Wake(tmp_path).wake({WORK})


def test_many_different_wants(disk: DiskStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was claimed in vain is remembered of so many wants only; the others look again."""
    monkeypatch.setattr("flowkit_disk.storage.SEEN_AT_MOST", 2)
    for n in range(5):
        disk.claim(Grant("worker", f"token-{n}", 1000), AnyOf((f"task-{n}",)), 1)
    disk.wait_for_work(AnyOf(("task-0",)), 60.0)


# ---- reading


def test_a_run_that_does_not_keep_still(
    disk: DiskStorage, opened: Open, born: Born, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some tries it is read under the lock, where nobody can change it."""
    lease = born(disk)
    assert commit(disk, lease, 0, b"x" * 200_000)
    other = opened()
    read, calls = disk.ledger.blobs.read, 0

    def read_and_disturb(part: Part) -> bytes:
        nonlocal calls
        calls += 1
        if calls <= 20:
            other.send("run", Message(f"m{calls}", MessageKind.EVENT))
        return read(part)

    monkeypatch.setattr(disk.ledger.blobs, "read", read_and_disturb)
    snapshot = disk.load("run")
    assert snapshot is not None
    assert (len(snapshot.entries), len(snapshot.inbox)) == (1, 20)


def test_a_row_that_is_missing(disk: DiskStorage, born: Born) -> None:
    """It is an error, not a shorter journal."""
    lease = born(disk)
    assert all(commit(disk, lease, base, b"x") for base in range(3))
    with disk.ledger.engine.writing() as rows:
        rows.drop("j|1-12")
        rows.put("r|run", rows.get("r|run") or b"")
    disk.ledger.hints.clear()
    disk.claim(Grant("other", "token", 1000), Exactly("run"), 1, now_ms=2**42)
    with pytest.raises(StorageError, match="missing"):
        disk.load("run")


@pytest.mark.parametrize("tag", ["'0 1'", "NULL", "'0 5,5'", "'0 x'"])
def test_a_damaged_copy_of_many_rows(disk: DiskStorage, born: Born, tag: str) -> None:
    """A copy is read with the same care as what it copies."""
    lease = born(disk)
    assert all(commit(disk, lease, base, b"x") for base in range(70))
    with disk.ledger.engine.writing() as rows:
        assert rows.has("p|1|1")
        rows._cache._sql(f"UPDATE Cache SET tag = {tag} WHERE key = 'p|1|1'")  # noqa: S608, SLF001 # what a vandal does
    with pytest.raises(StorageError):
        disk.load("run")


def test_a_search_goes_on_where_it_stopped(disk: DiskStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rare tag among many runs: each call looks at so many, and the cursor tells where to go on."""
    monkeypatch.setattr("flowkit_disk.listing.LOOKED_AT_MOST", 7)
    disk.submit([NewRun(f"run-{n}", "task", b"", tags=("rare",) if n in {3, 40} else ()) for n in range(50)])
    found, cursor, pages = [], None, 0
    while True:
        page = disk.list_runs(RunQuery(tag="rare"), cursor, limit=5)
        found += [header.run_id for header in page.headers]
        cursor, pages = page.cursor, pages + 1
        if cursor is None:
            break
    assert found == ["run-40", "run-3"]
    assert pages == 8


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "\N{SUPERSCRIPT TWO}"])
def test_a_cursor_that_is_none(disk: DiskStorage, cursor: str) -> None:
    """Made up by somebody: an error that says so."""
    with pytest.raises(StorageError, match="cursor"):
        disk.list_runs(RunQuery(), cursor)


def test_only_our_keys_come_back() -> None:
    """A key as SQLite gave it is text, or an error."""
    assert BytesDisk("/nowhere").get("key", raw=True) == "key"


# ---- many runs


def test_blocks_of_purged_runs_go(disk: DiskStorage) -> None:
    """X3: what is known of 512 runs goes with the last of them, and numbers are not used again."""
    grant = Grant("worker", "token", 1000)
    runs = [NewRun(f"run-{n}", "task", b"", grant=grant) for n in range(600)]
    disk.submit(runs, now_ms=0)
    disk.submit([NewRun("stays", "task", b"")], now_ms=0)
    then = Finish(RunStatus.SUCCEEDED, b"")
    disk.commit([Commit(run.run_id, "token", 1, "end", 0, then=then) for run in runs], now_ms=1)
    assert disk.purge(2, limit=1000) == 600
    with disk.ledger.engine.reading() as rows:
        assert not rows.has("b-000000000000001")
        assert rows.has("b-000000000000002")
    disk.submit([NewRun("new", "task", b"")], now_ms=3)
    assert [header.run_id for header in disk.list_runs(RunQuery()).headers] == ["new", "stays"]
    assert disk.stats().by_status[RunStatus.PENDING] == 2


def test_more_due_than_one_claim_offers(disk: DiskStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """X1: the next claim goes on, and no run is left out."""
    monkeypatch.setattr("flowkit_disk.claims.OFFERED_AT_MOST", 3)
    disk.submit([NewRun(f"run-{n}", "task", b"", start_at_ms=100 + n) for n in range(10)], now_ms=0)
    found: list[str] = []
    for n in range(10):
        claimed = disk.claim(Grant("worker", f"token-{n}", 1000), ANY, 2, now_ms=200)
        found += [lease.run_id for lease in claimed.leases]
    assert found == [f"run-{n}" for n in range(10)]


def test_a_reason_that_is_replaced(disk: DiskStorage, born: Born) -> None:
    """A run that is blocked twice keeps the last reason, small or large."""
    lease = born(disk)
    for base, reason in enumerate((b"a" * 5000, b"b", b"c" * 5000)):
        work = Commit("run", lease.owner, lease.fence, f"c{base}", 0, then=Block(reason))
        assert isinstance(disk.commit([work])[0], Done)
        snapshot = disk.load("run")
        assert snapshot is not None
        assert snapshot.result == reason
        disk.send("run", Message(f"reopen-{base}", MessageKind.REOPEN))
        (lease,) = disk.claim(Grant("worker", f"token-{base}", 1000), Exactly("run"), 1).leases
        snapshot = disk.load("run")
        assert snapshot is not None
        assert snapshot.result is None
