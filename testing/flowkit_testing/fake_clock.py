"""Time that a test moves: no wait takes real time, and whoever waits wakes in the order of the deadlines."""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from attrs import define, field

from flowkit.durations import Duration, seconds

STARTS_AT_MS = 1_767_225_600_000  # 2026-01-01, so that journals of tests read the same every day
_NS_PER_MS = 1_000_000
_NS_PER_S = 1_000_000_000
_SETTLE_TURNS = 30  # turns of a foreign event loop after which what a wake-up set in motion counts as done


@define(order=True)
class _Sleeper:
    """A coroutine that waits for a virtual time."""

    deadline_ns: int
    number: int
    future: asyncio.Future[None] = field(eq=False, order=False)


class FakeClock:
    """A `flowkit.clock.Clock` that stands still until someone sleeps or a test advances it.

    Args:
        starts_at_ms: its first reading, in milliseconds since the epoch.

    A sleep moves the clock to its end at once. On flowkit's virtual event loop, sleeping coroutines share one
    timeline: the next deadline is reached when nothing else moves (the autojump clock of trio). On any other loop the
    same is done as well as that loop lets it: it counts as idle when it has run dry for some turns.

    Example:
        >>> clock = FakeClock()
        >>> before = clock.now_ms()
        >>> clock.sleep(2)
        >>> clock.now_ms() - before
        2000
    """

    virtual = True

    def __init__(self, starts_at_ms: int = STARTS_AT_MS) -> None:
        self._lock = threading.Lock()
        self._starts_at_ns = self._now_ns = starts_at_ms * _NS_PER_MS
        self._sleepers: list[_Sleeper] = []
        self._number = 0
        self.on_advance: Callable[[int], None] | None = None  # does all that is due until a time, in milliseconds
        self.on_sleep: Callable[[int], None] | None = None  # may do so before somebody's sleep is over
        self.on_wait: Callable[[int], bool] | None = (
            None  # does one thing that is due until a time; False: there is none
        )

    def __repr__(self) -> str:
        return f"<FakeClock {self.now().isoformat()}>"

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return self._now_ns // _NS_PER_MS

    def now(self) -> datetime:
        """The time, in UTC."""
        return datetime.fromtimestamp(self.now_ms() / 1000, UTC)

    def since_start_s(self) -> float:
        """Seconds since the clock was made."""
        return (self._now_ns - self._starts_at_ns) / _NS_PER_S

    def advance(self, duration: Duration) -> None:
        """Let time pass, with everything that comes due on the way.

        Args:
            duration: seconds, a `timedelta`, or text such as "30d".
        """
        until_ms = self.now_ms() + round(seconds(duration, "clock.advance") * 1000)
        if self.on_advance is not None:
            self.on_advance(until_ms)
        self.move_to(until_ms)

    def move_to(self, when_ms: int) -> None:
        """Set the clock, if that is forward."""
        with self._lock:
            self._now_ns = max(self._now_ns, when_ms * _NS_PER_MS)

    def jump(self, wait_s: float) -> None:
        """Move forward by so many seconds; fractions of a microsecond are rounded up, so that a deadline is reached."""
        with self._lock:
            self._now_ns += (int(wait_s * 1e6) + 1) * 1000

    def sleep(self, seconds: float) -> None:
        """Be there at once."""
        until_ns = self._now_ns + round(seconds * _NS_PER_S)
        if self.on_sleep is not None:
            self.on_sleep(until_ns // _NS_PER_MS)
        with self._lock:
            self._now_ns = max(self._now_ns, until_ns)

    def wait(self, seconds: float, changed: Callable[[], bool]) -> None:
        """Let time pass until something has changed, or for so many seconds."""
        until_ns = self._now_ns + round(seconds * _NS_PER_S)
        while not changed():
            if self.on_wait is None or not self.on_wait(until_ns // _NS_PER_MS):
                with self._lock:
                    self._now_ns = max(self._now_ns, until_ns)
                return

    async def sleep_async(self, seconds: float) -> None:
        """Wait for the others whose deadlines come first, then be there."""
        loop = asyncio.get_running_loop()
        if getattr(loop, "fake_clock", None) is self:
            await asyncio.sleep(seconds)
            return
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._number += 1
            sleeper = _Sleeper(self._now_ns + round(seconds * _NS_PER_S), self._number, future)
            heapq.heappush(self._sleepers, sleeper)
        loop.call_soon(self._wake_next, loop, _SETTLE_TURNS)
        await future

    def _wake_next(self, loop: asyncio.AbstractEventLoop, turns: int) -> None:
        if turns:
            loop.call_soon(self._wake_next, loop, turns - 1)
            return
        with self._lock:
            while self._sleepers and self._sleepers[0].future.done():
                heapq.heappop(self._sleepers)
            if not self._sleepers:
                return
            first = heapq.heappop(self._sleepers)
            self._now_ns = max(self._now_ns, first.deadline_ns)
            again = bool(self._sleepers)
        first.future.get_loop().call_soon(_wake, first.future)
        if again:
            loop.call_soon(self._wake_next, loop, _SETTLE_TURNS)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
