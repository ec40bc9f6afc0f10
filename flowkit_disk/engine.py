"""One opened cache: who may use it when, what happens when it fails, and what becomes of it in a forked child.

Writers hold three things, outermost first: this process's mutex, the lock file (fair among processes, and with a
timeout), and SQLite's own write lock. Readers hold none of them; they are only counted, so that a fork finds no thread
inside SQLite. Whoever holds the mutex must not begin to read: a fork shuts readers out first and takes the mutex then.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from flowkit.errors import FlowkitError, StorageError
from flowkit_disk import failures, forks
from flowkit_disk.connections import Connections
from flowkit_disk.directory import Directory
from flowkit_disk.locks import WriteLock
from flowkit_disk.rows import PRAGMAS, Rows, create, probe
from flowkit_disk.signals import Signals

T = TypeVar("T")

CHECKPOINT_PAGES = 8192  # 16 MiB of write-ahead log


class Engine:
    """The cache of one storage in this process.

    Args:
        directory: where it lies.
        synchronous: SQLite's PRAGMA: 2 survives a power cut, 1 a killed process.
        busy_timeout_s: how long to wait for other processes.
        any_filesystem: open it even where locks do not work.
    """

    def __init__(self, directory: Directory, synchronous: int, busy_timeout_s: float, *, any_filesystem: bool) -> None:
        self.directory = directory
        self.is_open = False
        self.in_child: list[Callable[[], None]] = []  # what else a forked child has to let go of
        self._synchronous = synchronous
        self._busy_timeout_s = busy_timeout_s
        self._any_filesystem = any_filesystem
        self._rows: Rows | None = None
        self._connections = Connections()
        self._signals: Signals | None = None
        self._start_afresh()
        forks.watch(self)

    def _start_afresh(self) -> None:
        self.lock = WriteLock(self.directory.write_lock, self._busy_timeout_s)
        self._gate = forks.Gate()
        self._generation = 0  # of `_rows`
        self._settled = threading.local()  # the generation whose connection this thread has set up

    # ---- opening and closing

    def open(self) -> None:
        """Open the storage, making it if need be.

        Raises:
            StorageError: says what is in the way.
        """
        with self.lock.mutex:
            if self.is_open:
                return
            self.directory.prepare(any_filesystem=self._any_filesystem)
            self.is_open = True
            try:
                with self.lock:
                    self._cache()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Let go of everything. The last one to close leaves a database without a write-ahead log."""
        self._gate.shut()  # nobody may read from a descriptor that is closed and perhaps another file's by now
        try:
            with self.lock.mutex:
                self.is_open = False
                if self._rows is not None or self._connections:
                    with suppress(StorageError), self.lock:  # the last connection checkpoints as it closes
                        self._give_up()
                        self._connections.close_all()
                self._rows = None
                self._close_files()
        finally:
            self._gate.reopen()

    def _close_files(self) -> None:
        self.lock.close_files()
        self._close_signals()

    def _close_signals(self) -> None:
        signals, self._signals = self._signals, None
        if signals is not None:
            signals.close()

    def _cache(self) -> Rows:
        """The cache, opened if it is not, with this thread's connection set up. Under the write lock."""
        if self._rows is None:
            self._require_open()
            self._rows = self._open_cache()
            self._generation += 1
        if getattr(self._settled, "generation", 0) != self._generation:
            self._set_up(self._rows)
            self._connections.close_ownerless()  # as often as threads come; with one just made, none is the last
        return self._rows

    def _open_cache(self) -> Rows:
        try:
            new = self.directory.begin()
            if new:
                create(self.directory.database)
            else:
                probe(self.directory.database, self._busy_timeout_s)
            rows = Rows(self.directory.path, self._busy_timeout_s, self._connections)
            if new:
                rows.checkpoint()  # synced, before the directory says that there is a storage
                self.directory.finish()
        except (sqlite3.Error, OSError) as error:
            raise self._translated(error) from error
        return rows

    def _set_up(self, rows: Rows) -> None:
        # D1: diskcache takes the settings of a new thread's connection from the file, where any process that opens
        # the storage writes its own.
        for name, value in PRAGMAS.items():
            rows.pragma(name, value)
        rows.pragma("sqlite_synchronous", self._synchronous)
        self._settled.generation = self._generation

    def _give_up(self) -> None:
        """Drop the cache; the next use opens a new one.

        A failed BEGIN or COMMIT can leave diskcache, or SQLite, in a transaction that nobody ends.
        """
        rows, self._rows = self._rows, None
        if rows is not None:
            with suppress(sqlite3.Error):
                rows.close()

    # ---- using

    @property
    def signals(self) -> Signals:
        """The numbers shared between processes."""
        if self._signals is None:
            self._require_open()
            try:
                self._signals = Signals(self.directory.signals)
            except OSError as error:
                raise self._translated(error) from error
        return self._signals

    @contextmanager
    def writing(self) -> Iterator[Rows]:
        """One transaction: all of it is kept when the block ends, or nothing if it raises.

        Raises:
            LockedError: nothing was tried.
            StorageError: it failed; whether it was kept is unknown if that happened at the very end.
        """
        self._require_open()
        with self.lock:
            try:
                rows = self._cache()
                with rows.transact():
                    yield rows
            except FlowkitError:
                raise
            except BaseException as error:
                failure = self.failed(error)
                if failure is error:
                    raise
                raise failure from error
            if rows.pages >= CHECKPOINT_PAGES:
                self.checkpoint(rows)

    def failed(self, error: BaseException) -> BaseException:
        """A use of the rows failed: drop the cache. Returns what to raise, the error itself if it is not ours."""
        self._give_up()
        return self._translated(error)

    def ready(self) -> Rows | None:
        """The rows, if this thread can use them at once."""
        return self._rows if getattr(self._settled, "generation", 0) == self._generation else None

    @contextmanager
    def reading(self) -> Iterator[Rows]:
        """Read rows, each by itself: what changes between two reads is for the caller to find out."""
        self._require_open()
        with self._gate:
            try:
                rows = self.ready()
                if rows is None:
                    with self.lock:
                        rows = self._cache()
                yield rows
            except FlowkitError:
                raise
            except (sqlite3.Error, OSError) as error:
                raise self._translated(error) from error

    @contextmanager
    def reading_signals(self) -> Iterator[Signals]:
        """Read the shared numbers, while nobody closes their file."""
        self._require_open()
        with self._gate:
            yield self.signals

    def attempt(self, change: Callable[[], T]) -> T:
        """Make a change that may be asked for twice, and ask again if a failure left doubt about it (rule D7)."""
        try:
            return change()
        except failures.LockedError:
            raise
        except StorageError as error:
            if error.__cause__ is None:  # refused by us: no doubt
                raise
            return change()

    def checkpoint(self, rows: Rows) -> None:
        """Keep the write-ahead log short; under the write lock.

        Up to SQLite 3.51.2 a checkpoint that overlaps a writer can lose commits (its "WAL-reset bug").
        """
        rows.pages = 0
        try:
            rows.checkpoint()
        except sqlite3.Error:  # the log keeps everything; a later write tries again
            self._give_up()

    def _require_open(self) -> None:
        if not self.is_open:
            raise StorageError(f"disk storage {self.directory.path} is not open")

    def _translated(self, error: BaseException) -> BaseException:
        return failures.translate(error, self.directory.path, self._busy_timeout_s)

    # ---- forks

    def before_fork(self) -> None:
        """Lead everyone out of SQLite; readers first, since one of them may want the mutex."""
        self._gate.shut()
        self.lock.mutex.acquire()

    def after_fork_in_parent(self) -> None:
        """Let them in again."""
        self.lock.mutex.release()
        self._gate.reopen()

    def after_fork_in_child(self) -> None:
        """Close what was inherited, without unlocking what the parent holds; the next use opens anew."""
        self._give_up()
        self._connections.close_all()
        self.lock.close_inherited()
        self._close_signals()
        self._start_afresh()
        for let_go in self.in_child:
            let_go()
