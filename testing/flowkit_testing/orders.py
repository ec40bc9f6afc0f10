"""Orders in which steps that run side by side may be completed.

An order is a list of steps that come late, each later than those before it: every order of n steps is one of at most
n - 1 latecomers. The smallest come first: one step late, then two.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from attrs import define, field, frozen

from flowkit_testing.points import Injury, Point, Schedule

LONG_S = 10.0  # longer than what runs side by side takes by itself, in virtual time


@frozen
class Latecomers:
    """How much later each of these attempts is completed than it would be by itself."""

    ranks: dict[str, int] = field(factory=dict)

    def delay_s(self, what: str) -> float:
        """Seconds that an attempt is held back after its effect; 0 if it is not."""
        return self.ranks.get(what, 0) * LONG_S


def latecomers(schedule: Schedule) -> Latecomers:
    """The latecomers of a schedule."""
    return Latecomers({injury.point.what: injury.point.nth for injury in schedule if injury.fault == "late"})


@define(eq=False)
class Overlaps:
    """Which attempts were under way at the same time."""

    _running: dict[str, None] = field(factory=dict)
    beside: dict[str, set[str]] = field(factory=dict)  # in the order in which they began

    def begins(self, what: str) -> None:
        """An attempt begins."""
        mine = self.beside.setdefault(what, set())
        for other in self._running:
            mine.add(other)
            self.beside[other].add(what)
        self._running[what] = None

    def ends(self, what: str) -> None:
        """An attempt is over."""
        self._running.pop(what, None)


def orders(beside: dict[str, set[str]]) -> Iterator[Schedule]:
    """Schedules of latecomers, smallest first."""
    crowd = [what for what, others in beside.items() if others]
    for size in range(1, len(crowd)):
        for chosen in itertools.permutations(crowd, size):
            if _are_beside(chosen, beside):
                yield tuple(Injury("late", Point(what, "after", rank)) for rank, what in enumerate(chosen, 1))


def _are_beside(chosen: Sequence[str], beside: dict[str, set[str]]) -> bool:
    return all(other in beside[one] for one, other in itertools.pairwise(chosen))


def count(beside: dict[str, set[str]], limit: int) -> int:
    """How many orders there are, counted up to a limit."""
    return sum(1 for _ in itertools.islice(orders(beside), limit))
