"""How everything is changed and read: transactions with all that belongs to them, before and after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from flowkit.errors import StorageError
from flowkit.records import Commit, Done, Verdict
from flowkit_disk import keys
from flowkit_disk.blobs import LARGE_BYTES, Blobs, Staged
from flowkit_disk.book import Book
from flowkit_disk.changes import Changes
from flowkit_disk.engine import CHECKPOINT_PAGES, Engine
from flowkit_disk.failures import LockedError, damaged
from flowkit_disk.hints import Hints
from flowkit_disk.lanes import Lanes
from flowkit_disk.logrows import PACKED, Kind, LogRow, Part, pack_commit, pack_many, pack_row
from flowkit_disk.reading import RestlessError
from flowkit_disk.rows import Rows, pages_of
from flowkit_disk.runrow import Place
from flowkit_disk.signals import EPOCH, NOBODY, WATCHERS
from flowkit_disk.wake import WORK, Wake, about_run
from flowkit_disk.workers import Workers

T = TypeVar("T")
_FALSE = False  # `read` of `Cache.add`, by position since names cost


class Ledger:
    """One opened storage, below the protocol."""

    def __init__(self, engine: Engine, blobs: Blobs) -> None:
        directory = engine.directory
        self.engine = engine
        self.blobs = blobs
        self.lanes = Lanes()
        self.hints = Hints()
        self.workers = Workers(directory.workers)
        self.wake = Wake(directory.wake)
        engine.in_child += [self.workers.after_fork_in_child, self.wake.start_afresh, self.hints.clear]
        engine.in_child += [self.lanes.forget_new, self.blobs.after_fork_in_child]

    # ---- changing

    def change(self, payloads: Iterable[bytes], now_ms: int, change: Callable[[Book], T]) -> T:
        """Make one change in one transaction; it may be made twice if the first time failed in doubt.

        Args:
            payloads: those that the change may store.
            now_ms: the time of the change.
            change: makes it, in a book that is written when it returns.
        """
        with self.blobs.staged(payloads) as staged:
            result, book = self.engine.attempt(lambda: self._change_once(staged, now_ms, change))
            staged.committed = True
        self._tell(book.changed, work=book.work)
        return result

    def _change_once(self, staged: Staged, now_ms: int, change: Callable[[Book], T]) -> tuple[T, Book]:
        staged.used.clear()
        with self.engine.lock:
            try:
                with self.engine.writing() as rows:
                    book = Book(rows, self.lanes, staged, now_ms, self.engine.signals.may_know)
                    result = change(book)
                    book.write()
                    self._signal(book)
            except BaseException:
                self.lanes.forget_new()
                self.hints.clear()
                raise
            self.lanes.keep_new()
            self._remember(book)
        return result, book

    def _signal(self, book: Book) -> None:
        """Before the commit: whoever sees the signal too early finds the write lock taken, and waits."""
        if book.work:
            self.engine.signals.next_work()
        for token in book.granted:
            self.engine.signals.note_token(token)

    def _remember(self, book: Book) -> None:
        epoch = self.engine.signals.epoch()
        for run in book.runs():
            if run.place is Place.LEASED and self.workers.holds(run.worker):
                self.hints.remember(run, epoch)
            else:
                self.hints.forget(run.run_id)

    # ---- committing

    def append(self, commit: Commit, now_ms: int, *, at_once: bool = False) -> Done | None:
        """Make a commit that only appends to what we remember of its run; None if it must be looked at closely.

        The hot path: one row in a transaction of its own (D1), refused by the table if anything has happened to the
        run (D4). SQLite leaves the processor's caches cold, so each call and each line here shows.

        Args:
            commit: the commit.
            now_ms: the time.
            at_once: None too if that means to wait for somebody, or for the disk.
        """
        engine, hints = self.engine, self.hints
        if not (engine.lock.try_acquire() if at_once else engine.lock.acquire()):
            return None
        try:
            hint = hints.get(commit.run_id)
            rows = engine.ready()
            if hint is None or rows is None or not hint.fits(commit) or hint.ends_block():
                return None
            value, tag = pack_commit(hint.length, now_ms, commit.commit_id, commit.entries)
            pages = rows.pages + pages_of(value)
            if len(value) > LARGE_BYTES or (at_once and pages >= CHECKPOINT_PAGES):
                return None
            key = keys.entry(hint.number, hint.position + 1)
            if engine.signals.view[EPOCH] != hints.epoch or not rows.add_raw(key, value, None, _FALSE, tag):
                return None
            done = hint.appended(commit, len(value), now_ms)
            watched = engine.signals.view[WATCHERS] != NOBODY  # after the commit: whoever comes later sees its row
            rows.pages = pages
            if pages >= CHECKPOINT_PAGES:
                engine.checkpoint(rows)
        except BaseException as error:
            hints.clear()
            failure = engine.failed(error)
            if isinstance(failure, StorageError) and not isinstance(failure, LockedError):
                return None  # D7: in doubt, so look its id up
            if failure is error:
                raise
            raise failure from error
        finally:
            engine.lock.release()
        if watched:
            self._tell({commit.run_id}, work=False)
        return done

    def commit_in(self, book: Book, commits: Sequence[Commit]) -> list[Verdict]:
        """Make commits of any kind, in the order given, within a transaction (group commit)."""
        changes = Changes(book)
        current = self.hints.epoch == self.engine.signals.epoch()
        return [(self._append_in(book, commit) if current else None) or changes.commit(commit) for commit in commits]

    def _append_in(self, book: Book, commit: Commit) -> Done | None:
        hint = self.hints.get(commit.run_id)
        if hint is None or book.has_read(commit.run_id) or not hint.fits(commit):
            return None
        parts: tuple[Part, ...] = commit.entries
        if book.staged:
            parts = tuple(book.staged.part(entry) for entry in commit.entries)
            value, tag = pack_row(LogRow(Kind.COMMIT, hint.length, book.now_ms, commit.commit_id, parts))
        else:
            value, tag = pack_commit(hint.length, book.now_ms, commit.commit_id, commit.entries)
        if not book.rows.add(keys.entry(hint.number, hint.position + 1), value, tag):
            return None
        if book.staged:
            book.own(parts)
        book.changed.add(commit.run_id)
        size = sum(len(entry) for entry in commit.entries)
        done = hint.appended(commit, size, book.now_ms)  # if the transaction fails, all hints are forgotten
        if hint.block is not None and len(hint.block) == PACKED:
            start = hint.position - PACKED + 1
            book.rows.put(keys.pack(hint.number, start), *pack_many(hint.block_base, hint.block))
            hint.block = None
        return done

    # ---- reading

    def read(self, read: Callable[[Rows], T]) -> T:
        """Read without a lock, or with it if a run does not keep still."""
        try:
            with self.engine.reading() as rows:
                return read(rows)
        except RestlessError:
            pass
        try:
            with self.engine.writing() as rows:
                return read(rows)
        except RestlessError as error:
            raise damaged(self.engine.directory.path, f"a run ({error})") from None

    # ---- telling

    def _tell(self, run_ids: set[str], *, work: bool) -> None:
        """Wake who waits for this. Never an error: it is done, whoever hears of it."""
        try:
            with self.engine.reading_signals() as signals:
                watched = signals.watched()
                if not (work or watched):
                    return
                topics = {about_run(run_id) for run_id in run_ids}
                if work:
                    topics.add(WORK)
                if not self.wake.wake(topics) and watched:
                    signals.unwatch()
                    if self.wake.wake(set()):  # somebody came in between
                        signals.watch()
        except (StorageError, OSError):
            return
