"""Claim runs from the queues and advance them, until told to stop."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import assert_never

from flowkit.body import Ended, Ending
from flowkit.documents import describe_error
from flowkit.durations import Duration, seconds
from flowkit.engine import Engine
from flowkit.errors import ConfigurationError, FlowkitError
from flowkit.incarnations import Start
from flowkit.leases import advancing_for
from flowkit.presence import Presence
from flowkit.reasons import Blocked, Detached, Revoked, RollingBack, Suspended
from flowkit.records import AnyOf, Claimed, Lease, RunStatus
from flowkit.registry import tasks
from flowkit.scheduler import Scheduler
from flowkit.signals import on_signals
from flowkit.slots import in_use

log = logging.getLogger(__name__)

IDLE_LOOK_S = 1.0  # the storage's hints usually come sooner
AFTER_AN_ERROR_S = 0.5
RETENTION_LOOK_MS = 60_000
PURGED_AT_ONCE = 200  # so that runs are not kept waiting for those that are to be forgotten
DEFAULT_GRACE_S = 30.0


class Closing(FlowkitError):
    """The worker is stopping: its runs are handed back."""


class Worker:
    """Takes runs of this process's tasks from queues; each async run is a coroutine, each sync run a thread.

    Made by `flow.worker(...)`.

    Args:
        engine: advances the runs.
        queues: those that are served.
        concurrency: how many runs are advanced at a time.
        retention_ms: finished runs are forgotten after so long.
        liveness: a file that is touched with every beat of the thread that renews leases, as long as the storage
            answers; for health checks. It is removed when the worker has stopped.
    """

    def __init__(
        self,
        engine: Engine,
        queues: Sequence[str] = ("default",),
        concurrency: int = 10,
        retention_ms: int | None = None,
        liveness: Path | None = None,
    ) -> None:
        self.received = 0  # the signal that has stopped `run`, if one did
        self._engine = engine
        self._queues = queues_from(queues, "worker(queues=...)")
        self._concurrency = workers_from(concurrency, "worker(concurrency=...)")
        self._retention_ms = retention_ms
        self._next_purge_ms = 0
        self._scheduler = Scheduler(engine)
        self._presence = Presence(engine, self._queues, concurrency, liveness)
        self._changed = threading.Condition()
        self._busy = 0  # runs that are advanced
        self._lent = 0  # of those, the ones that wait on their thread for other runs, and need no place meanwhile
        self._looking = False  # a claim is under way, and may find more of them
        self._stopping = False
        self._poked = False
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._life = ExitStack()

    # ---- life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Work on threads of its own."""
        self._begin()
        self._spawn(self._claim_forever, "flowkit-worker")

    def run(self, grace: Duration = DEFAULT_GRACE_S) -> bool:
        """Work on this thread until `stop` is called from another one, or SIGTERM or Ctrl-C comes to the main thread.

        Args:
            grace: how long the steps in flight may take when it stops. A second signal ends the process at once.

        Returns:
            False if some run was still in a step then; another worker takes it over when its lease has ended.
        """
        grace_s = seconds(grace, "worker.run(grace=...)")
        with on_signals(self._on_signal):
            self._begin()
            try:
                self._claim_forever()
            finally:
                stopped = self.stop(grace_s)
        return stopped

    def _begin(self) -> None:
        self._life.enter_context(self._engine.beating(self._presence.beat))
        tasks.listen(self.poke)
        self._life.callback(tasks.unlisten, self.poke)
        self._spawn(self._listen_forever, "flowkit-listener")
        log.info("worker %s works: %s", self._engine.worker_id, self._presence)

    def stop(self, grace_s: float = DEFAULT_GRACE_S) -> bool:
        """Claim nothing more, hand back what is unfinished after the steps in flight (rule X5), and wait for that.

        Returns:
            False if some run was still in a step when the grace had passed.
        """
        self._take_no_more()
        with self._changed:
            self._changed.wait_for(self._is_idle, max(0.0, grace_s))
        with self._changed:
            loop, self._loop = self._loop, None  # of two who stop it at once, one closes the loop
            left = self._busy
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)
        for thread in self._threads:
            if thread is not threading.current_thread() and thread.name != "flowkit-listener":
                thread.join(grace_s)
        self._life.close()
        self._presence.end()
        if left:
            log.warning("%d runs are still in a step; others take them over when their leases have ended", left)
        return not left

    def _is_idle(self) -> bool:
        return not self._busy and not self._looking

    def _take_no_more(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._engine.let_go(Closing("the worker is stopping"), self)  # and what a claim under way brings in

    def _on_signal(self, signum: int, count: int) -> None:
        if count == 1:
            self.received = signum
            name, busy = signal.Signals(signum).name, self._busy
            self._take_no_more()  # first: once it is said, no further step begins
            log.info("%s: stopping after the steps in flight of %d runs; once more to stop at once", name, busy)
        else:
            log.warning("stopping at once; the steps in flight run again elsewhere")
            os._exit(128 + signum)

    def poke(self) -> None:
        """There may be something to claim."""
        with self._changed:
            self._poked = True
            self._changed.notify_all()

    def _spawn(self, target: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    # ---- claiming ---------------------------------------------------------------------------------------------

    def _wanted(self) -> AnyOf:
        return AnyOf(tasks.ids(), self._queues)  # X4: only runs whose tasks it has

    def _claim_forever(self) -> None:
        while True:
            with self._changed:
                if self._stopping:
                    return
                free, self._poked = self._free(), False
                self._looking = True
                self._changed.notify_all()
            try:
                wait_s = self._look(free)
            finally:
                with self._changed:
                    self._looking = False
                    self._changed.notify_all()
            with self._changed:
                if self._stopping:
                    return
                if wait_s > 0:
                    self._changed.wait_for(lambda: self._poked or self._stopping, wait_s)

    def _look(self, free: int) -> float:
        """Create what a schedule has due, claim up to `free` runs; returns how long to wait before the next look."""
        engine = self._engine
        try:
            more = self._forget_old_runs()
            tick_ms = self._scheduler.look()
            self._presence.announce()
            leases: tuple[Lease, ...] = ()
            due_s = IDLE_LOOK_S
            if free > 0:
                claimed = engine.storage.claim(engine.grant(), self._wanted(), free, now_ms=engine.now_arg())
                leases, due_s = claimed.leases, _until_due(claimed)
        except Exception as error:  # noqa: BLE001  # looking for work is repeated for ever, whatever goes wrong once
            if not self._stopping:
                log.warning("could not look for runs (%s: %s); trying again", type(error).__name__, error)
            return AFTER_AN_ERROR_S
        self._presence.looked()
        for lease in leases:
            self._take(lease)
        if more or 0 < free == len(leases):  # there may be more of them, and a place may be free by now
            return 0.0
        return due_s if tick_ms is None else min(due_s, max(0.001, (tick_ms - engine.clock.now_ms()) / 1000))

    def _forget_old_runs(self) -> bool:
        """Forget a bounded number of runs whose retention is over; True if there may be more of them (rule X3)."""
        if self._retention_ms is None:
            return False
        now_ms = self._engine.clock.now_ms()
        if now_ms < self._next_purge_ms:
            return False
        more = self._engine.storage.purge(now_ms - self._retention_ms, PURGED_AT_ONCE) >= PURGED_AT_ONCE
        if not more:
            self._next_purge_ms = now_ms + RETENTION_LOOK_MS
        return more

    def _listen_forever(self) -> None:
        """Turn the storage's hints into pokes; ends when the storage is closed."""
        while not self._stopping:
            with self._changed:  # a hint is for whoever has a place free: without one, it is left to other workers
                if not self._changed.wait_for(lambda: self._stopping or self._free() > 0, IDLE_LOOK_S):
                    continue
            try:
                self._engine.storage.wait_for_work(self._wanted(), IDLE_LOOK_S)
            except Exception as error:  # noqa: BLE001  # hints are not needed to find work, only to find it soon
                if self._stopping:
                    return
                log.debug("no hints from the storage: %s", error)
                threading.Event().wait(AFTER_AN_ERROR_S)
            self._poke_when_free()

    def _poke_when_free(self) -> None:
        """Pass a hint on when a place is free, and wait until it was taken: as long as all are taken it stays true."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._free() > 0)
            self._poked = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._stopping or not self._poked)

    def _free(self) -> int:
        return self._concurrency - self._busy + self._lent

    # ---- advancing --------------------------------------------------------------------------------------------

    def _take(self, lease: Lease) -> None:
        with self._changed:
            self._count(busy=1)
        try:
            start = self._engine.start_of(lease)
        except Exception as error:  # noqa: BLE001  # the lease runs out and the run is claimed again
            log.warning("run %r could not be read (%s: %s)", lease.run_id, type(error).__name__, error)
            self._done()
            return
        spec = tasks.find(start.task)
        if spec is not None and spec.is_async:
            asyncio.run_coroutine_threadsafe(self._advance_async(start), self._event_loop())
        else:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            thread = threading.Thread(target=self._advance, args=(start,), name=f"flowkit-{lease.run_id}", daemon=True)
            thread.start()

    def _advance(self, start: Start) -> None:
        advancing_for.set(self)
        in_use.set(_Place(self))
        began_s = time.monotonic()
        try:
            self._tell(start, self._engine.advance(start), began_s)
        except Exception:
            log.exception("run %s could not be advanced", start.lease.run_id)
        finally:
            self._done()

    async def _advance_async(self, start: Start) -> None:
        advancing_for.set(self)
        in_use.set(_Place(self))
        began_s = time.monotonic()
        try:
            self._tell(start, await self._engine.advance_async(start), began_s)
        except Exception:
            log.exception("run %s could not be advanced", start.lease.run_id)
        finally:
            self._done()

    def _tell(self, start: Start, ending: Ending, began_s: float) -> None:
        """Say in the log how a run has gone on."""
        run, took_s = f"run {start.lease.run_id} of {start.task}", time.monotonic() - began_s
        match ending:
            case Ended(status=RunStatus.FAILED, result=result):
                error = describe_error(self._engine.codec, result)
                log.warning("%s failed: %s: %s", run, type(error).__name__, error)
            case Ended(status=status):
                log.info("%s %s (%.2f s)", run, status, took_s)
            case Blocked(error=error):
                log.warning("%s is blocked until somebody mends it: %s", run, error)
            case Detached(error=Closing()):
                log.info("%s was handed back", run)
            case Detached(error=error):
                log.warning("%s was handed back: %r", run, error)
            case Revoked(error=error):
                log.warning("%s is advanced elsewhere: %s", run, error)
            case Suspended():
                log.debug("%s waits", run)
            case RollingBack():
                log.debug("%s is rolled back", run)
            case _:
                assert_never(ending)

    def _done(self) -> None:
        with self._changed:
            self._count(busy=-1)

    def _count(self, busy: int = 0, lent: int = 0) -> None:
        """Count places. If none was free and now one is, there may be something to claim: hints came to nobody."""
        none_free = self._free() <= 0
        self._busy += busy
        self._lent += lent
        if none_free and self._free() > 0:
            self._poked = True
        self._changed.notify_all()

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._spawn(functools.partial(_run_loop, self._loop), "flowkit-loop")
        return self._loop


def queues_from(queues: Sequence[str], where: str) -> tuple[str, ...]:
    """The queues that a worker is told to serve.

    Raises:
        ConfigurationError: they are no list of names.
    """
    if isinstance(queues, str) or not queues or not all(isinstance(queue, str) and queue for queue in queues):
        raise ConfigurationError(f'{where}: {queues!r} is no list of queues; write names, as in ["default", "mail"]')
    return tuple(queues)


def workers_from(concurrency: int, where: str) -> int:
    """How many runs a worker is told to advance at a time.

    Raises:
        ConfigurationError: it is no number above 0.
    """
    if type(concurrency) is not int or concurrency < 1:
        raise ConfigurationError(f"{where}: {concurrency!r} is no whole number, 1 or more")
    return concurrency


class _Place:
    """The place of one run (see `flowkit.slots`); several of its threads may wait for others at once."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._waiting = 0

    def lend(self) -> None:
        """Another run may have it for a while."""
        self._count(1)

    def take_back(self) -> None:
        """The run that it belongs to goes on, if need be beside the one that has its place now."""
        self._count(-1)

    def _count(self, step: int) -> None:
        worker = self._worker
        with worker._changed:  # noqa: SLF001  # a part of it
            was_waiting, self._waiting = self._waiting > 0, self._waiting + step
            worker._count(lent=(self._waiting > 0) - was_waiting)  # noqa: SLF001  # as above


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        while True:
            try:
                loop.run_forever()
                break
            except (SystemExit, KeyboardInterrupt) as error:  # asyncio lets them out of a task, which has them too
                log.debug("a run raised %r; the others go on", error)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _until_due(claimed: Claimed) -> float:
    if claimed.next_due_ms is None:
        return IDLE_LOOK_S
    return min(IDLE_LOOK_S, max(0.001, (claimed.next_due_ms - claimed.now_ms) / 1000))
