"""Failures in the middle of a write: nothing half-written, nothing acknowledged and lost, and it goes on afterwards."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from flowkit.errors import StorageError
from flowkit.records import Commit, Done, Finish, Lease, NewRun, RunStatus
from flowkit_disk import DiskStorage
from flowkit_disk.rows import PRAGMAS

Open = Callable[..., DiskStorage]
Born = Callable[..., Lease]


class Faults:
    """Which statements of any connection are to fail, and how."""

    def __init__(self) -> None:
        self.statement = ""
        self.error: BaseException | None = None
        self.after = False  # fail after it was carried out
        self.times = 0
        self.seen = 0

    def fail(self, statement: str, error: BaseException, *, after: bool = False, times: int = 1) -> None:
        """Let the next statements that begin like this fail."""
        self.statement, self.error, self.after, self.times = statement, error, after, times


class FaultyConnection(sqlite3.Connection):
    """A connection that fails when it is told to."""

    faults: Faults

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:  # noqa: ANN401 # as its base has it
        """Carry out a statement, unless it is to fail."""
        faults = self.faults
        faults.seen += 1
        if not faults.times or not sql.startswith(faults.statement) or faults.error is None:
            return super().execute(sql, parameters)
        faults.times -= 1
        if faults.after:
            super().execute(sql, parameters)
        raise faults.error


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """Make every connection of this test one that can fail."""
    plan = Faults()
    factory = type("Connection", (FaultyConnection,), {"faults": plan})
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=factory))
    yield plan
    plan.times = 0


def entries(storage: DiskStorage, run_id: str = "run") -> tuple[bytes, ...]:
    """The journal of a run."""
    snapshot = storage.load(run_id)
    assert snapshot is not None
    return snapshot.entries


def commit_of(lease: Lease, base: int, *payloads: bytes) -> Commit:
    """A commit that appends."""
    return Commit(lease.run_id, lease.owner, lease.fence, f"c{base}", base, payloads)


BUSY = sqlite3.OperationalError("injected: disk I/O error")


@pytest.mark.parametrize("after", [False, True], ids=["not applied", "applied, answer lost"])
@pytest.mark.parametrize("hot", [True, False], ids=["append", "transaction"])
def test_a_failed_commit_is_made_good(opened: Open, born: Born, faults: Faults, *, after: bool, hot: bool) -> None:
    """D7: the storage opens anew, looks the commit id up, and applies it once."""
    storage = opened()
    lease = born(storage)
    storage.commit([commit_of(lease, 0, b"first")])
    work = [commit_of(lease, 1, b"second")]
    if not hot:
        work = [Commit("run", lease.owner, lease.fence, "end", 1, (b"second",), then=Finish(RunStatus.SUCCEEDED, b""))]
    faults.fail("COMMIT", BUSY, after=after)

    verdicts = storage.commit(work)

    assert faults.times == 0, "the fault was met"
    assert [type(verdict) for verdict in verdicts] == [Done]
    assert entries(storage) == (b"first", b"second")
    opened().submit([NewRun("other", "task", b"")])  # nobody is left in a transaction


@pytest.mark.parametrize("statement", ["BEGIN", "COMMIT", "ROLLBACK", "INSERT INTO Cache", "UPDATE Cache"])
def test_every_change_survives_one_failure(opened: Open, born: Born, faults: Faults, statement: str) -> None:
    """Whatever statement fails, what was asked for happens once."""
    storage = opened()
    for n in range(3):
        faults.fail(statement, sqlite3.OperationalError("injected"))
        lease = born(storage, f"run-{n}")
        faults.fail(statement, sqlite3.OperationalError("injected"))
        assert isinstance(storage.commit([commit_of(lease, 0, b"a")])[0], Done)
        faults.fail(statement, sqlite3.OperationalError("injected"))
        assert isinstance(storage.commit([commit_of(lease, 1, b"b")])[0], Done)
        faults.times = 0
        assert entries(storage, f"run-{n}") == (b"a", b"b")


def test_a_failure_that_stays_is_told(opened: Open, born: Born, faults: Faults) -> None:
    """After the second try the caller hears of it, with the path; and the storage works again afterwards."""
    storage = opened()
    lease = born(storage)
    storage.commit([commit_of(lease, 0, b"first")])
    faults.fail("COMMIT", BUSY, times=10)
    with pytest.raises(StorageError, match=str(storage.path)):
        storage.commit([commit_of(lease, 1, b"second")])
    faults.times = 0
    assert entries(storage) == (b"first",)
    assert isinstance(storage.commit([commit_of(lease, 1, b"second")])[0], Done)


def test_a_queue_that_was_not_stored_is_forgotten(opened: Open, faults: Faults) -> None:
    """What a failed transaction has numbered gets its number again, with its name."""
    storage = opened()
    faults.fail("COMMIT", BUSY, times=2)
    with pytest.raises(StorageError):
        storage.submit([NewRun("run", "first", b"")])
    opened().submit([NewRun("other", "second", b"")])
    storage.submit([NewRun("run", "first", b"")])
    ready = [(count.task, count.ready) for count in opened().stats().queues]
    assert ready == [("first", 1), ("second", 1)]


@pytest.mark.parametrize("statement", ["BEGIN", "SELECT", "INSERT INTO Cache", "COMMIT"])
@pytest.mark.parametrize("after", [False, True])
def test_an_interrupt_leaves_no_transaction_behind(
    opened: Open, born: Born, faults: Faults, statement: str, *, after: bool
) -> None:
    """Ctrl-C at the wrong moment: diskcache would take the next write for a part of a transaction that nobody ends."""
    storage = opened()
    lease = born(storage)
    storage.commit([commit_of(lease, 0, b"first")])
    faults.fail(statement, KeyboardInterrupt(), after=after)
    with pytest.raises(KeyboardInterrupt):
        storage.commit([commit_of(lease, 1, b"second")])
    faults.times = 0

    assert isinstance(storage.commit([commit_of(lease, 1, b"second")])[0], Done)

    other = opened()
    assert entries(other) == (b"first", b"second"), "others see what was acknowledged"
    other.submit([NewRun("other", "task", b"")])


def test_a_full_disk(opened: Open, born: Born, monkeypatch: pytest.MonkeyPatch) -> None:
    """One clear error with the path, nothing half-written, and on it goes when there is room again."""
    monkeypatch.setitem(PRAGMAS, "sqlite_max_page_count", 60)
    storage = opened()
    lease = born(storage)
    written: list[int] = []

    def fill() -> None:
        for base in range(1000):
            storage.commit([commit_of(lease, base, bytes(3000))])
            written.append(base)

    with pytest.raises(StorageError, match=f"{storage.path}: the disk is full"):
        fill()
    assert len(entries(storage)) == len(written)
    monkeypatch.setitem(PRAGMAS, "sqlite_max_page_count", 10_000)
    assert isinstance(storage.commit([commit_of(lease, len(written), b"goes on")])[0], Done)


FULL_LOG = """
import resource, signal
from flowkit.errors import StorageError
lease = born(storage, "run")
limit = os.path.getsize(sys.argv[1] + "/cache.db-wal") + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
base = 0
try:
    while True:
        verdict = write(storage, lease, base, bytes(int(sys.argv[3])))
        assert isinstance(verdict, Done), verdict
        base += 1
