"""The place that a run takes up in its worker, and how whoever waits gives it back meanwhile (rule E3)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Slot(Protocol):
    """One of a worker's places."""

    def lend(self) -> None:
        """Another run may have it for a while."""

    def take_back(self) -> None:
        """The run that it belongs to goes on."""


in_use: ContextVar[Slot | None] = ContextVar("flowkit_slot", default=None)


@contextmanager
def given_back() -> Iterator[None]:
    """Let another run have the place of the one that waits here, on its thread, for other runs."""
    slot = in_use.get()
    if slot is None:
        yield
        return
    slot.lend()
    try:
        yield
    finally:
        slot.take_back()
