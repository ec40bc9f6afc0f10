"""Ctrl-C and SIGTERM during a run: hand it back after the step in flight, or at once when asked a second time.

Stopping at once is a crash, which a run survives by design: the step in flight runs again when it is resumed. The
handlers only pass the signal on; everything that takes a lock happens on a thread that watches for them, since a
handler runs in the middle of whatever the main thread was doing.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Protocol

from attrs import define, field

from flowkit.signals import heard_by

LOOK_EVERY_S = 0.05
SHOW_CURSOR = "\x1b[?25h"


class Interrupted(KeyboardInterrupt):
    """The run was handed back because of a signal."""


class Advancing(Protocol):
    """What is known of the engine that advances the run."""

    @property
    def active(self) -> int:
        """How many runs are on a stack now."""

    def let_go(self, why: BaseException) -> None:
        """Ask them to stop after the steps in flight."""


@define(eq=False)
class Stop:
    """Whether the run is to stop, and how far that has come."""

    engine: Advancing
    tell: Callable[[str], None]  # says something to the person who waits
    at_once: Callable[[], None]  # says the last words before the process ends
    received: int = 0  # the first signal, 0 if there was none
    _signals: queue.SimpleQueue[int] = field(factory=queue.SimpleQueue)
    _main: int = field(factory=threading.get_ident)
    _raise_in_main: bool = False
    _over: bool = False

    def on_signal(self, signum: int, _frame: FrameType | None) -> None:
        """The handler, on the main thread."""
        if self._raise_in_main and not self._over:
            self._raise_in_main = False
            raise Interrupted
        self._signals.put(signum)  # SimpleQueue.put may be interrupted by itself

    def watch(self) -> None:
        """Wait for signals; on a thread of its own."""
        first = self._signals.get()
        if not first:
            return
        self.received = first
        self.engine.let_go(Interrupted())  # first: once it is said, no further step begins
        self.tell("Stopping after the step in flight. Once more to stop at once: that step runs again on resume.")
        idle = 0
        while True:
            try:
                second = self._signals.get(timeout=LOOK_EVERY_S)
            except queue.Empty:
                idle = 0 if self.engine.active else idle + 1
                if idle > 1:  # nothing is in flight: the main thread waits for time to pass
                    self._wake_main()
                    idle = 0
                continue
            if not second:
                return
            self._end_at_once()

    def _wake_main(self) -> None:
        self._raise_in_main = True
        if not self._over:
            signal.pthread_kill(self._main, self.received)

    def _end_at_once(self) -> None:
        self.at_once()
        terminal = sys.__stderr__
        if terminal is not None:
            terminal.write(SHOW_CURSOR if terminal.isatty() else "")  # a live picture has hidden it
            terminal.flush()
        os._exit(128 + self.received)

    def over(self) -> None:
        """The run is no longer advanced, so there is nothing to stop."""
        self._over = True
        self._signals.put(0)


@contextlib.contextmanager
def stopping(stop: Stop) -> Iterator[None]:
    """Let signals stop the run while the block runs; only a main thread can."""
    with heard_by(stop.on_signal) as can_hear:
        if not can_hear:
            yield
            return
        watcher = threading.Thread(target=stop.watch, name="flowkit-signals", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.over()
            watcher.join()
