"""Work for which no event loop may run around it: a body's loop cannot be nested in another."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def on_thread(work: Callable[[], _T]) -> _T:
    """Work on a thread of its own, in this context, and wait for it."""
    answers: list[_T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            answers.append(work())
        except BaseException as error:  # noqa: BLE001  # raised again by whoever waits
            errors.append(error)

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(body,), name="flowkit-harness", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return answers[0]
