"""The disk storage: what the `Storage` protocol asks for, as changes and readings of a ledger."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from flowkit.clock import system_now_ms
from flowkit.errors import ConfigurationError
from flowkit.payloads import SizeLimit, payloads_of, payloads_of_run
from flowkit.records import (
    AnyOf,
    Capabilities,
    Claimed,
    Commit,
    Counts,
    Created,
    Delivery,
    Done,
    Durability,
    Exactly,
    Exists,
    Grant,
    Lease,
    LeaseState,
    Message,
    NewRun,
    Page,
    RunHeader,
    RunQuery,
    Send,
    Snapshot,
    Submitted,
    Verdict,
    Want,
)
from flowkit_disk import claims, keys, listing, purging, values
from flowkit_disk.blobs import Blobs
from flowkit_disk.book import Book, extent
from flowkit_disk.changes import Changes
from flowkit_disk.directory import Directory
from flowkit_disk.engine import Engine
from flowkit_disk.ledger import Ledger
from flowkit_disk.reading import read_header, read_snapshot
from flowkit_disk.url import absolute, parse
from flowkit_disk.wake import WORK, about_run

LIMIT = SizeLimit("disk")
_SYNCHRONOUS = {Durability.DISK: 2, Durability.PROCESS: 1}  # SQLite's FULL and NORMAL
SEEN_AT_MOST = 100


def disk_storage(url: str) -> DiskStorage:
    """Make the storage that a `disk:` URL names (not opened yet).

    Args:
        url: `disk:PATH`, with `?durability=process` for writes that survive a killed process but not a power cut, and
            `?unsafe_filesystem=1` for a file system that flowkit refuses otherwise.

    Raises:
        ConfigurationError: names what is wrong in the URL and says what to write.
    """
    location = parse(url)
    return DiskStorage(location.path, durability=location.durability, unsafe_filesystem=location.any_filesystem)


class DiskStorage:
    """Keeps runs in a directory, for any number of processes of one machine.

    Args:
        path: the directory; made when the storage is opened.
        durability: `DISK` survives a power cut, `PROCESS` a killed process.
        unsafe_filesystem: open it even on a file system on which several processes may lose data.
        busy_timeout_s: how long to wait for other processes before a call fails.

    Every method may be called from any thread; a forked child may go on using it, and opens it anew by itself.

    Raises:
        ConfigurationError: for a durability that a directory cannot have.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = Durability.DISK,
        unsafe_filesystem: bool = False,
        busy_timeout_s: float = 10.0,
    ) -> None:
        if durability not in _SYNCHRONOUS:
            raise ConfigurationError(f"a disk storage cannot be {durability.value!r}; choose 'disk' or 'process'")
        self._durability = durability
        self._prompt = durability is Durability.PROCESS
        directory = Directory(absolute(path))
        self.path = directory.path  # where it lies
        engine = self._engine = Engine(
            directory, _SYNCHRONOUS[durability], busy_timeout_s, any_filesystem=unsafe_filesystem
        )
        blobs = Blobs(directory.blobs, directory.blob_lock, synced=durability is Durability.DISK)
        self.ledger = Ledger(engine, blobs)  # below the protocol: for tests and tools
        self._seen: dict[AnyOf, bytes] = {}  # what the work signal was when a claim found no more

    def __repr__(self) -> str:
        return f"DiskStorage({str(self.path)!r}, durability={self._durability.value!r})"

    def open(self) -> Capabilities:
        """Get ready for use, making the directory if need be.

        Raises:
            StorageError: it is locked, read-only, damaged, on a network, of a newer version, or not flowkit's.
        """
        self._engine.open()
        with self._engine.reading() as rows:
            self.ledger.blobs.sweep(lambda name: rows.has(keys.blob(name)))
        return Capabilities(self._durability, LIMIT.max_bytes)

    def close(self) -> None:
        """Let go of everything; what is leased to this storage's workers may be claimed at once."""
        self.ledger.blobs.close()
        self._engine.close()
        self.ledger.workers.release()
        self.ledger.hints.clear()
        self.ledger.wake.wake_mine()

    def submit(self, runs: Sequence[NewRun], *, now_ms: int | None = None) -> list[Submitted]:
        """Create runs whose ids are free."""
        LIMIT.check_runs(runs)
        payloads = [payload for new in runs for payload in payloads_of_run(new)]
        for worker in {new.grant.worker for new in runs if new.grant is not None}:
            self.ledger.workers.hold(worker)
        return self.ledger.change(payloads, _now(now_ms), lambda book: [self._submit(book, new) for new in runs])

    def _submit(self, book: Book, new: NewRun) -> Submitted:
        run = book.run(new.run_id)
        if run is None:
            run = Changes(book).create(new)
        elif new.grant is None or run.owner != new.grant.token:  # D7: the first answer may have been lost
            return Exists(run.header(), book.now_ms)
        return Created(run.lease() if new.grant is not None and run.owner is not None else None, book.now_ms)

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs that are ready, due, or left by their owner; at once if its process is gone."""
        ledger = self.ledger
        ledger.workers.hold(grant.worker)
        if isinstance(want, Exactly):
            return ledger.change((), _now(now_ms), lambda book: self._claim_one(book, grant, want, limit))
        with ledger.workers.dead() as dead:

            def change(book: Book) -> Claimed:
                if dead:
                    claims.expire_leases_of(book, dead)
                return self._claim_any(book, grant, want, limit)

            claimed = ledger.change((), _now(now_ms), change)
            dead.bury()
        return claimed

    def _claim_one(self, book: Book, grant: Grant, want: Exactly, limit: int) -> Claimed:
        run = book.run(want.run_id)
        dead = run is not None and self.ledger.workers.is_dead(run.worker)
        return claims.claim_one(book, grant, want, limit, owner_is_dead=dead)

    def _claim_any(self, book: Book, grant: Grant, want: AnyOf, limit: int) -> Claimed:
        signals = self._engine.signals
        claimed = claims.claim_any(book, grant, want, limit)
        if len(self._seen) >= SEEN_AT_MOST:
            self._seen.clear()
        if len(claimed.leases) < limit:
            self._seen[want] = signals.work()
        else:
            self._seen.pop(want, None)
        return claimed

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, each atomic for its run, all in one transaction."""
        now = _now(now_ms)
        if len(commits) == 1:
            done = self.ledger.append(commits[0], now)
            if done is not None:
                return [done]
        LIMIT.check_commits(commits)
        return self.ledger.change(payloads_of(commits), now, lambda book: self.ledger.commit_in(book, commits))

    def commit_at_once(self, commit: Commit, *, now_ms: int | None = None) -> Done | None:
        """Apply a commit without waiting for anyone: where nothing is synced, so that the disk takes no time either."""
        return self.ledger.append(commit, _now(now_ms), at_once=True) if self._prompt else None

    def renew(
        self, worker: str, leases: Sequence[Lease], lease_ms: int, *, now_ms: int | None = None
    ) -> list[LeaseState]:
        """Extend leases that are still held."""
        self.ledger.workers.hold(worker)
        return self.ledger.change((), _now(now_ms), lambda book: claims.renew(book, leases, lease_ms))

    def send(self, run_id: str, message: Message, *, now_ms: int | None = None) -> Delivery:
        """Deliver a message, mark a run to be cancelled, or reopen it."""
        LIMIT.check(message.payload, "a message", run_id)
        send = Send(run_id, message)
        return self.ledger.change((message.payload,), _now(now_ms), lambda book: Changes(book).deliver(send))

    def load(self, run_id: str, after: int = 0, limit: int | None = None) -> Snapshot | None:
        """Read a run."""
        fetch = self.ledger.blobs.read
        return self.ledger.read(lambda rows: read_snapshot(rows, run_id, after, limit, fetch, system_now_ms()))

    def wait_for_work(self, want: AnyOf, timeout_s: float) -> None:
        """Return when a run became ready, a timer was set, or a process has died, since this was last claimed."""
        ledger, engine = self.ledger, self._engine
        known = self._seen.get(want)
        if known is None:
            return  # never claimed, or there was more than the claim took

        def something_new() -> bool:
            if not engine.is_open:
                return True
            with engine.reading_signals() as signals:
                return signals.work() != known or ledger.workers.any_dead()

        with ledger.wake.waiter(WORK) as waiter:
            waiter.wait_for(something_new, timeout_s, time.monotonic)

    def wait_for_run(self, run_id: str, revision: int, timeout_s: float) -> RunHeader | None:
        """Return the header once it has changed, or as it is after the timeout."""
        ledger = self.ledger
        header = ledger.read(lambda rows: read_header(rows, run_id))
        if header is None or header.revision > revision:
            return header

        def changed() -> bool:
            nonlocal header
            with self._engine.reading_signals() as signals:
                signals.watch()
            header = ledger.read(lambda rows: read_header(rows, run_id))
            return header is None or header.revision > revision

        with ledger.wake.waiter(about_run(run_id)) as waiter:
            waiter.wait_for(changed, timeout_s, time.monotonic)
        return header

    def list_runs(self, query: RunQuery, cursor: str | None = None, limit: int = 100) -> Page:
        """List runs, newest first."""
        lanes, (first, last) = self.ledger.lanes, self._extent()
        return self.ledger.read(lambda rows: listing.page(rows, lanes, (first, last), query, cursor, limit))

    def stats(self) -> Counts:
        """Count runs by status, and ready and leased runs by queue and task."""
        lanes, (first, last) = self.ledger.lanes, self._extent()
        return self.ledger.read(lambda rows: listing.counts(rows, lanes, (first, last)))

    def _extent(self) -> tuple[int, int]:
        with self._engine.writing() as rows:
            return extent(rows)

    def purge(self, before_ms: int, limit: int = 1000) -> int:
        """Forget runs that finished before that time."""
        return purging.purge(self.ledger, before_ms, limit)

    def get(self, key: str) -> tuple[bytes, int] | None:
        """Read a small shared value and its revision."""
        return self.ledger.read(lambda rows: values.read(rows, key))

    def compare_and_set(self, key: str, revision: int, value: bytes) -> int | None:
        """Write a shared value if its revision is still this."""
        LIMIT.check(value, "the shared value", key)
        return self.ledger.change((), 0, lambda book: values.write(book.rows, key, revision, value))


def _now(now_ms: int | None) -> int:
    return system_now_ms() if now_ms is None else now_ms
