"""Advance runs in this process: create them, claim them, drive their bodies, renew their leases, hand them back."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import socket
import uuid
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, TypeVar, assert_never

from flowkit.body import Ended, Ending, run_operation
from flowkit.children import portions
from flowkit.clock import Clock, FollowingClock
from flowkit.codec import Codec
from flowkit.committer import Committer
from flowkit.documents import ReplyTo, RunInput, decode_input, decode_result, describe_error, encode_input
from flowkit.drivers import drive, drive_async
from flowkit.effects import ChildAnswer, ChildEnded, ChildWaits, Inquire, Outcome, Standing
from flowkit.errors import (
    LeaseLost,
    RunBlocked,
    RunConflict,
    RunNotFound,
    RunRolledBack,
    SerializationError,
    WrongColour,
)
from flowkit.frozen import frozen
from flowkit.incarnations import Start, incarnation, start_from
from flowkit.leases import Leases
from flowkit.limits import limit_of
from flowkit.overrides import overrides_to_json
from flowkit.patience import PatientStorage
from flowkit.records import (
    Capabilities,
    Created,
    Delivery,
    Exactly,
    Exists,
    Grant,
    Lease,
    Message,
    MessageKind,
    NewRun,
    RunHeader,
    RunStatus,
    Snapshot,
)
from flowkit.registry import TaskSpec, hint_for, signature_of, tasks
from flowkit.reopening import keys_to_retry
from flowkit.run import Blocked, Detached, Probe, Revoked, RollingBack, Run, Scope, Suspended
from flowkit.storage import Storage

log = logging.getLogger(__name__)
_T = TypeVar("_T")

PATIENCE_IN_PLACE_S = 1.0
PATIENCE_OF_A_LEASE = 0.7  # a storage that is silent for this much of a lease is given up
SOONEST_LOOK_MS, LATEST_LOOK_MS = 2_000, 60_000  # between two looks at a child that waits for a place; not in place
LONGEST_WAIT_S = 1.0  # between two looks at a run that someone else advances
LONGEST_VIRTUAL_WAIT_S = 3600.0  # nobody waits this long: virtual time passes as fast as things happen


@frozen
class _Blocking:
    """Ask the storage something, on a thread if we are on an event loop."""

    call: Callable[[], object]


@frozen
class _Advance:
    """Advance a claimed run as far as it goes; the answer is how it ended."""

    start: Start


_Plan = Generator[_Blocking | _Advance, Any, _T]  # the answer differs by request


class Engine:
    """Everything that advances runs in this process, over one storage."""

    def __init__(
        self, storage: Storage, codec: Codec, clock: Clock, *, lease_ms: int = 30_000, max_crashes: int = 20
    ) -> None:
        patience_s = lease_ms / 1000 * PATIENCE_OF_A_LEASE
        self.storage = PatientStorage(storage, patience_s, clock.sleep)
        self.codec = codec
        self.lease_ms = lease_ms
        self.max_crashes = max_crashes
        self.patience_in_place_s = PATIENCE_IN_PLACE_S
        self.probe: Probe | None = None
        self._unplaced: dict[str, None] = {}  # children that had no place under their limit; see `_take_up_unplaced`
        self.worker_id = _new_worker_id()
        self.capabilities: Capabilities = storage.open()
        if self.capabilities.now_ms is not None and not clock.virtual:
            clock = FollowingClock(clock, self.capabilities.now_ms)
            self.storage.on_time = clock.heard
        self.clock = clock
        self.max_value_bytes = self.capabilities.max_value_bytes
        self.instant = self.capabilities.instant
        self.committer = Committer(
            self.storage, instant=self.capabilities.instant, now_ms=self.now_arg, grace_s=patience_s
        )
        self._leases = Leases(self.storage, self.worker_id, lease_ms, beating=not clock.virtual)
        _engines.add(self)

    def after_fork(self) -> None:
        """Start afresh in a forked child: its parent's threads are not here, and its parent's runs are not its own."""
        self.worker_id = _new_worker_id()
        self.committer.after_fork()
        self._leases.after_fork(self.worker_id)

    # ---- time and reading -------------------------------------------------------------------------------------

    def now_arg(self) -> int | None:
        """What to tell the storage about time: nothing, unless the clock is a virtual one."""
        return self.clock.now_ms() if self.clock.virtual else None

    def load(self, run_id: str) -> Snapshot:
        """Read a run with all that belongs to it.

        Raises:
            RunNotFound: there is none of that id.
        """
        return self.snapshot(run_id, None)

    def snapshot(self, run_id: str, limit: int | None = 0) -> Snapshot:
        """Read a run; `limit` journal entries at the most (None: all)."""
        snapshot = self.storage.load(run_id, 0, limit)
        if snapshot is None:
            raise RunNotFound(f"there is no run {run_id!r} in this storage (runs are forgotten after the retention)")
        return snapshot

    def inbox(self, run_id: str) -> Sequence[Message]:
        """Read what has been sent to a run, oldest first."""
        return self.snapshot(run_id).inbox

    def grant(self) -> Grant:
        """A new request for leases."""
        return Grant(self.worker_id, uuid.uuid4().hex, self.lease_ms)

    # ---- creating runs ----------------------------------------------------------------------------------------

    def new_run(
        self,
        spec: TaskSpec,
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        *,
        run_id: str | None = None,
        parent: str | None = None,
        reply: ReplyTo | None = None,
        grant: Grant | None = None,
    ) -> NewRun:
        """A run of the task with these arguments, not yet submitted.

        Raises:
            TypeError: the arguments do not fit the task's signature.
            SerializationError: one of them cannot be stored.
        """
        signature_of(spec.fn).bind(*args, **kwargs)
        now_ms = self.clock.now_ms()
        starts_at_ms = None if not spec.delay_s else now_ms + round(spec.delay_s * 1000)
        given = RunInput(
            tuple(self._argument(spec, hint_for(spec, i), f"argument {i + 1}", arg) for i, arg in enumerate(args)),
            {
                name: self._argument(spec, spec.parameters.get(name, object), f"argument {name}", value)
                for name, value in kwargs.items()
            },
            spec.digest(args, kwargs, self.codec),
            uuid.uuid4().hex,
            None if spec.expires_s is None else now_ms + round(spec.expires_s * 1000),
            reply,
            spec.outline,
            overrides_to_json(spec.overrides),
            starts_at_ms,
        )
        return NewRun(
            run_id or spec.run_id or uuid.uuid4().hex,
            spec.id,
            encode_input(self.codec, given),
            spec.queue,
            spec.priority,
            spec.tags,
            parent,
            start_at_ms=starts_at_ms,
            grant=grant,
            limit=limit_of(spec.concurrency, spec.id, args, kwargs),
        )

    def create(self, new: NewRun) -> None:
        """Put a new run into its queue; the same one given twice is one run.

        Raises:
            RunConflict: the id is taken by a run of another task or with other arguments.
        """
        self.create_all([new])

    def create_all(self, runs: Sequence[NewRun]) -> None:
        """Put new runs into their queues, all in one change, or in a few if they are very many.

        Raises:
            RunConflict: an id is taken by a run of another task or with other arguments.
        """
        for portion in portions(runs):
            submitted = self.storage.submit(portion, now_ms=self.now_arg())
            for new, answer in zip(portion, submitted, strict=True):
                if isinstance(answer, Exists):
                    self.check_same(new, self.snapshot(new.run_id))

    def _argument(self, spec: TaskSpec, hint: object, which: str, value: object) -> Any:  # noqa: ANN401  # JSON
        try:
            return self.codec.to_json(value, hint)
        except SerializationError as error:
            raise SerializationError(f"{which} of task {spec.id!r} cannot be stored: {error}") from error

    def check_same(self, new: NewRun, snapshot: Snapshot) -> None:
        """Hold a run id given again against the run that has it.

        Raises:
            RunConflict: it has another task or other arguments.
        """
        header = snapshot.header
        if header.task != new.task:
            raise RunConflict(f"run id {new.run_id!r} is taken by a run of task {header.task!r}, not {new.task!r}")
        theirs, ours = decode_input(self.codec, snapshot.input).digest, decode_input(self.codec, new.input).digest
        if theirs and ours and theirs != ours:
            raise RunConflict(
                f"run id {new.run_id!r} is taken by a run of {new.task!r} with other arguments; use another id, or "
                "none, for other work"
            )

    # ---- advancing one incarnation ----------------------------------------------------------------------------

    def advance(self, start: Start) -> Ending:
        """Advance a claimed run on this thread as far as it goes."""
        spec = tasks.find(start.task)
        if spec is not None and spec.is_async:
            if _loop_is_running():
                raise WrongColour(
                    f"task {start.task!r} is async and an event loop runs in this thread: await it, or "
                    "`await flow.aio.run(...)`"
                )
            return asyncio.run(self.advance_async(start))
        run, call = incarnation(self, start, spec or _unknown_task(start.task))
        with self._leases.watching(run):
            return drive(run, Scope("", run.started_at_ms, run.undos), run_operation(run, call))

    async def advance_async(self, start: Start) -> Ending:
        """Advance a claimed run as far as it goes: an async task on this event loop, a sync one on a thread."""
        spec = tasks.find(start.task)
        if spec is None or not spec.is_async:
            return await asyncio.to_thread(self.advance, start)
        run, call = incarnation(self, start, spec)
        with self._leases.watching(run):
            return await drive_async(run, Scope("", run.started_at_ms, run.undos), run_operation(run, call))

    # ---- runs to their end ------------------------------------------------------------------------------------

    def run_to_end(self, new: NewRun) -> bytes:
        """Create, join or resume the run, and stay until it has ended; returns its stored result."""
        return self._follow(self._to_end(new))

    async def run_to_end_async(self, new: NewRun) -> bytes:
        """As `run_to_end`, on the running event loop."""
        return await self._follow_async(self._to_end(new))

    def tell(self, run_id: str, message: Message) -> Delivery:
        """Send a run a message; one that is being advanced here hears of it at once."""
        delivery = self.storage.send(run_id, message, now_ms=self.now_arg())
        if delivery is Delivery.DELIVERED:
            self._leases.heard(run_id, message)
        return delivery

    def inquire(self, parent: Run, question: Inquire) -> Mapping[str, Standing]:
        """Look at runs that a run waits for, or is about to start.

        Raises:
            RunNotFound: one that is waited for is not there.
            RunConflict: one that is about to be started is there, and is something else.
        """
        standings = {}
        for run_id in question.run_ids:
            snapshot = self.storage.load(run_id, 0, None if question.reopen else 0)
            if snapshot is not None:
                standings[run_id] = self._standing(parent, snapshot, reopen=question.reopen)
            elif not question.same:
                raise RunNotFound(
                    f"run {parent.id!r} waits for run {run_id!r}, which is not in this storage (any more)"
                )
        for new in question.same:
            if new.run_id in standings:
                self.check_same(new, self.snapshot(new.run_id))
        return standings

    def _standing(self, parent: Run, snapshot: Snapshot, *, reopen: bool) -> Standing:
        header = snapshot.header
        tells = header.parent == parent.id
        if reopen and header.status is RunStatus.FAILED:
            with contextlib.suppress(RunRolledBack):
                self.reopen(snapshot, keys_to_retry(self.codec, snapshot))
                return Standing(header.task, None, tells)
        return Standing(header.task, snapshot.result if header.status.finished else None, tells)

    def run_child(self, parent: Run, new: NewRun, *, reopen: bool) -> ChildAnswer:
        """Run a child in its parent's place (rule E3)."""
        return self._follow(self._child(parent, new, reopen=reopen))

    async def run_child_async(self, parent: Run, new: NewRun, *, reopen: bool) -> ChildAnswer:
        """As `run_child`, on the running event loop."""
        return await self._follow_async(self._child(parent, new, reopen=reopen))

    def _follow(self, plan: _Plan[_T]) -> _T:
        answer: object = None
        try:
            while True:
                match plan.send(answer):
                    case _Blocking(call=call):
                        answer = call()
                    case _Advance(start=start):
                        answer = self.advance(start)
        except StopIteration as stop:
            value: _T = stop.value
            return value

    async def _follow_async(self, plan: _Plan[_T]) -> _T:
        answer: object = None
        try:
            while True:
                match plan.send(answer):
                    case _Blocking(call=call):
                        answer = call() if self.instant else await asyncio.to_thread(call)
                    case _Advance(start=start):
                        answer = await self.advance_async(start)
        except StopIteration as stop:
            value: _T = stop.value
            return value

    def _to_end(self, new: NewRun) -> _Plan[bytes]:
        ending = yield from self._begin(new)
        while True:
            match ending:
                case Ended(result=result):
                    return result
                case Blocked(error=error) | Detached(error=error):
                    raise error
                case Revoked(error=error):
                    if not isinstance(error, LeaseLost):
                        raise error
                case Suspended() | RollingBack() | None:
                    pass
                case _:
                    assert_never(ending)
            snapshot: Snapshot = yield _Blocking(lambda: self.snapshot(new.run_id))
            if snapshot.result is not None:
                return self._result_or_raise(snapshot)
            ending = yield from self._resume(new.run_id)
            if ending is None and not (yield from self._take_up_unplaced()):
                yield from self._wait(snapshot.header)

    def _take_up_unplaced(self) -> _Plan[bool]:
        """Advance a child that had no place under its limit when its parent called it, if it has one now.

        Its parent may have held that place, and without a worker there is nobody else to do it.
        """
        for run_id in reversed(tuple(self._unplaced)):
            if (yield from self._resume(run_id)) is not None:
                return True
            snapshot: Snapshot | None = yield _Blocking(functools.partial(self.storage.load, run_id, 0, 0))
            if snapshot is None or snapshot.header.status.finished:
                self._unplaced.pop(run_id, None)
        return False

    def _begin(self, new: NewRun) -> _Plan[Ending | None]:
        """Create the run and advance it, or see that it is the same one as was started before."""
        [submitted] = yield _Blocking(lambda: self.storage.submit([new], now_ms=self.now_arg()))
        match submitted:
            case Created(lease=lease, now_ms=now_ms):
                if lease is None:
                    return None
                ending: Ending = yield _Advance(Start(lease, new.task, new.input, now_ms, new.entries))
                return ending
            case Exists():
                snapshot: Snapshot = yield _Blocking(lambda: self.snapshot(new.run_id))
                self.check_same(new, snapshot)
                return None
            case _:
                assert_never(submitted)

    def _resume(self, run_id: str) -> _Plan[Ending | None]:
        """Claim the run if nobody has it, and advance it; None if there is nothing to claim."""
        grant = self.grant()
        claimed = yield _Blocking(lambda: self.storage.claim(grant, Exactly(run_id), 1, now_ms=self.now_arg()))
        if not claimed.leases:
            return None
        start: Start = yield _Blocking(lambda: self.start_of(claimed.leases[0]))
        ending: Ending = yield _Advance(start)
        return ending

    def _wait(self, header: RunHeader) -> _Plan[None]:
        """Wait until there may be something to do for the run: messages that are not enough are not looked at."""
        began_ms = self.clock.now_ms()
        while True:
            wait_s = self._until_due_s(header)
            if self.clock.virtual:
                self.clock.sleep(wait_s)
                return
            wait = functools.partial(self.storage.wait_for_run, header.run_id, header.revision, wait_s)
            found: RunHeader | None = yield _Blocking(wait)
            if found is None or found.revision == header.revision or not _is_away(found):
                return
            if self.clock.now_ms() - began_ms >= LONGEST_WAIT_S * 1000:  # whoever has it may have died
                return
            header = found

    def _until_due_s(self, header: RunHeader) -> float:
        if header.wake_at_ms is None:
            return LONGEST_WAIT_S
        until_due_s = max(0.0, (header.wake_at_ms - self.clock.now_ms()) / 1000)
        return until_due_s if self.clock.virtual else min(until_due_s, LONGEST_WAIT_S)

    def _child(self, parent: Run, new: NewRun, *, reopen: bool) -> _Plan[ChildAnswer]:
        reply = decode_input(self.codec, new.input).reply
        assert reply is not None  # a child always has a parent to tell
        ending = yield from self._begin(new)
        while True:
            answer = _child_answer(parent, new.run_id, reply, ending)
            if answer is not None:
                return answer
            snapshot: Snapshot = yield _Blocking(lambda: self.snapshot(new.run_id))
            header = snapshot.header
            if header.status is RunStatus.BLOCKED or (reopen and header.status is RunStatus.FAILED):
                reopen = yield _Blocking(functools.partial(self._reopen_child, new.run_id))
            elif header.status.finished and snapshot.result is not None:
                return ChildEnded(snapshot.result)
            ending = yield from self._resume(new.run_id)
            if ending is None:
                if header.parent == parent.id:
                    if header.status is RunStatus.PENDING and header.limit is not None:
                        self._unplaced[new.run_id] = None
                    return ChildWaits(reply.message_id, self._look_again_ms(header))
                yield from self._wait(header)

    def _look_again_ms(self, child: RunHeader) -> int | None:
        """When to look at a child that cannot be advanced now; None if whoever has it, or what wakes it, will tell.

        One that is ready, and was not to be had, waits for a place under its limit.
        """
        if child.status is not RunStatus.PENDING or child.wake_at_ms is not None:
            return child.wake_at_ms
        now_ms = self.clock.now_ms()
        return now_ms + min(max(now_ms - child.created_at_ms, SOONEST_LOOK_MS), LATEST_LOOK_MS)

    def _reopen_child(self, run_id: str) -> bool:
        """Reopen a child whose parent is being retried; one that cannot be reopened stays as it ended."""
        snapshot = self.load(run_id)
        with contextlib.suppress(RunRolledBack):
            self.reopen(snapshot, keys_to_retry(self.codec, snapshot))
        return False

    def start_of(self, lease: Lease) -> Start:
        """Read a run that has just been claimed."""
        return start_from(lease, self.load(lease.run_id))

    def _result_or_raise(self, snapshot: Snapshot) -> bytes:
        assert snapshot.result is not None  # callers have looked
        if snapshot.header.status is RunStatus.BLOCKED:
            raise describe_error(self.codec, snapshot.result)
        return snapshot.result

    def outcome_of(self, task_id: str, result: bytes) -> Outcome:
        """A stored result as what the run returned or raised."""
        spec = tasks.find(task_id)
        return decode_result(self.codec, result, object if spec is None else spec.hint)

    def reopen(self, snapshot: Snapshot, again: tuple[str, ...] = ()) -> object:
        """Put a failed or blocked run back into its queue; the operations named run again."""
        header = snapshot.header
        message = Message(f"reopen:{header.revision}", MessageKind.REOPEN, "retry", self.codec.dumps(list(again)))
        return self.storage.send(header.run_id, message, now_ms=self.now_arg())

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


def _is_away(header: RunHeader) -> bool:
    """Whether the run waits, or is being advanced: neither is there anything to claim nor has it ended."""
    return header.status is RunStatus.WAITING or header.worker is not None


def _child_answer(parent: Run, run_id: str, reply: ReplyTo, ending: Ending | None) -> ChildAnswer | None:
    """What a child's ending means for its parent; None: look at what is stored."""
    match ending:
        case Ended(result=result):
            return ChildEnded(result)
        case Blocked(error=error):
            parent.stop(Blocked(RunBlocked(f"its child run {run_id!r} is blocked: {error}")))
            raise asyncio.CancelledError from error
        case Suspended(wake_at_ms=wake_at_ms):
            return ChildWaits(reply.message_id, wake_at_ms)
        case Detached(error=error):
            if isinstance(error, Exception):  # X5: handed back, so it goes on elsewhere
                return ChildWaits(reply.message_id)
            parent.stop(Detached(error))
            raise asyncio.CancelledError from error
        case Revoked(error=error) if not isinstance(error, LeaseLost):
            raise error
        case _:
            return None


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


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
