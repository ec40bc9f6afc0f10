"""The current run: its scopes and keys, and where the running code stands in it.

A `Run` is one incarnation: one process advancing one run until it ends, waits, or loses its lease. Code finds it
through a context variable, so decorated functions need no extra argument.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

from attrs import define, field

from flowkit.changes import Change, Writer
from flowkit.clock import Clock
from flowkit.codec import Codec
from flowkit.committer import Committer
from flowkit.effects import ChildAnswer, Effect, Inquire, Standing
from flowkit.errors import AmbiguousOrder, FlowkitError, LeaseLost
from flowkit.frozen import frozen
from flowkit.journal import Journal, Past
from flowkit.mailbox import Mailbox
from flowkit.records import Delivery, Message, NewRun, Snapshot
from flowkit.retry import RetryPolicy

# ---- why a run stops before its end ---------------------------------------------------------------------------------


@frozen
class Suspended:
    """Everything in it waits: for a time, a message, or both (rule E1)."""

    wake_at_ms: int | None = None
    arrivals: int | None = None  # how many messages must have come, counted as its mailbox does
    cancel_heard: bool = False  # whoever waits has heard of a cancellation, or must not hear of one (rule E2)


@frozen
class Blocked:
    """It cannot go on until a person mends something (rule I3)."""

    error: FlowkitError = field(eq=False)


@frozen
class Revoked:
    """Its ports are closed: the lease is lost, or a test has killed it. It writes nothing more (rule D4)."""

    error: BaseException = field(eq=False)


@frozen
class RollingBack:
    """The body was replayed to rebuild its undos, and would go forward again (rule G3)."""


@frozen
class Detached:
    """The caller or the process lets go of it, unfinished; it is handed back at once (rule X5)."""

    error: BaseException = field(eq=False)


Reason = Suspended | Blocked | Revoked | Detached | RollingBack


def combined(reasons: Iterable[Reason]) -> Reason | None:
    """Why several lines of a run have stopped, as one reason: what comes due first wakes them all."""
    found = list(reasons)
    others = [reason for reason in found if not isinstance(reason, Suspended)]
    if others:
        return others[0]
    waits = [reason for reason in found if isinstance(reason, Suspended)]
    if not waits:
        return None
    wakes = [wait.wake_at_ms for wait in waits if wait.wake_at_ms is not None]
    arrivals = [wait.arrivals for wait in waits if wait.arrivals is not None]
    heard = all(wait.cancel_heard for wait in waits)
    return Suspended(min(wakes, default=None), min(arrivals, default=None), heard)


class Unwind(BaseException):
    """Raised through a body to take it off the stack. `except Exception` does not swallow it (rule E1)."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class LeaveScope(BaseException):
    """Raised on replay in a saga scope that is being rolled back, where it would go forward again (rule G3)."""


class Cancelled(BaseException):
    """Raised once in a synchronous body when its run is cancelled (rule E2); async code sees `CancelledError`."""


class Probe(Protocol):
    """Sees every effect before and after it is performed; the harness injects its faults here."""

    def before(self, run: Run, effect: Effect) -> Effect:
        """The effect to perform: this one or one of the same kind in its place. May raise instead, or wait."""

    def after(self, run: Run, effect: Effect, answer: object) -> object:
        """The answer to hand on. May raise after the effect."""

    def failed(self, run: Run, effect: Effect, error: BaseException) -> None:
        """The effect, or the probe itself, raised."""

    def recalled(self, run: Run, past: Past) -> None:
        """The journal answers a call instead of an effect."""


# ---- scopes and keys ------------------------------------------------------------------------------------------------


@define(eq=False, repr=False)
class Undo:
    """What takes back one completed operation (rule G1)."""

    key: str  # of the operation that it undoes
    name: str
    order: tuple[int, int]  # when that was completed: its position in the journal, then its ordinal
    fn: Callable[..., object]
    is_async: bool
    policy: RetryPolicy | None
    args: tuple[object, ...]
    kwargs: Mapping[str, object]


