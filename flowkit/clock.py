"""Time: the one place that reads the machine's clock. A fake one ships with `flowkit_testing`."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


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
