"""A step with an undo, and what it took back: what the rules of rollbacks are tried on."""

from collections.abc import Callable
from typing import Any

from tests.rules.conftest import Colour, at_once

Undone = list[Any]


def booking(colour: Colour, undone: Undone, *, fails: Callable[[str], None] | None = None) -> Any:  # noqa: ANN401  # a step
    """A step with an undo that writes down what it takes back."""

    @colour.step(retry=at_once(1))
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
