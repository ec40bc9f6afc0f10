"""Advance runs in this process: claim them, drive their bodies, renew their leases, hand them back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import uuid
import weakref
from collections.abc import Callable, Iterator
from typing import TypeVar

from flowkit.body import BodyCall, Ending, run_operation
from flowkit.client import Client
from flowkit.clock import Clock, FollowingClock
from flowkit.codec import Codec
from flowkit.committer import Committer
from flowkit.daemons import loop_is_running
from flowkit.drivers import drive, drive_async
from flowkit.effects import ChildAnswer
from flowkit.errors import RunBlocked, WrongColour
from flowkit.incarnations import Start, incarnation
from flowkit.leases import Leases, advancing_for
from flowkit.lines import Scope
from flowkit.patience import PatientStorage
from flowkit.plans import Advance, Blocking, Plan, Plans
from flowkit.records import Capabilities, Delivery, Message, NewRun
from flowkit.registry import TaskSpec, tasks
from flowkit.run import Probe, Run
from flowkit.storage import Storage

_T = TypeVar("_T")

PATIENCE_IN_PLACE_S = 1.0
PATIENCE_OF_A_LEASE = 0.7  # a storage that is silent for this much of a lease is given up


class Engine(Client):
    """Everything that advances runs in this process, over one storage."""

    def __init__(
        self, storage: Storage, codec: Codec, clock: Clock, *, lease_ms: int = 30_000, max_crashes: int = 20
    ) -> None:
        patience_s = lease_ms / 1000 * PATIENCE_OF_A_LEASE
        patient = PatientStorage(storage, patience_s, clock.sleep)
        self.max_crashes = max_crashes
        self.patience_in_place_s = PATIENCE_IN_PLACE_S
        self.probe: Probe | None = None
        self.capabilities: Capabilities = storage.open()
        if self.capabilities.now_ms is not None and not clock.virtual:
            clock = FollowingClock(clock, self.capabilities.now_ms)
            patient.on_time = clock.heard
        super().__init__(patient, codec, clock, _new_worker_id(), lease_ms)
        self.max_value_bytes = self.capabilities.max_value_bytes
        self.instant = self.capabilities.instant
        self.committer = Committer(
            self.storage, instant=self.capabilities.instant, now_ms=self.now_arg, grace_s=patience_s
        )
        self._plans = Plans(self)
        self._leases = Leases(self.storage, self.worker_id, lease_ms, beating=not clock.virtual)
        _engines.add(self)

    def after_fork(self) -> None:
        """Start afresh in a forked child: its parent's threads are not here, and its parent's runs are not its own."""
        self.worker_id = _new_worker_id()
        self.committer.after_fork()
        self._leases.after_fork(self.worker_id)

    # ---- advancing one incarnation ----------------------------------------------------------------------------

    def advance(self, start: Start) -> Ending:
        """Advance a claimed run on this thread as far as it goes."""
        spec = tasks.find(start.task)
        if spec is not None and spec.is_async:
            if loop_is_running():
                raise WrongColour(
                    f"task {start.task!r} is async and an event loop runs in this thread: await it, or "
                    "`await flow.aio.run(...)`"
                )
            return asyncio.run(self.advance_async(start))
        run, call = self._incarnation(start, spec or _unknown_task(start.task))
        with self._leases.watching(run):
            return drive(run, Scope("", run.started_at_ms, run.undos), run_operation(run, call))

    async def advance_async(self, start: Start) -> Ending:
        """Advance a claimed run as far as it goes: an async task on this event loop, a sync one on a thread."""
        spec = tasks.find(start.task)
        if spec is None or not spec.is_async:
            return await asyncio.to_thread(self.advance, start)
        run, call = self._incarnation(start, spec)
        with self._leases.watching(run):
            return await drive_async(run, Scope("", run.started_at_ms, run.undos), run_operation(run, call))

    def _incarnation(self, start: Start, spec: TaskSpec) -> tuple[Run, BodyCall]:
        return incarnation(self, start, spec, for_worker=advancing_for.get() is not None)

    # ---- runs to their end ------------------------------------------------------------------------------------

    def run_to_end(self, new: NewRun) -> bytes:
        """Create, join or resume the run, and stay until it has ended; returns its stored result."""
        return self._follow(self._plans.to_end(new))

    async def run_to_end_async(self, new: NewRun) -> bytes:
        """As `run_to_end`, on the running event loop."""
        return await self._follow_async(self._plans.to_end(new))

    def tell(self, run_id: str, message: Message) -> Delivery:
        """Send a run a message; one that is being advanced here hears of it at once."""
        delivery = self.storage.send(run_id, message, now_ms=self.now_arg())
        if delivery is Delivery.DELIVERED:
            self._leases.heard(run_id, message)
        return delivery

    def run_child(self, parent: Run, new: NewRun, *, reopen: bool) -> ChildAnswer:
        """Run a child in its parent's place (rule E3)."""
        return self._follow(self._plans.child(parent, new, reopen=reopen))

    async def run_child_async(self, parent: Run, new: NewRun, *, reopen: bool) -> ChildAnswer:
        """As `run_child`, on the running event loop."""
        return await self._follow_async(self._plans.child(parent, new, reopen=reopen))

    def _follow(self, plan: Plan[_T]) -> _T:
        answer: object = None
        try:
            while True:
                match plan.send(answer):
                    case Blocking(call=call):
                        answer = call()
                    case Advance(start=start):
                        answer = self.advance(start)
        except StopIteration as stop:
            value: _T = stop.value
            return value

    async def _follow_async(self, plan: Plan[_T]) -> _T:
        answer: object = None
        try:
            while True:
                match plan.send(answer):
                    case Blocking(call=call):
                        answer = call() if self.instant else await asyncio.to_thread(call)
                    case Advance(start=start):
                        answer = await self.advance_async(start)
        except StopIteration as stop:
            value: _T = stop.value
            return value

    # ---- leases -----------------------------------------------------------------------------------------------

    def let_go(self, why: BaseException, whose: object = None) -> None:
        """Ask runs that are being advanced to stop after the steps in flight (rule X5): of one worker, or all."""
        self._leases.let_go(why, whose)

    def let_go_all(self, why: BaseException, grace_s: float) -> None:
        """Ask all runs to stop after the steps in flight (rule X5), and wait so long for those of other threads."""
        self._leases.let_go_all(why, grace_s)

    @contextlib.contextmanager
    def beating(self, call: Callable[[], None]) -> Iterator[None]:
        """Call something with every beat of the thread that renews leases, three in a lease, while the block runs."""
        self._leases.beat_also(call)
        try:
            yield
        finally:
            self._leases.beat_without(call)

    @property
    def active(self) -> int:
        """How many runs are being advanced."""
        return len(self._leases)

    def close(self) -> None:
        """Stop renewing and writing, and close the storage."""
        self._leases.close()
        self.committer.close()
        self.storage.close()


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _after_fork() -> None:
    for engine in list(_engines):
        engine.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _new_worker_id() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _unknown_task(task_id: str) -> TaskSpec:
    raise RunBlocked(
        f"task {task_id!r} is not known in this process: import the module that defines it before resuming its runs"
    )