except StorageError as error:
    say("failed", error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
say(base, len(storage.load("run").entries))
assert isinstance(write(storage, lease, base, b"goes on"), Done)
say(len(storage.load("run").entries))
storage.close()
"""


@pytest.mark.parametrize(("room", "size"), [(100_000, 2000), (150_000, 200_000)], ids=["row", "file"])
def test_a_file_that_may_not_grow(
    python: Callable[..., subprocess.Popen[str]], opened: Open, room: int, size: int
) -> None:
    """The same where it is the write-ahead log, or the file of a large payload, that finds no room."""
    said, _ = python(FULL_LOG, str(room), str(size)).communicate()
    lines = said.splitlines()
    assert lines[0].startswith("failed disk storage")
    written, stored = map(int, lines[1].split())
    assert written == stored
    assert int(lines[2]) == written + 1
    assert len(entries(opened())) == written + 1


def test_a_failed_checkpoint_loses_nothing(
    opened: Open, born: Born, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write-ahead log keeps what the database does not have yet."""
    monkeypatch.setattr("flowkit_disk.engine.CHECKPOINT_PAGES", 10)
    monkeypatch.setattr("flowkit_disk.ledger.CHECKPOINT_PAGES", 10)
    storage = opened()
    lease = born(storage)
    faults.fail("PRAGMA wal_checkpoint", sqlite3.OperationalError("injected"), times=5)
    for base in range(40):
        assert isinstance(storage.commit([commit_of(lease, base, b"x")])[0], Done)
    assert faults.times < 5
    assert len(entries(storage)) == 40


def test_the_log_is_checkpointed(opened: Open, born: Born, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write-ahead log is used anew from time to time, so it does not grow without bound."""
    monkeypatch.setattr("flowkit_disk.engine.CHECKPOINT_PAGES", 50)
    monkeypatch.setattr("flowkit_disk.ledger.CHECKPOINT_PAGES", 50)
    storage = opened()
    lease = born(storage)
    sizes = []
    for base in range(200):
        storage.commit([commit_of(lease, base, b"x")])
        sizes.append(os.path.getsize(storage.path / "cache.db-wal"))  # noqa: PTH202 # short
    assert sizes[-1] <= 2 * max(sizes[:40])
