"""What diskcache does by default and a store must not: evict, cull, unpickle, spin for ever, lose what was there."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from flowkit.errors import StorageError
from flowkit.records import Commit, Done, Durability, Exactly, Grant, Lease, NewRun, RunQuery
from flowkit_disk import DiskStorage, rows
from flowkit_disk.book import Book
from flowkit_disk.connections import Connections
from flowkit_disk.rows import BytesDisk, Rows

Open = Callable[..., DiskStorage]
Born = Callable[..., Lease]


def pragma(storage: DiskStorage, name: str) -> object:
    """Ask this thread's connection for a PRAGMA."""
    with storage.ledger.engine.reading() as cache:
        return cache._cache._sql(f"PRAGMA {name}").fetchone()[0]  # noqa: SLF001 # diskcache has no public way to ask


def setting(storage: DiskStorage, name: str) -> object:
    """Ask for a setting of diskcache."""
    with storage.ledger.engine.reading() as cache:
        return getattr(cache._cache, name)  # noqa: SLF001 # what is set is what is tested


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eviction_policy", "none"),
        ("cull_limit", 0),
        ("size_limit", 2**62),
        ("statistics", 0),
        ("tag_index", 0),
        ("disk_min_file_size", 2**62),
    ],
)
def test_settings_that_keep_everything(disk: DiskStorage, name: str, value: object) -> None:
    """Each of them alone would let diskcache delete, or move values where nobody syncs them."""
    assert setting(disk, name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [("wal_autocheckpoint", 0), ("mmap_size", 0), ("journal_mode", "wal"), ("auto_vacuum", 0), ("page_size", 2048)],
)
def test_pragmas_hold_in_every_thread(disk: DiskStorage, name: str, value: object) -> None:
    """Each thread has a connection of its own."""
    found: list[object] = []
    thread = Thread(target=lambda: found.append(pragma(disk, name)))
    thread.start()
    thread.join()
    assert [pragma(disk, name), *found] == [value, value]


@pytest.mark.parametrize(("level", "synchronous"), [(Durability.DISK, 2), (Durability.PROCESS, 1)])
def test_the_durability_is_what_was_asked_for(opened: Open, level: Durability, synchronous: int) -> None:
    """D1: FULL survives a power cut, NORMAL a killed process."""
    assert pragma(opened(level), "synchronous") == synchronous


def test_another_process_does_not_lower_the_durability(opened: Open) -> None:
    """D1: diskcache takes the PRAGMAs of a new connection from the file, where another one may have written its own."""
    careful = opened(Durability.DISK)
    opened(Durability.PROCESS)
    found: list[object] = []
    thread = Thread(target=lambda: found.append(pragma(careful, "synchronous")))
    thread.start()
    thread.join()
    assert found == [2]