@define(eq=False, repr=False)
class UndoScope:
    """The undos of one saga scope, or of the whole task."""

    key: str
    undos: list[Undo] = field(factory=list)
    rolling_back: bool = False  # on replay: it was left by an error, so nothing new may begin in it (rule G3)
    works: list[Work] = field(factory=list)  # side work queued in it, unless it is the task itself
    in_flight: int = 0  # calls on the event loop
    settled: asyncio.Future[None] | None = None  # whoever waits for what is in flight
    outer: UndoScope | None = None  # that it has been handed over to
    inner: list[UndoScope] = field(factory=list)  # that were handed over to this one with calls in flight
    lock: threading.Lock = field(factory=threading.Lock)

    def add(self, undo: Undo) -> None:
        """Something that was completed in it can be taken back; if it has been left, by the scope around it."""
        with self.lock:
            if self.outer is None:
                self.undos.append(undo)
                return
        self.outer.add(undo)

    def hand_over(self, outer: UndoScope) -> None:
        """It has succeeded: what was, and what still will be, completed in it is undone by the one around it (G1)."""
        with self.lock:
            for undo in self.undos:
                outer.add(undo)
            self.outer = outer
        outer.works.extend(work for work in self.works if not work.settled)
        if self.busy:
            outer.inner.append(self)

    @property
    def busy(self) -> bool:
        """True while something that was begun in it has not settled."""
        if self.in_flight or any(not work.settled for work in self.works):
            return True
        return any(scope.busy for scope in self.inner)

    def tell(self) -> None:
        """Something has settled: whoever waits for that looks again; on the event loop."""
        if self.settled is not None and not self.settled.done():
            self.settled.set_result(None)
        if self.outer is not None:
            self.outer.tell()


@define(eq=False, repr=False)
class Entrant:
    """One line of a race, and of the race around that one if there is one."""

    outer: Entrant | None = None
    beaten: bool = False
    interruptible: set[asyncio.Task[object]] = field(factory=set)  # that await an async step of this line

    @property
    def lost(self) -> bool:
        """True once another line has won: this one begins nothing new (rule G6)."""
        return self.beaten or (self.outer is not None and self.outer.lost)

    def beat(self) -> None:
        """Another line has won: what can be cancelled is."""
        self.beaten = True
        for task in self.interruptible:
            task.cancel()


@define(eq=False, repr=False)
class Scope:
    """A line of calls that follow one another. Each call takes the next ordinal when it is made (rule I1)."""

    prefix: str  # "" for the task's own code, "3.0." for the first branch of operation 3
    now_ms: int  # when the last recorded thing that this branch has seen was recorded (rule I6)
    saga: UndoScope
    works: list[Work] = field(factory=list)  # side work queued by this task or sequencer, shared by its branches
    position: int = 0  # of the last recorded thing that this branch has seen
    ordinal: int = 0
    draws: int = 0  # uuid4() and rng() calls so far
    items: int = 0  # emit() calls so far
    named: set[str] | None = None
    reason: Reason | None = None  # set once this line of a sync body is being taken off its stack
    cancel_delivered: bool = False  # cancellation is raised once in each line of calls (rule E2)
    entrant: Entrant | None = None  # the line of a race that this belongs to

    def branch(self, key: str, index: int) -> Scope:
        """A scope of its own, for a line of calls that runs beside this one."""
        scope = Scope(f"{self.prefix}{key}.{index}.", self.now_ms, self.saga, self.works, self.position)
        scope.entrant = self.entrant
        return scope

    def next_key(self) -> str:
        """The key of the next call."""
        self.ordinal += 1
        return f"{self.prefix}{self.ordinal}"

    def named_key(self, name: str) -> str:
        """The key of a call that the user has named.

        Raises:
            AmbiguousOrder: if the name was used before in this scope.
        """
        if self.named is None:
            self.named = set()
        if name in self.named:
            raise AmbiguousOrder(f"key {name!r} is used twice in one scope of the run; keys must be unique")
        self.named.add(name)
        return f"{self.prefix}={name}"


