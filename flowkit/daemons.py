"""Calls on daemon threads of their own: they can be abandoned, need no place in a pool, and hold up no exit."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable

from flowkit.effects import Outcome, Raised, Returned


def outcome_of_call(call: Callable[[], object]) -> Outcome:
    """What comes of it, whatever it raises."""
    try:
        return Returned(call())
    except BaseException as error:  # noqa: BLE001  # for whoever waits for it
        return Raised(error)


def unless_fatal(outcome: Outcome) -> Outcome:
    """The outcome; what is no failure of the call but of its process, such as Ctrl-C, is raised."""
    if isinstance(outcome, Raised) and not isinstance(outcome.error, Exception):
        raise outcome.error
    return outcome


def outcome_on_thread(call: Callable[[], object], name: str) -> asyncio.Future[Outcome]:
    """Call it on a thread, in a context like this one's; what comes of it, for the running event loop."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Outcome] = loop.create_future()

    def settle(outcome: Outcome) -> None:
        if not future.done():
            future.set_result(outcome)

    def body() -> None:
        outcome = outcome_of_call(call)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for it any more
            loop.call_soon_threadsafe(settle, outcome)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(body,), name=name, daemon=True).start()
    return future


def loop_is_running() -> bool:
    """Whether an event loop runs on this thread: another one cannot then, and whatever blocks holds it up."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
