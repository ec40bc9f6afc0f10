"""Do a body's asyncio tasks wait for nothing but flowkit's own futures, and which time limits would wake them?

asyncio has no public answer, so this reads what CPython keeps: the future a task waits on, for the waiting primitives
of asyncio itself what their frames wait for in turn, and the timers of the loop. Whatever it does not recognise (raw
I/O, a thread, a timer of the body's own) counts as "waits for something else", which is safe: the run then stays in
memory a while longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from enum import IntEnum
from typing import Any

from attrs import define, field

from flowkit.frozen import frozen

MAX_DEPTH = 200
_Future = asyncio.Future[Any]


class Hang(IntEnum):
    """On what a future hangs."""

    ELSEWHERE = 0  # perhaps on something that is not flowkit's
    OURS = 1
    HELD = 2  # on what a replay holds back, among others of ours


@frozen
class TimeLimit:
    """A timer of `asyncio.timeout`, `wait_for` or `wait` around calls of the body."""

    handle: asyncio.TimerHandle = field(eq=False)
    hang: Hang  # of what it limits

    def pass_now(self) -> None:
        """The time is up, although the loop's clock does not say so yet."""
        timer: Any = self.handle
        callback, args, context = timer._callback, timer._args, timer._context  # noqa: SLF001  # asyncio's own
        self.handle.cancel()
        context.run(callback, *args)


@frozen
class Outlook:
    """What could wake the tasks of a body."""

    elsewhere: bool  # something that is not flowkit's could
    limits: Sequence[TimeLimit] = ()  # soonest first

    def limit_of_held(self) -> TimeLimit | None:
        """The soonest limit around something that is held back, unless something else could wake the tasks."""
        return None if self.elsewhere else next((limit for limit in self.limits if limit.hang is Hang.HELD), None)

    def limited_until(self, time_s: float) -> bool:
        """Whether a limit passes before this time of the loop."""
        return bool(self.limits) and self.limits[0].handle.when() <= time_s


def look(
    loop: asyncio.AbstractEventLoop,
    lines: Iterable[asyncio.Task[Any]],
    ours: Collection[_Future],
    held: Collection[_Future],
) -> Outlook:
    """See what could wake these tasks beside the futures of `ours`, some of which a replay has `held` back."""
    walk = _Walk(ours, held)
    hangs = [walk.of(line) for line in lines]
    limits = [
        TimeLimit(handle, hang)
        for handle in getattr(loop, "_scheduled", ())  # other loops do not tell
        if not handle.cancelled() and (hang := walk.limited_by(handle)) is not None
    ]
    limits.sort(key=lambda limit: limit.handle.when())
    return Outlook(Hang.ELSEWHERE in hangs or bool(walk.timed), limits)


@define(eq=False)
class _Walk:
    """The way from tasks down to the futures that would wake them."""

    ours: Collection[_Future]
    held: Collection[_Future]
    seen: dict[_Future, Hang] = field(factory=dict)
    timed: dict[_Future, Hang] = field(factory=dict)  # futures that a timer resolves, of which none was found yet

    def limited_by(self, handle: asyncio.TimerHandle) -> Hang | None:
        """What hangs on the task or the future that this timer would wake, if it is one of those seen."""
        timer: Any = handle
        owner = getattr(timer._callback, "__self__", None)  # noqa: SLF001  # there is no public way to ask
        if isinstance(owner, asyncio.Timeout):
            limit: Any = owner
            return self.seen.get(limit._task)  # noqa: SLF001  # nor here
        args: Sequence[Any] = timer._args  # noqa: SLF001  # nor here
        return self.timed.pop(args[0], None) if args and isinstance(args[0], asyncio.Future) else None

    def of(self, future: _Future | None, depth: int = 0) -> Hang:
        """On what a future hangs."""
        if future is None or depth > MAX_DEPTH:
            return Hang.ELSEWHERE
        if future in self.held:
            return Hang.HELD
        if future in self.ours:
            return Hang.OURS
        if future in self.seen:
            return self.seen[future]
        self.seen[future] = Hang.OURS  # a circle hangs on whatever else it waits for
        self.seen[future] = found = self._of_new(future, depth)
        return found

    def _of_new(self, future: _Future, depth: int) -> Hang:
        if isinstance(future, asyncio.Task):
            return self._of_task(future, depth)
        children = getattr(future, "_children", None)  # asyncio.gather
        if isinstance(children, Iterable):
            return self._of_all([child for child in children if not child.done()], depth)
        return Hang.ELSEWHERE

    def _of_task(self, task: asyncio.Task[Any], depth: int) -> Hang:
        waiter: _Future | None = getattr(task, "_fut_waiter", None)
        if waiter is None or task.done():
            return Hang.ELSEWHERE
        hang = self.of(waiter, depth + 1)
        if hang is Hang.ELSEWHERE:
            awaited, timed = _awaited_by_frame(task)
            hang = self._of_all(awaited, depth)
            if timed and hang is not Hang.ELSEWHERE:
                self.timed[waiter] = hang
        return hang

    def _of_all(self, futures: Sequence[_Future], depth: int) -> Hang:
        hangs = [self.of(future, depth + 1) for future in futures]
        return Hang.ELSEWHERE if not hangs or Hang.ELSEWHERE in hangs else max(hangs)


def _awaited_by_frame(task: asyncio.Task[Any]) -> tuple[list[_Future], bool]:
    """What asyncio's own innermost waiting coroutine waits for, behind the plain future that it made.

    And whether a timer of its own resolves that future as well.
    """
    coroutine: Any = task.get_coro()
    innermost = None
    while coroutine is not None and getattr(coroutine, "cr_frame", None) is not None:
        innermost = coroutine
        coroutine = getattr(coroutine, "cr_await", None)
    if innermost is None:
        return [], False
    frame = innermost.cr_frame
    if frame.f_globals.get("__name__") not in {"asyncio.tasks", "asyncio.taskgroups"}:
        return [], False
    found, timed = frame.f_locals, False
    match frame.f_code.co_name:
        case "_wait":  # asyncio.wait
            waiting, timed = found.get("fs", ()), found.get("timeout") is not None
        case "wait_for":  # before Python 3.12; since then it is `asyncio.timeout`
            waiting, timed = (found["fut"],), found.get("timeout") is not None
        case "__aexit__":  # TaskGroup
            waiting = getattr(found.get("self"), "_tasks", ())
        case "_wait_for_one" | "_get_one" | "shield":
            waiting = found.get("todo", ())
        case _:
            waiting = ()
    return [future for future in waiting if not future.done()], timed
