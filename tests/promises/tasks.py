"""Tasks that many promises are tried on: what differs is what befalls them."""

import itertools
from collections.abc import Mapping
from typing import Any

from flowkit import Task
from tests.rules.colours import Body, Colour


def purchase(colour: Colour, of_task: Mapping[str, object] | None = None, **of_step: object) -> Task[[], str]:
    """A task of one step, `pay`, with the options of both."""

    @colour.step(**of_step)
    def pay() -> str:
        return "paid"

    @colour.task(**of_task or {})
    def shop() -> Body[str]:
        return (yield pay())

    return shop


def drawing(colour: Colour) -> Task[[], int]:
    """A step, `draw`, that gives another number whenever it runs, and one, `use`, that gives its argument back."""
    numbers = itertools.count(1)

    @colour.step
    def draw() -> int:
        return next(numbers)

    @colour.step
    def use(number: int) -> int:
        return number

    @colour.task
    def trip() -> Body[int]:
        number = yield draw()
        return (yield use(number))

    return trip


def paused(colour: Colour) -> Task[[], list[str]]:
    """A task that waits for days between two steps `book`."""

    @colour.step
    def book(seat: str) -> str:
        return seat

    @colour.task
    def trip() -> Body[list[str]]:
        first = yield book("1a")
        yield colour.sleep("3d")
        return [first, (yield book("1b"))]

    return trip


class Seats:
    """A task that books seats, one after the other, by a step `book`; and what has run of it."""

    def __init__(self, colour: Colour, *seats: str, **of_step: Any) -> None:  # noqa: ANN401  # as `flowkit.step`
        self.begun = 0
        self.ran: list[str] = []

        @colour.step(**of_step)
        def book(seat: str) -> str:
            self.ran.append(seat)
            return seat

        @colour.task
        def trip() -> Body[list[str]]:
            self.begun += 1
            booked: list[str] = []
            for seat in seats:
                booked.append((yield book(seat)))  # noqa: PERF401  # a comprehension cannot yield
            return booked

        self.trip = trip