class Work(Protocol):
    """Side work, as its run sees it."""

    @property
    def settled(self) -> bool:
        """True once it has ended, or waits for something far off."""

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until it is settled; False if it is not in time."""

    @property
    def parked(self) -> Reason | None:
        """Why it stopped before its end, if it did."""

    @property
    def fatal(self) -> BaseException | None:
        """What is no failure of the work but of its process, such as Ctrl-C."""


@define(eq=False, repr=False)
class Frame:
    """Where the running code stands."""

    run: Run
    scope: Scope
    task: asyncio.Task[object] | None  # the asyncio task whose calls belong to this scope
    thread: int  # the thread whose calls belong to this scope
    step_key: str | None = None  # set inside a step's function
    step_name: str = ""
    attempt: int = 1

    def owned_here(self) -> bool:
        """True if the calling thread and asyncio task are the ones this scope belongs to."""
        if threading.get_ident() != self.thread:
            return False
        return self.task is None or asyncio.current_task(self.task.get_loop()) is self.task


current: ContextVar[Frame | None] = ContextVar("flowkit_frame", default=None)

live: set[Run] = set()
"""Runs whose body is on a stack of this process; asked only when a step is called outside of any."""


@define(eq=False)
class Child:
    """A run that a run has triggered, as its parent sees it."""

    task: str
    remember_undo: Callable[[UndoScope, str, int, int, bytes], None] | None = None  # how to take it back (rule G1)


# ---- the run --------------------------------------------------------------------------------------------------------


class Parking(Protocol):
    """The async body, as seen by operations that wait in it."""

    created: int
    loop: asyncio.AbstractEventLoop

    async def park(self, scope: Scope, wake_at_ms: int | None, arrivals: int | None) -> None:
        """A line of calls waits for a time, or until so many messages have come."""

    def start_branch(self, scope: Scope, make: Callable[[], Coroutine[Any, Any, object]]) -> asyncio.Task[object]:
        """Run a line of calls beside the others."""

    def begin(self) -> asyncio.Task[object] | None:
        """A call's coroutine has begun."""

    def end(self, task: asyncio.Task[object] | None) -> None:
        """A call's coroutine has ended."""

    def answer(self, position: int) -> bool:
        """End a call with its recorded outcome at once, if nothing stands before or beside it."""

    async def turn(self, position: int) -> None:
        """Wait until a recorded outcome is the next to be delivered."""

    def skip(self, position: int) -> None:
        """A recorded outcome was delivered by a sync call."""

    async def settle(self, saga: UndoScope) -> None:
        """Wait until nothing that was begun in a scope is in flight."""

    async def hold(self) -> None:
        """Start nothing new."""

    async def caught_up(self) -> None:
        """Wait until everything recorded has been delivered."""

    def alone(self) -> bool:
        """Whether a call has no other beside it."""

    async def live_turn(self) -> None:
        """Wait until a new outcome may be delivered."""

    def news(self) -> None:
        """Messages or a cancellation have come in."""


class Services(Protocol):
    """What a run asks of the engine it runs in."""

    @property
    def clock(self) -> Clock:
        """The time."""

    @property
    def codec(self) -> Codec:
        """How values become bytes."""

    @property
    def committer(self) -> Committer:
        """Where changes are written."""

    @property
    def patience_in_place_s(self) -> float:
        """Waits up to this many seconds stay in place; longer ones let go of the run."""

    @property
    def max_value_bytes(self) -> int:
        """The largest payload that the storage takes."""

    @property
    def instant(self) -> bool:
        """True if the storage never makes anyone wait."""

    def load(self, run_id: str) -> Snapshot:
        """Read a run that exists."""

    def inbox(self, run_id: str) -> Sequence[Message]:
        """Read what has been sent to a run, oldest first."""

    def tell(self, run_id: str, message: Message) -> Delivery:
        """Send a run a message."""

    def inquire(self, parent: Run, question: Inquire) -> Mapping[str, Standing]:
        """Look at runs that a run waits for, or is about to start."""

    def run_child(self, parent: Run, new: NewRun, *, reopen: bool) -> ChildAnswer:
        """Run a child in its parent's place, blocking."""

    async def run_child_async(self, parent: Run, new: NewRun, *, reopen: bool) -> ChildAnswer:
        """As `run_child`, on the event loop."""


