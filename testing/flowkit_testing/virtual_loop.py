"""An event loop on virtual time: when nothing moves, it is the next deadline at once.

After trio's `MockClock(autojump_threshold=0)`, and after `aiotools.VirtualClock`, which puts it below the selector of
asyncio. While a thread or the network may still answer, real time is waited for instead, up to the same deadline.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import selectors
from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple

from flowkit_testing.fake_clock import FakeClock

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_OWN_FILES = 1  # the pipe by which other threads wake a loop


class _Selector(selectors.DefaultSelector):
    """Never waits for a deadline that can be had at once."""

    def __init__(self) -> None:
        super().__init__()
        self.jump: Callable[[float], None] | None = None
        self.busy: Callable[[], bool] = lambda: False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0 or self.jump is None:
            return super().select(timeout)
        someone_may_answer = len(self.get_map()) > _OWN_FILES or self.busy()
        ready = super().select(timeout if someone_may_answer else 0)
        if not ready:
            self.jump(timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is a `FakeClock`'s: `asyncio.sleep` and `asyncio.timeout` take no real time.

    Args:
        clock: the time that it reads and moves.
        busy: True while something outside of it, such as a step on a thread, is at work for it.
    """

    def __init__(self, clock: FakeClock, busy: Callable[[], bool] = lambda: False) -> None:
        selector = _Selector()
        self.fake_clock = clock
        self._in_threads = 0
        super().__init__(selector)
        selector.jump = clock.jump
        selector.busy = lambda: self._in_threads > 0 or busy()

    def time(self) -> float:
        """Seconds since the clock was made."""
        return self.fake_clock.since_start_s()

    def run_in_executor(
        self,
        executor: concurrent.futures.Executor | None,
        func: Callable[[*_Ts], _T],
        *args: *_Ts,
    ) -> asyncio.Future[_T]:
        """As every loop does, and count who is away."""
        future: asyncio.Future[_T] = super().run_in_executor(executor, func, *args)
        self._in_threads += 1
        future.add_done_callback(self._back)
        return future

    async def shutdown_default_executor(self, *args: float | None, **kwargs: float | None) -> None:
        """As every loop does. Its threads are away too: the time limit that it has from 3.12 on is no virtual one."""
        self._in_threads += 1
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self._in_threads -= 1

    def _back(self, _future: asyncio.Future[Any]) -> None:
        self._in_threads -= 1
