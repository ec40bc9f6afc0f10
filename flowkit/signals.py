"""Signals that ask a process to stop: heard for as long as there is something to stop."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Handler = Callable[[int, FrameType | None], None]


@contextlib.contextmanager
def heard_by(handler: Handler) -> Iterator[bool]:
    """Let a handler hear of SIGINT and SIGTERM while the block runs; False in the block where only a main thread can.

    A signal that is ignored, as under nohup, stays ignored. A handler runs in the middle of whatever the main thread
    was doing, so it must not take a lock.
    """
    if threading.current_thread() is not threading.main_thread():
        yield False
        return
    heard = [signum for signum in SIGNALS if signal.getsignal(signum) is not signal.SIG_IGN]
    before = {signum: signal.signal(signum, handler) for signum in heard}
    try:
        yield True
    finally:
        for signum, former in before.items():
            signal.signal(signum, former)


@contextlib.contextmanager
def on_signals(react: Callable[[int, int], None]) -> Iterator[None]:
    """While the block runs, call `react(signal, how_many)` for each signal, on a thread of its own."""
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()  # whose `put` may be interrupted by itself

    def watch() -> None:
        count = 0
        while signum := signals.get():
            count += 1
            react(signum, count)

    with heard_by(lambda signum, _frame: signals.put(signum)) as can_hear:
        if not can_hear:
            yield
            return
        watcher = threading.Thread(target=watch, name="flowkit-signals", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            signals.put(0)
            watcher.join()