@define(eq=False, repr=False)
class Run:
    """One incarnation of a run."""

    id: str
    task_id: str
    services: Services
    journal: Journal
    writer: Writer
    policy: RetryPolicy  # the task's: for its own code, and for steps without one of their own
    seed: str
    started_at_ms: int
    is_async: bool
    codec: Codec
    clock: Clock
    max_value_bytes: int
    module: str = ""  # of the task's function
    deadline_ms: int | None = None
    probe: Probe | None = None
    body: Parking | None = None  # while an async body is on the loop
    reason: Reason | None = None  # set once the body is being taken off the stack
    unwind: Callable[[Reason], None] | None = None  # how an async body is taken off the stack
    undos: UndoScope = field(factory=lambda: UndoScope(""))  # of the task itself
    compensating: int = 0  # rollbacks under way: cancellation is not delivered meanwhile (rule E2)
    failed_undos: list[str] = field(factory=list)  # keys of undos that failed for good (rule G2)
    rolled_back: bool = False  # an undo has run (rule G5)
    closing: BaseException | None = None  # why it is to be handed back at its next call
    works: list[Work] = field(factory=list)  # all side work of this incarnation
    mailbox: Mailbox = field(factory=Mailbox)
    cancelled_in_pause: bool = False  # cancellation came between two tries of the body
    timed_out: bool = False  # the task's timeout has been raised in the body
    handled: bool = False  # a durable operation was called while an error was being handled (rule R3)
    failed_delivered: bool = False  # a final step failure has reached the body (rule R3)
    children: dict[str, Child] = field(factory=dict)  # the runs that this incarnation has triggered, or found triggered
    child_errors: dict[int, list[str]] = field(factory=dict)  # what their failures, by id(), make a retry forget
    kept_errors: list[BaseException] = field(factory=list)  # so that no other error gets the id of one of them
    numbers: dict[str, Iterator[int]] = field(factory=dict)  # of what steps emit and send, by attempt
    fresh_failures: list[str] = field(factory=list)  # failures after which nothing more was called
    ambient: BaseException | None = None  # what was being handled around the body when it started

    def rewind(self, journal: Journal) -> None:
        """Get ready to run the body from its start."""
        self.journal = journal
        self.handled = self.failed_delivered = False
        self.fresh_failures, self.works = [], []
        self.undos = UndoScope("")
        self.mailbox.forget_who_took_what()

    def enter_call(self, scope: Scope) -> None:
        """What every durable call does first.

        Raises:
            Unwind: the body is being taken off the stack, so it may do nothing durable any more (rule E1).
        """
        if self.reason is not None:
            raise asyncio.CancelledError if self.is_async else Unwind(self.reason)
        if scope.reason is not None:
            raise Unwind(scope.reason)
        if self.closing is not None and not self.is_async:
            raise self.leave(scope, Detached(self.closing))
        if self.fresh_failures:  # whatever this line, or one that it has branched into, has failed with is dealt with
            self.fresh_failures = [key for key in self.fresh_failures if not key.startswith(scope.prefix)]
        error = sys.exception()
        if error is not None and error is not self.ambient:
            self.handled = True

    def stop(self, reason: Reason) -> None:
        """Take the body off the stack: at once in a sync body, by cancelling its root in an async one.

        Raises:
            Unwind: in a synchronous body.
        """
        if self.reason is None:
            self.reason = reason
        if self.unwind is None:
            raise Unwind(self.reason)
        self.unwind(self.reason)

    def leave(self, scope: Scope, reason: Reason) -> Unwind:
        """What to raise to take one line of a sync body off its stack.

        The run is let go of when all its lines are (rule E1).
        """
        scope.reason = reason
        return Unwind(reason)

    def cancel_wanted(self, scope: Scope) -> bool:
        """True if a cancellation is waiting to be raised in this line of calls (rules E2, G6)."""
        if scope.entrant is not None and scope.entrant.lost and not scope.cancel_delivered:
            return True
        return self.writer.cancel and not self.cancel_heard(scope)

    def cancel_heard(self, scope: Scope) -> bool:
        """True if no cancellation is to be raised in this line of calls, now or later: it must not be woken by one."""
        return scope.cancel_delivered or self.compensating > 0

    def lose(self, error: LeaseLost) -> None:
        """The lease is gone: from another thread, see to it that the body goes no further (rule D4)."""
        self.writer.lost = str(error)
        self._stop_from_outside(Revoked(error))

    def close(self, why: BaseException) -> None:
        """Let go of the run at its next call, after the steps in flight (rule X5); from any thread."""
        self.closing = why
        self.news()

    def _stop_from_outside(self, reason: Reason) -> None:
        if self.reason is None:
            self.reason = reason
        if self.unwind is not None:
            self.unwind(self.reason)

    def news(self) -> None:
        """Messages, a cancellation or a closing have come in; from any thread."""
        if self.body is not None:
            self.body.news()

    def write(self, change: Change) -> int:
        """Write, blocking; the position of the last entry."""
        return self.services.committer.write(change)

    # ---- the same on every replay (rule I6) -------------------------------------------------------------------

    def draw(self, scope: Scope) -> random.Random:
        """A generator seeded by the run and by the ordinal of this draw in its scope."""
        scope.draws += 1
        return random.Random(f"{self.seed}:{scope.prefix}{scope.draws}")

    def uuid4(self, scope: Scope) -> uuid.UUID:
        """A random-looking UUID that follows from the run and its ordinal."""
        return uuid.UUID(int=self.draw(scope).getrandbits(128), version=4)
