"""Claim runs from the queues and advance them, until told to stop."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Sequence

from flowkit.engine import Engine
from flowkit.errors import FlowkitError
from flowkit.records import AnyOf, Claimed, Lease
from flowkit.registry import tasks
from flowkit.run import Detached

log = logging.getLogger(__name__)

IDLE_LOOK_S = 1.0  # the storage's hints usually come sooner
AFTER_AN_ERROR_S = 0.5
RETENTION_LOOK_MS = 60_000


class Closing(FlowkitError):
    """The worker is stopping: its runs are handed back."""


class Worker:
    """Takes runs of this process's tasks from queues; each async run is a coroutine, each sync run a thread."""

    def __init__(
        self,
        engine: Engine,
        queues: Sequence[str] = ("default",),
        concurrency: int = 10,
        retention_ms: int | None = None,
    ) -> None:
        self._engine = engine
        self._queues = tuple(queues)
        self._concurrency = concurrency
        self._retention_ms = retention_ms
        self._next_purge_ms = 0
        self._changed = threading.Condition()
        self._busy = 0
        self._stopping = False
        self._poked = False
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runs: set[asyncio.Task[None]] = set()

    # ---- life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Work on threads of its own."""
        self._spawn(self._claim_forever, "flowkit-worker")
        self._spawn(self._listen_forever, "flowkit-listener")
        tasks.listen(self.poke)

    def run(self) -> None:
        """Work on this thread until `stop` is called from another one (or Ctrl-C)."""
        self._spawn(self._listen_forever, "flowkit-listener")
        tasks.listen(self.poke)
        try:
            self._claim_forever()
        finally:
            self.stop()

    def stop(self, grace_s: float = 30.0) -> None:
        """Claim nothing more, hand back what is unfinished after the steps in flight (rule X5), and wait for that."""
        tasks.unlisten(self.poke)
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._engine.let_go(Closing("the worker is stopping"))
        with self._changed:
            self._changed.wait_for(lambda: not self._busy, grace_s)
        with self._changed:
            loop, self._loop = self._loop, None  # of two who stop it at once, one closes the loop
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)
        for thread in self._threads:
            if thread is not threading.current_thread() and thread.name != "flowkit-listener":
                thread.join(grace_s)

    def poke(self) -> None:
        """There may be something to claim."""
        with self._changed:
            self._poked = True
            self._changed.notify_all()

    def _spawn(self, target: object, name: str) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)  # type: ignore[arg-type]  # a bound method
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
                free, self._poked = self._concurrency - self._busy, False
            wait_s = self._claim(free) if free > 0 else IDLE_LOOK_S
            with self._changed:
                if self._stopping:
                    return
                if not self._poked and wait_s > 0:
                    self._changed.wait(wait_s)

    def _claim(self, free: int) -> float:
        """Claim up to `free` runs; returns how long to wait before looking again."""
        engine = self._engine
        try:
            self._forget_old_runs()
            claimed = engine.storage.claim(engine.grant(), self._wanted(), free, now_ms=engine.now_arg())
        except Exception as error:  # noqa: BLE001  # looking for work is repeated for ever, whatever goes wrong once
            if not self._stopping:
                log.warning("could not look for runs (%s: %s); trying again", type(error).__name__, error)
            return AFTER_AN_ERROR_S
        for lease in claimed.leases:
            self._take(lease)
        return 0.0 if claimed.leases else _until_due(claimed)

    def _forget_old_runs(self) -> None:
        if self._retention_ms is None:
            return
        now_ms = self._engine.clock.now_ms()
        if now_ms >= self._next_purge_ms:  # X3
            self._next_purge_ms = now_ms + RETENTION_LOOK_MS
            self._engine.storage.purge(now_ms - self._retention_ms)

    def _listen_forever(self) -> None:
        """Turn the storage's hints into pokes; ends when the storage is closed."""
        while not self._stopping:
            try:
                self._engine.storage.wait_for_work(self._wanted(), IDLE_LOOK_S)
            except Exception as error:  # noqa: BLE001  # hints are not needed to find work, only to find it soon
                if self._stopping:
                    return
                log.debug("no hints from the storage: %s", error)
                threading.Event().wait(AFTER_AN_ERROR_S)
            if self._busy < self._concurrency:
                self.poke()

    # ---- advancing --------------------------------------------------------------------------------------------

    def _take(self, lease: Lease) -> None:
        with self._changed:
            self._busy += 1
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

    def _advance(self, start: object) -> None:
        try:
            self._tell(self._engine.advance(start))  # type: ignore[arg-type]  # a Start
        except Exception:
            log.exception("a run could not be advanced")
        finally:
            self._done()

    async def _advance_async(self, start: object) -> None:
        try:
            self._tell(await self._engine.advance_async(start))  # type: ignore[arg-type]  # a Start
        except Exception:
            log.exception("a run could not be advanced")
        finally:
            self._done()

    def _tell(self, ending: object) -> None:
        if isinstance(ending, Detached) and not isinstance(ending.error, Closing):
            log.warning("a run was handed back: %r", ending.error)

    def _done(self) -> None:
        with self._changed:
            self._busy -= 1
            self._poked = True
            self._changed.notify_all()

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._spawn(functools.partial(_run_loop, self._loop), "flowkit-loop")
        return self._loop


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _until_due(claimed: Claimed) -> float:
    if claimed.next_due_ms is None:
        return IDLE_LOOK_S
    return min(IDLE_LOOK_S, max(0.001, (claimed.next_due_ms - claimed.now_ms) / 1000))
