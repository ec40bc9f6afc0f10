"""Rows of one diskcache table: text keys, bytes as values, and nothing else (rule D5: no pickle, ever).

This is all that flowkit uses of diskcache, with types.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn, cast

import diskcache
from diskcache.core import DBNAME

from flowkit.errors import StorageError
from flowkit_disk.connections import Connections

# diskcache is a cache: left to itself it evicts, culls, counts, pickles and moves values into unsynced files.
KEEP_EVERYTHING = {
    "eviction_policy": "none",
    "cull_limit": 0,
    "size_limit": 2**62,
    "statistics": 0,
    "tag_index": 0,
    "disk_min_file_size": 2**62,
}
PRAGMAS: dict[str, int | str] = {
    "sqlite_auto_vacuum": 0,
    "sqlite_cache_size": 16_384,  # pages, 32 MiB at most for each thread
    "sqlite_journal_mode": "wal",
    "sqlite_mmap_size": 0,
    "sqlite_wal_autocheckpoint": 0,  # `Engine` checkpoints, under a lock between processes
    "sqlite_synchronous": 1,  # while opening: each setting that is written costs no fsync; `Engine` sets the real one
}
_PAGE = 2048  # half of SQLite's default: rows are small, and every write logs the pages it touches whole
_PAGES_OF_A_ROW = 5  # the table, two indexes, diskcache's counters, and a split now and then
_RAW = 1  # diskcache's mode for a value that lies in its row as it is


class BytesDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache ships no types, so its classes are Any
    """Stores text keys and bytes; refuses whatever would be unpickled, opened or removed as a file."""

    def put(self, key: object) -> tuple[str, bool]:
        """The key as SQLite gets it."""
        if type(key) is not str:
            _refuse(f"a key of type {type(key).__name__}")
        return key, True

    def get(self, key: object, raw: object) -> str:
        """The key as SQLite gave it."""
        if type(key) is not str or not raw:
            _refuse("a key that is not text")
        return key

    def store(self, value: object, read: bool, key: object = None) -> tuple[int, int, None, bytes]:  # noqa: FBT001  # diskcache's signature
        """The columns of a value."""
        if type(value) is not bytes or read:
            _refuse(f"a value of type {type(value).__name__} under {key!r}")
        return 0, _RAW, None, value

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> bytes:  # noqa: FBT001  # diskcache's signature
        """The value in a row."""
        if mode != _RAW or filename is not None or type(value) is not bytes or read:
            _refuse(f"a value of mode {mode!r}")
        return value

    def remove(self, file_path: object) -> None:
        """Remove nothing: no row of ours names a file, so whoever wrote the name is not us."""


class _Cache(diskcache.Cache):  # type: ignore[misc]  # as above
    """A cache whose connections are known to others."""

    def __init__(self, directory: Path, busy_timeout_s: float, connections: Connections) -> None:
        self._connections = connections
        super().__init__(str(directory), busy_timeout_s, BytesDisk, **KEEP_EVERYTHING, **PRAGMAS)

    @property
    def _con(self) -> sqlite3.Connection:
        """This thread's connection. `Engine` sees to its settings, and that no child uses an inherited one."""
        found: sqlite3.Connection | None = getattr(self._local, "con", None)
        if found is None:
            found = self._connections.make(Path(self._directory, DBNAME), self._timeout, self._local)
        return found


class Rows:
    """What one opened cache can do.

    Args:
        directory: where it lies.
        busy_timeout_s: how long SQLite waits for another process.
        connections: where it makes one for each thread, for the caller to close.
    """

    __slots__ = ("_cache", "add_raw", "pages")

    def __init__(self, directory: Path, busy_timeout_s: float, connections: Connections) -> None:
        self.pages = 0  # written since the last checkpoint, roughly
        self._cache = _Cache(directory, busy_timeout_s, connections)
        self.add_raw: Callable[[str, bytes, None, bool, str], bool] = self._cache.add  # key, value, expire, read, tag

    def transact(self) -> AbstractContextManager[None]:
        """One transaction of this thread. Never with `retry`: it would spin on any error for ever."""
        return cast("AbstractContextManager[None]", self._cache.transact(retry=False))

    def get(self, key: str) -> bytes | None:
        """The value of a row."""
        return cast("bytes | None", self._cache.get(key))

    def has(self, key: str) -> bool:
        """Whether there is such a row."""
        return key in self._cache

    def get_tagged(self, key: str) -> tuple[bytes, str] | None:
        """The value and the tag of a row that has one."""
        value, tag = self._cache.get(key, tag=True)
        return None if value is None else (value, _text(tag))

    def add(self, key: str, value: bytes, tag: str) -> bool:
        """Write a row unless there is one; whether it was written. The hot path calls `add_raw` itself."""
        added = self.add_raw(key, value, None, False, tag)  # noqa: FBT003  # diskcache's signature
        self.pages += pages_of(value)
        return added

    def put(self, key: str, value: bytes, tag: str | None = None) -> None:
        """Write a row, or write it anew."""
        self._cache.set(key, value, tag=tag)
        self.pages += pages_of(value)

    def drop(self, key: str) -> bool:
        """Remove a row; whether there was one."""
        return cast("bool", self._cache.delete(key))

    def first(self, name: str) -> tuple[str, bytes] | None:
        """The least row of a list. Takes the write lock."""
        key, value = self._cache.peek(prefix=name)
        return None if key is None else (key, value)

    def last(self, name: str) -> tuple[str, bytes] | None:
        """The greatest row of a list. Takes the write lock."""
        key, value = self._cache.peek(prefix=name, side="back")
        return None if key is None else (key, value)

    def last_tag(self, name: str) -> tuple[str, str] | None:
        """The key and the tag of the greatest row of a list of rows with tags. Takes the write lock."""
        (key, _), tag = self._cache.peek(prefix=name, side="back", tag=True)
        return None if key is None else (key, _text(tag))

    def count(self) -> int:
        """How many rows there are."""
        return len(self._cache)

    def pragma(self, name: str, value: int | str) -> None:
        """Set a PRAGMA for this thread's connection alone."""
        self._cache.reset(name, value, update=False)

    def checkpoint(self) -> None:
        """Move what is in the write-ahead log into the database, as far as nobody reads it."""
        self._cache.reset("sqlite_wal_checkpoint", "PASSIVE", update=False)

    def close(self) -> None:
        """Close this thread's connection."""
        self._cache.close()


def pages_of(value: bytes) -> int:
    """How many pages a row adds to the write-ahead log, roughly."""
    return _PAGES_OF_A_ROW + len(value) // _PAGE


def _text(tag: object) -> str:
    if type(tag) is not str:
        _refuse("a tag that is not text")
    return tag


def _refuse(what: str) -> NoReturn:
    raise StorageError(f"the disk storage keeps bytes under text keys; {what} was not written by flowkit")


def create(database: Path) -> None:
    """Make an empty database: the size of its pages is fixed by whoever comes first.

    Raises:
        sqlite3.Error: as SQLite says.
    """
    connection = sqlite3.connect(database, isolation_level=None)
    try:
        connection.execute(f"PRAGMA page_size = {_PAGE}")
        connection.execute("PRAGMA journal_mode = wal").fetchone()
    finally:
        connection.close()


def probe(database: Path, busy_timeout_s: float) -> None:
    """Look whether SQLite can read and write a file, before diskcache rewrites its settings in it.

    Raises:
        sqlite3.Error: as SQLite says.
    """
    connection = sqlite3.connect(database, timeout=busy_timeout_s, isolation_level=None)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    finally:
        connection.close()
