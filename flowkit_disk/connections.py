"""The SQLite connections of one storage in this process: one for each thread that uses it, all closed by name.

diskcache leaves those of other threads to the garbage collector, since each lies in a cycle with its own cache of
statements. That may be never, or in the middle of a fork.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from pathlib import Path


class Connections:
    """Which connections there are, and which of them nobody can use any more."""

    def __init__(self) -> None:
        self._all: set[sqlite3.Connection] = set()
        self._ownerless: list[sqlite3.Connection] = []

    def __bool__(self) -> bool:
        """Whether any may be open."""
        return bool(self._all)

    def make(self, database: Path, busy_timeout_s: float, owner: threading.local) -> sqlite3.Connection:
        """A connection for this thread, kept in `owner.con`; with the thread, or with `owner`, it becomes ownerless."""
        made = sqlite3.connect(database, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
        self._all.add(made)
        owner.con = made
        owner.sentinel = _Sentinel(made, self._ownerless)
        return made

    def close_ownerless(self) -> None:
        """Close those that nobody can use any more. Under the write lock: the last one to close checkpoints."""
        while self._ownerless:
            connection = self._ownerless.pop()
            self._all.discard(connection)
            _close(connection)

    def close_all(self) -> None:
        """Close all, while nobody is inside SQLite."""
        while self._all:
            _close(self._all.pop())


class _Sentinel:
    """Dies with a thread, or with a cache, and says whose connection it was.

    It closes nothing, since it may die anywhere: a thread that ends must not be inside SQLite while another one forks.
    """

    __slots__ = ("_connection", "_ownerless")

    def __init__(self, connection: sqlite3.Connection, ownerless: list[sqlite3.Connection]) -> None:
        self._connection = connection
        self._ownerless = ownerless

    def __del__(self) -> None:
        self._ownerless.append(self._connection)


def _close(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        connection.close()
