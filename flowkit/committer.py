"""Group commit in front of a storage: one batch in flight, the next one collects meanwhile.

A lone synchronous caller flushes for itself on its own thread, without a hand-over and without a timer; whoever comes
while a flush is in flight is taken along by the next one. This is the leader and follower scheme of database logs
(DeWitt et al., "Implementation Techniques for Main Memory Database Systems", 1984, group commit).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

from attrs import define, evolve

from flowkit.errors import LeaseLost
from flowkit.patience import PatientStorage
from flowkit.records import GO, Commit, Done, Fenced, Gap, Lease, Missing, NewRun, Send, Then, Verdict

log = logging.getLogger(__name__)


@define(eq=False)
class Writer:
    """The writing end of one claimed run: who may write, and how long its journal is."""

    lease: Lease
    length: int
    cancel: bool = False  # cancellation has been asked for, as of the last answer
    inbox: int = 0
    lost: str | None = None  # why nothing can be written any more
    on_news: Callable[[], None] | None = None  # called when `cancel` or `inbox` change
    commits: int = 0  # batches so far


@define(eq=False)
class Change:
    """What one operation wants written, and what became of it."""

    writer: Writer
    entries: tuple[bytes, ...] = ()
    consume: tuple[str, ...] = ()
    spawn: tuple[NewRun, ...] = ()
    send: tuple[Send, ...] = ()
    then: Then = GO
    position: int = 0  # of its last entry, once it is written
    error: BaseException | None = None
    settled: bool = False
    event: threading.Event | None = None  # a thread waits on it
    loop: asyncio.AbstractEventLoop | None = None
    future: asyncio.Future[int] | None = None


class Committer:
    """Writes changes of any number of runs to one storage, batching those that arrive together."""

    def __init__(
        self, storage: PatientStorage, *, instant: bool, now_ms: Callable[[], int | None], grace_s: float = 20.0
    ) -> None:
        self._storage = storage
        self.instant = instant
        self._now_ms = now_ms
        self._grace_s = grace_s
        self._lock = threading.Lock()
        self._waiting: list[Change] = []
        self._flushing = False
        self._work = threading.Condition(self._lock)
        self._background: threading.Thread | None = None
        self._hand_over = False  # the background thread is to flush
        self._closed = False

    def write(self, change: Change) -> int:
        """Write a change and wait until it is durable; returns the position of its last entry.

        Raises:
            LeaseLost: another worker owns the run.
            StorageError: the storage did not answer for long; whether it was applied is unknown.
        """
        with self._lock:
            alone = not self._flushing
            if alone:
                self._flushing = True
            else:
                change.event = threading.Event()
                self._waiting.append(change)
        if alone:
            try:
                self._write_alone(change)
            finally:
                with self._lock:
                    others = bool(self._waiting)
                    self._flushing = others
                if others:
                    self._pass_on()
        elif change.event is not None:
            change.event.wait()
            if not change.settled:
                try:
                    self._flush()
                finally:
                    self._pass_on()
        if change.error is not None:
            raise change.error
        return change.position

    async def write_async(self, change: Change) -> int:
        """As `write`, without blocking the event loop. Cancelling the caller does not undo the write."""
        if self.instant:
            return self.write(change)
        change.loop = asyncio.get_running_loop()
        change.future = change.loop.create_future()
        with self._lock:
            self._waiting.append(change)
            if not self._flushing:
                self._flushing = True
                self._wake_background()
        return await asyncio.shield(change.future)

    def post(self, change: Change) -> None:
        """Write a change soon, without waiting; for what is lost with the process and made again by a replay."""
        if self.instant:
            self.write(change)
            return
        with self._lock:
            self._waiting.append(change)
            if not self._flushing:
                self._flushing = True
                self._wake_background()

    def close(self) -> None:
        """Stop the background thread after what is waiting has been written."""
        with self._lock:
            self._closed = True
            self._work.notify_all()
            thread = self._background
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=self._grace_s)

    def after_fork(self) -> None:
        """Start afresh in a forked child: its parent's threads are not here."""
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._waiting, self._flushing, self._background, self._hand_over = [], False, None, False

    # ---- flushing -----------------------------------------------------------------------------------------------

    def _write_alone(self, change: Change) -> None:
        """What `_flush` does, for a lone caller: this is what a step costs, so it takes no detours."""
        writer = change.writer
        if writer.lost is not None:
            _fail([change], LeaseLost(writer.lost))
            return
        commit = _commit_of(change)
        try:
            [verdict] = self._storage.inner.commit((commit,), now_ms=self._now_ms())
        except Exception:  # noqa: BLE001  # the same commit is sent again below: its id makes that safe (D7)
            self._send([[change]], [commit])
            return
        if type(verdict) is Done and verdict.cancel is writer.cancel and verdict.inbox == writer.inbox:
            writer.length = verdict.length
            change.position = commit.base + len(change.entries)
            change.settled = True
        else:
            _settle([change], commit, verdict)

    def _pass_on(self) -> None:
        """Give the next batch to someone who waits for it, or rest."""
        with self._lock:
            if not self._waiting:
                self._flushing = False
                return
            heir = next((change for change in self._waiting if change.event is not None), None)
            if heir is not None and heir.event is not None:
                heir.event.set()
            else:
                self._wake_background()

    def _wake_background(self) -> None:
        self._hand_over = True
        if self._background is None or not self._background.is_alive():
            self._background = threading.Thread(target=self._run_background, name="flowkit-committer", daemon=True)
            self._background.start()
        self._work.notify_all()

    def _run_background(self) -> None:
        while True:
            with self._lock:
                while not self._hand_over:
                    if self._closed:
                        return
                    self._work.wait()
                self._hand_over = False
            self._flush()
            self._pass_on()

    def _flush(self, batch: list[Change] | None = None) -> None:
        """Send a batch (everything that waits, unless given), and tell everyone what became of it."""
        if batch is None:
            with self._lock:
                batch, self._waiting = self._waiting, []
        try:
            groups = _by_run(batch)
            if groups:
                self._send(groups, [_merge(group) for group in groups])
        except BaseException as error:
            for change in batch:
                if not change.settled:
                    change.error, change.settled = error, True
            raise
        finally:
            _notify(batch)

    def _send(self, groups: list[list[Change]], commits: list[Commit]) -> None:
        try:
            verdicts = self._storage.commit(commits, now_ms=self._now_ms())
        except Exception as error:  # noqa: BLE001  # whatever a third-party storage raises, each caller is told
            for group in groups:
                _fail(group, error)
            return
        for group, commit, verdict in zip(groups, commits, verdicts, strict=True):
            _settle(group, commit, verdict)