def test_nothing_is_evicted(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is written beyond the size limit, every row stays."""
    monkeypatch.setitem(rows.KEEP_EVERYTHING, "size_limit", 1)
    storage = DiskStorage(state)
    storage.open()
    storage.submit([NewRun(f"run-{n}", "task", bytes(5000)) for n in range(100)])
    for n in range(20):
        storage.compare_and_set("key", n, bytes(5000))
    assert len(storage.list_runs(RunQuery(), limit=1000).headers) == 100
    assert all(storage.load(f"run-{n}") is not None for n in range(100))
    storage.close()


def test_a_value_overwritten_in_a_transaction_that_fails_is_kept(disk: DiskStorage) -> None:
    """By default diskcache keeps values of 32 KiB in files, and removes the old one whatever becomes of the new."""
    disk.compare_and_set("key", 0, b"o" * 100_000)

    def fail(book: Book) -> None:
        book.rows.put("v|key", b"n" * 100_000)
        raise StorageError("on purpose")

    with pytest.raises(StorageError, match="on purpose"):
        disk.ledger.change((), 0, fail)

    assert disk.get("key") == (b"o" * 100_000, 1)
    assert not list(disk.path.rglob("*.val"))


@pytest.mark.parametrize("how", ["append", "transaction"])
def test_what_is_locked_is_not_retried_for_ever(opened: Open, born: Born, how: str) -> None:
    """`retry=True` would spin; here there is an error after the busy timeout, and nothing was applied."""
    storage = opened(busy_timeout_s=0.05)
    lease = born(storage)
    other = sqlite3.connect(storage.path / "cache.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    spawn = (NewRun("child", "task", b""),) if how == "transaction" else ()
    commit = Commit("run", lease.owner, lease.fence, "c", 0, (b"entry",), spawn=spawn)
    with pytest.raises(StorageError, match="locked"):
        storage.commit([commit])
    other.execute("ROLLBACK")
    other.close()
    snapshot = storage.load("run")
    assert snapshot is not None
    assert snapshot.entries == ()
    assert isinstance(storage.commit([commit])[0], Done)


class Bomb:
    """Unpickling it leaves a trace."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self._target,)


def pickled(target: Path) -> bytes:
    """A pickle that touches a file when it is loaded."""
    import pickle  # noqa: PLC0415, TID251 # the attack needs one

    return pickle.dumps(Bomb(target))


def tamper(storage: DiskStorage, statement: str, *values: object) -> None:
    """Change rows behind diskcache's back."""
    other = sqlite3.connect(storage.path / "cache.db")
    assert other.execute(statement, values).rowcount >= 1
    other.commit()
    other.close()


@pytest.mark.parametrize("mode", [4, 3, 2, 0])
def test_a_tampered_row_reaches_no_pickle(disk: DiskStorage, born: Born, tmp_path: Path, mode: int) -> None:
    """D5, CVE-2025-69872: a row of any other mode is an error, whatever is in it."""
    born(disk)
    trace = tmp_path / "trace"
    tamper(disk, "UPDATE Cache SET mode = ?, value = ? WHERE key = 'r|run'", mode, pickled(trace))
    with pytest.raises(StorageError, match=f"mode {mode}"):
        disk.load("run")
    with pytest.raises(StorageError, match=f"mode {mode}"):
        disk.claim(Grant("worker", "new", 1000), Exactly("run"), 1)
    assert not trace.exists()


def test_a_tampered_file_name_is_neither_read_nor_removed(disk: DiskStorage, born: Born, tmp_path: Path) -> None:
    """A row that names a file outside of the storage does no harm to it, not even when it is written anew."""
    lease = born(disk)
    outside = tmp_path / "precious"
    outside.write_bytes(b"data")
    tamper(disk, "UPDATE Cache SET filename = ? WHERE key = 'r|run'", str(outside))
    with pytest.raises(StorageError, match="mode 1"):
        disk.load("run")
    with disk.ledger.engine.writing() as cache:
        cache.put("r|run", b"anything")
        cache.drop("r|run")
    assert outside.read_bytes() == b"data"
    assert lease.run_id == "run"


@pytest.mark.parametrize("column", ["value", "tag"])
def test_a_tampered_journal_is_an_error(disk: DiskStorage, born: Born, column: str) -> None:
    """What does not hold together is refused, never guessed."""
    lease = born(disk)
    disk.commit([Commit("run", lease.owner, lease.fence, "c", 0, (b"entry",))])
    tamper(disk, f"UPDATE Cache SET {column} = ? WHERE key = 'j|1-11'", b"\xff" if column == "value" else "7 x")  # noqa: S608 # a column of ours
    with pytest.raises(StorageError, match="damaged"):
        disk.load("run")


def test_a_tampered_run_is_an_error(disk: DiskStorage, born: Born) -> None:
    """The row of a run is read with the same care."""
    born(disk)
    tamper(
        disk, "UPDATE Cache SET value = ? WHERE key = 'r|run'", b"\x00\x00\x00\x05\xff\xff\xff\xff\xff\xff\xff\xffhello"
    )
    with pytest.raises(StorageError, match="damaged"):
        disk.load("run")


def test_only_text_and_bytes_are_stored(state: Path) -> None:
    """Whatever diskcache would pickle or write to a file is refused before it is written."""
    state.mkdir()
    cache = Rows(state, 1.0, Connections())
    for key, value in ((1, b""), (("a",), b""), ("a", "text"), ("a", 1), ("a", None), ("a", bytearray(b"x"))):
        with pytest.raises(StorageError, match="keeps bytes under text keys"):
            cache.put(key, value)  # type: ignore[arg-type]  # that is the point
    cache.close()
    disk = BytesDisk(str(state))
    with pytest.raises(StorageError):
        disk.get(b"\x80", raw=False)
    with pytest.raises(StorageError):
        disk.store(b"x", read=True)
