"""Time: the one place that reads the machine's clock. A fake one ships with `flowkit_testing`."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

TOLERATED_MS = 100


def system_now_ms() -> int:
    """Milliseconds since the epoch, UTC, by this machine's clock."""
    return time.time_ns() // 1_000_000


class Clock(Protocol):
    """What flowkit knows of time."""

    @property
    def virtual(self) -> bool:
        """True if storages must be told this clock's time instead of using their own."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""

    def sleep(self, seconds: float) -> None:
        """Block this thread for so many seconds."""

    async def sleep_async(self, seconds: float) -> None:
        """Suspend this coroutine for so many seconds."""


class SystemClock:
    """The machine's clock."""

    virtual = False

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return system_now_ms()

    def sleep(self, seconds: float) -> None:
        """Block this thread for so many seconds."""
        time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Suspend this coroutine for so many seconds."""
        await asyncio.sleep(seconds)


class FollowingClock:
    """The machine's clock, set by a storage's: workers whose clocks differ agree on when a timer is due (rule E4).

    Args:
        clock: the machine's.
        now_ms: the storage's time now.
    """

    virtual = False

    def __init__(self, clock: Clock, now_ms: int) -> None:
        self._clock = clock
        self._ahead_ms = now_ms - clock.now_ms()
        self.sleep = clock.sleep
        self.sleep_async = clock.sleep_async

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC, as the storage has it."""
        return self._clock.now_ms() + self._ahead_ms

    def heard(self, now_ms: int, took_ms: int) -> None:
        """The storage has told its time, in an answer that was waited for so long.

        It is at least that by now, and more by at most the wait: an answer that was late says little, and is no reason
        to set the clock back. So a timer that the storage has found due is due by this clock, too.
        """
        off_ms = now_ms - self.now_ms()
        if off_ms > 0:
            self._ahead_ms += off_ms
        elif off_ms + took_ms < -TOLERATED_MS:
            self._ahead_ms += off_ms + took_ms