def _by_run(batch: list[Change]) -> list[list[Change]]:
    groups: dict[int, list[Change]] = {}
    for change in batch:
        if change.writer.lost is not None:
            _fail([change], LeaseLost(change.writer.lost))
        else:
            groups.setdefault(id(change.writer), []).append(change)
    return list(groups.values())


def _commit_of(change: Change) -> Commit:
    writer = change.writer
    lease = writer.lease
    run_id, owner = lease.run_id, lease.owner
    writer.commits += 1
    return Commit(
        run_id,
        owner,
        lease.fence,
        f"{owner}:{run_id}:{writer.commits}",  # D7: the same one is sent again until its answer is known
        writer.length,
        change.entries,
        change.consume,
        change.spawn,
        change.send,
        change.then,
    )


def _merge(group: list[Change]) -> Commit:
    """One commit for all that a run's branches handed in; only the last of them can end or suspend the run."""
    last = group[-1]
    if len(group) == 1:
        return _commit_of(last)
    return evolve(
        _commit_of(last),
        entries=tuple(entry for change in group for entry in change.entries),
        consume=tuple(message for change in group for message in change.consume),
        spawn=tuple(run for change in group for run in change.spawn),
        send=tuple(send for change in group for send in change.send),
    )


def _fail(group: list[Change], error: BaseException) -> None:
    for change in group:
        change.error, change.settled = error, True


def _settle(group: list[Change], commit: Commit, verdict: Verdict) -> None:
    writer = group[0].writer
    match verdict:
        case Done(length=length, cancel=cancel, inbox=inbox):
            position = commit.base
            for change in group:
                position += len(change.entries)
                change.position, change.settled = position, True
            writer.length = length
            if (cancel, inbox) != (writer.cancel, writer.inbox):
                writer.cancel, writer.inbox = cancel, inbox
                if writer.on_news is not None:
                    writer.on_news()
        case Fenced():
            _lose(group, f"run {commit.run_id!r} was taken over by another worker; this one records nothing more")
        case Missing():
            _lose(group, f"run {commit.run_id!r} is not in the storage any more")
        case Gap(length=length):
            _lose(
                group,
                f"run {commit.run_id!r} has {length} journal entries in the storage where {commit.base} were expected; "
                "it will be replayed from what is stored",
            )


def _lose(group: list[Change], why: str) -> None:
    group[0].writer.lost = why
    for change in group:
        change.error, change.settled = LeaseLost(why), True


def _notify(batch: list[Change]) -> None:
    """Wake the waiting threads, and each event loop once, in the order of the journal (rule I4)."""
    loops: dict[asyncio.AbstractEventLoop, list[Change]] = {}
    for change in batch:
        if change.event is not None:
            change.event.set()
        elif change.loop is not None:
            loops.setdefault(change.loop, []).append(change)
    for loop, changes in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve, changes)
        except RuntimeError:  # the loop was closed: nobody waits there any more
            log.debug("an event loop went away before its commit was answered")


def _resolve(changes: list[Change]) -> None:
    for change in changes:
        future = change.future
        if future is None or future.done():
            continue
        if change.error is not None:
            future.set_exception(change.error)
        else:
            future.set_result(change.position)
