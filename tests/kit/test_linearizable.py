"""The search for an order: it finds one where there is one, and says so where there is none."""

from __future__ import annotations

import pytest
from attrs import field, frozen, mutable

from flowkit_testing.linearizable import Call, NotLinearizable, check


@mutable
class Register:
    """A number, as one thread at a time would use it."""

    value: int = 0

    def world(self, thread: int) -> Register:
        """The same for every thread."""
        del thread
        return self

    def state(self) -> object:
        """The number."""
        return self.value

    def close(self) -> None:
        """Nothing to let go of."""


@frozen
class Put:
    """Write a number."""

    value: int

    def __call__(self, world: Register) -> object:
        """Write it."""
        world.value = self.value
        return None


@frozen
class Get:
    """Read the number."""

    text: str = field(default="get", init=False)

    def __call__(self, world: Register) -> object:
        """Read it."""
        return world.value


def put(thread: int, value: int, began: int, ended: int) -> Call[Register]:
    """A write."""
    return Call(thread, 0, Put(value), None, began, ended)


def get(thread: int, seen: int, began: int, ended: int, number: int = 0) -> Call[Register]:
    """A read and what it saw."""
    return Call(thread, number, Get(), seen, began, ended)


@pytest.mark.parametrize(
    "calls",
    [
        [],
        [put(0, 1, 1, 2), get(1, 1, 3, 4)],
        [put(0, 1, 1, 6), get(1, 0, 2, 3), get(1, 1, 4, 5, number=1)],
        [put(0, 1, 1, 9), put(1, 2, 2, 8), get(2, 2, 3, 4), get(2, 1, 5, 6, number=1)],
        [put(0, 1, 1, 2), put(1, 2, 1, 2), get(2, 1, 3, 4)],
    ],
    ids=["nothing", "in turn", "seen while it is written", "both orders", "either last"],
)
def test_an_order_is_found(calls: list[Call[Register]]) -> None:
    """Calls that overlap may have happened in any order, and the one that is found holds every call."""
    assert sorted(check(calls, Register), key=calls.index) == calls


@pytest.mark.parametrize(
    "calls",
    [
        [put(0, 1, 1, 2), get(1, 0, 3, 4)],
        [put(0, 1, 1, 6), get(1, 1, 2, 3), get(1, 0, 4, 5, number=1)],
        [put(0, 1, 1, 6), get(1, 1, 2, 3), get(2, 0, 4, 5)],
        [get(0, 7, 1, 2)],
    ],
    ids=["stale", "back in time", "back in time for another", "never written"],
)
def test_there_is_no_order(calls: list[Call[Register]]) -> None:
    """What was seen once is not unseen later, by whomever; the error shows how far an order came."""
    with pytest.raises(NotLinearizable, match="nothing of what is left can follow") as caught:
        check(calls, Register)

    assert f"these {len(calls)} calls" in str(caught.value)
