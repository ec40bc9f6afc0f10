"""A line of calls that follow one another: its place among others, the keys that its calls take, what undoes them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from attrs import define, field

from flowkit.errors import AmbiguousOrder
from flowkit.reasons import Reason
from flowkit.retry import RetryPolicy


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
