"""The current run, and where the running code stands in it.

A `Run` is one incarnation: one process advancing one run until it ends, waits, or loses its lease. Code finds it
through a context variable, so decorated functions need no extra argument.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

from attrs import define, field

from flowkit.changes import Change, Writer
from flowkit.clock import Clock
from flowkit.codec import Codec, Json, live_error
from flowkit.committer import Committer
from flowkit.effects import ChildAnswer, Effect, Inquire, Standing
from flowkit.errors import LeaseLost
from flowkit.journal import Journal, Past
from flowkit.lines import Scope, UndoScope, Work
from flowkit.mailbox import Mailbox
from flowkit.reasons import Detached, Reason, Revoked, Unwind
from flowkit.records import Delivery, Message, NewRun, Snapshot
from flowkit.retry import RetryPolicy

log = logging.getLogger(__name__)
_MANY_REFUSED = 100


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

    def beside(self, run: Run, body: Callable[[], None]) -> Callable[[], None]:
        """What to do on another thread of the run, which is about to be started: the same, but it may have to wait."""
        del run
        return body

    def stands_by(self, run: Run, ready: Callable[[], bool]) -> None:
        """This thread is about to wait for others of the run, until that is true. May return early."""
        del run, ready

    def swallowed(self, run: Run, told: str) -> None:
        """The task's body went on after it was told to let go (rule E1); what is told of that."""
        del run, told


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
    failed_undos: dict[str, Exception] = field(factory=dict)  # undos that failed for good, by key (rule G2)
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
    refused: int = 0  # calls that were made while it was being unwound
    ambient: BaseException | None = None  # what was being handled around the body when it started

    def live_error(self, error: BaseException) -> tuple[Json, BaseException]:
        """What to record of an error, and what a replay will raise for it (rule D6)."""
        return live_error(self.codec, error, self.max_value_bytes // 2)  # what is stored around it needs room too

    def recorded(self, error: BaseException) -> Json:
        """What to record of an error."""
        return self.live_error(error)[0]

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
            raise self._refused(asyncio.CancelledError() if self.is_async else Unwind(self.reason))
        if scope.reason is not None:
            raise self._refused(Unwind(scope.reason))
        if self.closing is not None and not self.is_async:
            raise self.leave(scope, Detached(self.closing))
        if self.fresh_failures:  # whatever this line, or one that it has branched into, has failed with is dealt with
            self.fresh_failures = [key for key in self.fresh_failures if not key.startswith(scope.prefix)]
        error = sys.exception()
        if error is not None and error is not self.ambient:
            self.handled = True

    def _refused(self, signal: BaseException) -> BaseException:
        """The signal once more. A body that holds it in a loop never ends, so that is told meanwhile (rule E1)."""
        self.refused += 1
        if self.refused == _MANY_REFUSED:
            self.tell_of_swallowing(
                f"the task of run {self.id!r} has been told to let go {_MANY_REFUSED} times and goes on calling (a "
                "loop around `except:` or `except BaseException:` without `raise`?); it keeps its thread until it ends",
            )
        return signal

    def tell_of_swallowing(self, told: str) -> None:
        """Report a body that holds what is to take it off the stack (rule E1)."""
        log.warning("%s", told)
        if self.probe is not None:
            self.probe.swallowed(self, told)

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
