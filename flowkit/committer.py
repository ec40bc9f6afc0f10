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
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic

from flowkit.changes import Change, Writer, by_run, fail, merge, next_commit, notify, resolve, settle
from flowkit.patience import PatientStorage
from flowkit.records import GO, Commit, Done, NewRun, Send, Then
from flowkit.storage import Prompt
from flowkit.underway import UnderWay

log = logging.getLogger(__name__)

_FLUSH, _END = "flush", "end"
_LONG_WAY = 64  # commits of a run after which one goes by way of the thread, so that an event loop comes to the rest
ROUND_S = 0.01  # a loop that takes longer to come round than this is held up by something else

_Order = str | int | tuple[Change, Commit]  # _FLUSH, _END, a round that is over, or a commit begun and in doubt


class Committer:
    """Writes changes of any number of runs to one storage, batching those that arrive together."""

    def __init__(
        self, storage: PatientStorage, *, instant: bool, now_ms: Callable[[], int | None], grace_s: float = 20.0
    ) -> None:
        self._storage = storage
        self._at_once = storage.inner.commit_at_once if isinstance(storage.inner, Prompt) else None
        self.instant = instant
        self._now_ms = now_ms
        self._grace_s = grace_s
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._turn = threading.Lock()  # held while a batch is in flight, by whoever is to pass it on
        self._lock = threading.Lock()
        self._waiting: list[Change] = []
        self._orders: SimpleQueue[_Order] = SimpleQueue()  # to the background thread
        self._background: threading.Thread | None = None
        self._round = 0  # how many times an event loop was waited for

    def append(
        self,
        writer: Writer,
        entries: tuple[bytes, ...],
        consume: tuple[str, ...] = (),
        spawn: tuple[NewRun, ...] = (),
        send: tuple[Send, ...] = (),
        then: Then = GO,
    ) -> int:
        """As `write`, of a change that is made here: what every step does, so it takes no detours.

        Raises:
            LeaseLost, StorageError: as `write` does.
        """
        if writer.lost is not None or self._waiting or not self._turn.acquire(blocking=False):
            return self.write(Change(writer, entries, consume, spawn, send, then))
        try:
            commit = next_commit(writer, entries, consume, spawn, send, then)
            try:
                [verdict] = self._storage.inner.commit((commit,), now_ms=self._now_ms())
            except Exception:  # noqa: BLE001  # the same commit is sent again: its id makes that safe (D7)
                verdict = None
            if type(verdict) is Done and verdict.cancel is writer.cancel and verdict.inbox == writer.inbox:
                writer.length = verdict.length
                return commit.base + len(entries)
            change = Change(writer, entries, consume, spawn, send, then)
            if verdict is None:
                self._send([[change]], [commit])
            else:
                settle([change], commit, verdict)
            return change.answer()
        finally:
            self._turn.release()
            if self._waiting:
                self._see_to_waiting()

    def write(self, change: Change) -> int:
        """Write a change and wait until it is durable; returns the position of its last entry.

        Raises:
            LeaseLost: another worker owns the run.
            StorageError: the storage did not answer for long; whether it was applied is unknown.
        """
        change.event = threading.Event()
        with self._lock:
            self._waiting.append(change)
        if self._turn.acquire(blocking=False):
            self._flush_and_pass_on()
        else:
            change.event.wait()
            if not change.settled:  # the turn was handed to us
                self._flush_and_pass_on()
        return change.answer()

    async def append_async(
        self,
        writer: Writer,
        entries: tuple[bytes, ...],
        consume: tuple[str, ...] = (),
        spawn: tuple[NewRun, ...] = (),
        send: tuple[Send, ...] = (),
        then: Then = GO,
    ) -> int:
        """As `append`, without blocking the event loop: at once where the storage can do that, else by the thread.

        Raises:
            LeaseLost, StorageError: as `write` does.
        """
        at_once = self._at_once
        if (
            at_once is None
            or writer.lost is not None
            or self._waiting
            or writer.commits % _LONG_WAY == _LONG_WAY - 1
            or not self._turn.acquire(blocking=False)
        ):
            return await self.write_async(Change(writer, entries, consume, spawn, send, then))
        commit = next_commit(writer, entries, consume, spawn, send, then)
        try:
            done = at_once(commit, now_ms=self._now_ms())
        except Exception:  # noqa: BLE001  # the same commit is sent again: its id makes that safe (D7)
            done = None
        if done is None or done.cancel is not writer.cancel or done.inbox != writer.inbox:
            change = self._awaited(Change(writer, entries, consume, spawn, send, then))
            self._order((change, commit))  # together with the turn
            return await _told(change)
        writer.length = done.length
        self._turn.release()
        if self._waiting:
            self._see_to_waiting()
        return commit.base + len(entries)

    async def write_async(self, change: Change) -> int:
        """As `write`, without blocking the event loop. Cancelling the caller does not undo the write."""
        if self.instant:
            return self.write(change)
        self.post(self._awaited(change))
        return await _told(change)

    def _awaited(self, change: Change) -> Change:
        change.loop = asyncio.get_running_loop()
        change.future = change.loop.create_future()
        return change

    def post(self, change: Change) -> None:
        """Write a change soon, without waiting; for what is lost with the process and made again by a replay."""
        if self.instant:
            self.write(change)
            return
        with self._lock:
            self._waiting.append(change)
        self._see_to_waiting()

    def close(self) -> None:
        """Stop the background thread after what is waiting has been written."""
        with self._lock:
            thread = self._background
            if thread is not None:
                self._orders.put(_END)
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=self._grace_s)

    def after_fork(self) -> None:
        """Start afresh in a forked child: its parent's threads are not here."""
        self._start_afresh()

    # ---- flushing -----------------------------------------------------------------------------------------------
    #
    # Whoever wants something written adds it to those that wait, and then tries to take the turn; whoever gives the
    # turn back looks at those that wait after that. So nobody is left waiting while the turn is free.

    def _see_to_waiting(self) -> None:
        if self._waiting and self._turn.acquire(blocking=False):
            self._pass_on()

    def _pass_on(self) -> None:
        """Give the turn, and with it the next batch, to someone who waits; or back."""
        with self._lock:
            heir = next((change.event for change in self._waiting if change.event is not None), None)
            if heir is not None:
                heir.set()
                return
            if self._waiting:
                self._order(_FLUSH)
                return
        self._turn.release()
        self._see_to_waiting()

    def _flush_and_pass_on(self, tell: Callable[[list[Change]], object] = notify) -> None:
        try:
            self._flush(tell)
        finally:
            self._pass_on()

    def _come_round(self, batch: list[Change]) -> None:
        """Tell everyone, and let the event loop that they run on come round with what they write next.

        Else the runs of a loop fall apart into two groups that write by turns, with twice as many syncs of the disk;
        and a loop that runs while we write takes the interpreter's lock from us at each step. It is not waited for
        on behalf of a lone run, nor of threads, nor for long: what is written next may be long in coming.
        """
        if len(batch) == 1 and not self._waiting:
            notify(batch)
            return
        self._round = number = self._round + 1
        if not notify(batch, partial(self._orders.put, number)):
            return
        until_s = monotonic() + ROUND_S
        with suppress(Empty):
            while not any(change.event for change in self._waiting):
                order = self._orders.get(timeout=max(0, until_s - monotonic()))
                if order is _END:
                    self._orders.put(order)
                if order is _END or order == number:
                    return

    def _order(self, order: _Order) -> None:
        if self._background is None:
            self._background = threading.Thread(target=self._run_background, name="flowkit-committer", daemon=True)
            self._background.start()
        self._orders.put(order)

    def _run_background(self) -> None:
        while True:
            order = self._orders.get()
            if order is not _END:
                with suppress(BaseException):  # whoever waited has been told
                    if order is _FLUSH:
                        self._flush_and_pass_on(self._come_round)
                    elif isinstance(order, tuple):  # a round may be over after nobody waits for it any more
                        self._send_again(*order)
                continue
            with self._lock:  # under which orders are given
                if self._orders.empty():
                    self._background = None
                    return
                self._orders.put(_END)  # after what was ordered meanwhile

    def _send_again(self, change: Change, commit: Commit) -> None:
        """Find out what became of a commit by sending the same one (rule D7); then the turn is passed on."""
        try:
            self._send([[change]], [commit])
        except BaseException as error:
            change.error, change.settled = error, True
            raise
        finally:
            notify([change])
            self._pass_on()

    def _flush(self, tell: Callable[[list[Change]], object]) -> None:
        """Send everything that waits as one batch, and tell everyone what became of it."""
        with self._lock:
            batch, self._waiting = self._waiting, []
        try:
            groups = by_run(batch)
            if groups:
                self._send(groups, [merge(group) for group in groups])
        except BaseException as error:
            for change in batch:
                if not change.settled:
                    change.error, change.settled = error, True
            raise
        finally:
            tell(batch)

    def _send(self, groups: list[list[Change]], commits: list[Commit]) -> None:
        try:
            verdicts = self._storage.commit(commits, now_ms=self._now_ms())
        except Exception as error:  # noqa: BLE001  # whatever a third-party storage raises, each caller is told
            for group in groups:
                fail(group, error)
            return
        for group, commit, verdict in zip(groups, commits, verdicts, strict=True):
            settle(group, commit, verdict)


async def _told(change: Change) -> int:
    """Await what becomes of a change; a cancelled caller leaves it on its way (rule G6)."""
    future = change.future
    assert future is not None  # it is awaited
    try:
        return await future
    except asyncio.CancelledError:
        raise UnderWay(_asked_again(change, future)) from None


def _asked_again(change: Change, future: asyncio.Future[int]) -> asyncio.Future[int]:
    """A future for the same answer, in the place of one that was cancelled with its caller."""
    if not future.cancelled():
        return future  # the answer had come already
    again = change.future = future.get_loop().create_future()
    again.add_done_callback(_look_at)
    if change.settled:  # and the cancelled one was passed over
        resolve([change])
    return again


def _look_at(future: asyncio.Future[int]) -> None:
    if not future.cancelled():
        future.exception()  # nobody may want to know any more
