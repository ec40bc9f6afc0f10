"""Threads of a run that go on beside each other. Whoever watches the run may let them take turns."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from functools import partial

from flowkit.run import Run


def beside(run: Run, body: Callable[[], None]) -> Callable[[], None]:
    """What another thread is to do, in a context like this one's."""
    watched = body if run.probe is None else run.probe.beside(run, body)
    return partial(contextvars.copy_context().run, watched)


def start(run: Run, body: Callable[[], None], name: str) -> None:
    """Let it go on beside this one, on a thread that no exit waits for."""
    threading.Thread(target=beside(run, body), name=name, daemon=True).start()


def stand_by(run: Run, ready: Callable[[], bool]) -> None:
    """To be called before this thread waits for others of the run, with what it waits for."""
    if run.probe is not None:
        run.probe.stands_by(run, ready)
