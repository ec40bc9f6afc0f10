"""A step with an undo, and what it took back: what the rules of rollbacks are tried on."""

from collections.abc import Callable
from typing import Any

import flowkit
from flowkit import Flow, Retry, RunStatus
from tests.rules.colours import Body, Colour
from tests.rules.conftest import FakeClock, Store, at_once, eventually

Undone = list[Any]


def booking(
    colour: Colour, undone: Undone, *, fails: Callable[[str], None] | None = None, retry: Retry | None = None
) -> Any:  # noqa: ANN401  # a step
    """A step with an undo that writes down what it takes back; the undo calls `fails` with the name first."""

    @colour.step(retry=retry or at_once(1))
    def book(name: str) -> str:
        return f"booked {name}"

    @book.compensate
    def cancel(booked: str, name: str) -> None:
        if fails is not None:
            fails(name)
        undone.append((booked, name))

    return book


def flown(undone: Undone) -> list[str]:
    """The names of what was undone, in order."""
    return [name for _, name in undone]


def trip_of(colour: Colour, book: Any, *names: str) -> Any:  # noqa: ANN401  # a step and a task of either colour
    """A task that books these, one after the other, and then fails with `ValueError("no")`."""

    @colour.task(attempts=1)
    def trip() -> Body[None]:
        for name in names:
            yield book(name)
        raise ValueError("no")

    return trip


def left_in_back_off(store: Store, clock: FakeClock, colour: Colour, attempts: list[int]) -> Any:  # noqa: ANN401  # a task
    """A trip whose undo works at the last of three attempts, an hour apart, and whose process ends after the first."""
    book = booking(colour, [], fails=_away(attempts), retry=Retry(attempts=3, delay=3600, max_delay=3600, jitter=0))
    trip = trip_of(colour, book, "flight")
    with Flow(store.storage(), clock=clock) as flow:
        flow.start(trip.options(run_id="r"))
        eventually(lambda: store.header("r").wake_at_ms is not None)
        assert store.header("r").status is RunStatus.COMPENSATING
    return trip


def _away(attempts: list[int]) -> Callable[[str], None]:
    def fails(_name: str) -> None:
        attempts.append(flowkit.current_run().attempt)
        if len(attempts) < 3:
            raise OSError("away")

    return fails
