"""Many faults in one run, for speed: each strikes the process that goes on after the one before.

A run by itself for each fault spends most of its time on the way there and on the way from there to the end. In a wave
the process dies at one point after the other, each resumed by the next one; so does each schedule of it happen, and
the run must end as ever. Where it does not, every schedule of the wave is tried by itself, to find the smallest.

Faults that could hide each other are kept apart: between two lost answers, or two lost leases, lie some steps in peace.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from attrs import evolve, frozen

from flowkit_testing.points import Fault, Injury, Point, Schedule

APART = 3  # of so many faults in a row, one is in a wave
_MOST = 100  # faults of a wave: a run may be taken up five times as often
_COMMIT = "storage: commit"
_UNANSWERED = frozenset({"lost_ack", "not_applied"})
_ONCE = ("body", "record ", "post ", "end ")  # what is done is recalled, so nobody comes by its end again


@frozen
class Wave:
    """Faults of one run, in order, each at its point counted since the one before; and what they are by themselves."""

    injuries: tuple[Injury, ...]
    schedules: tuple[Schedule, ...]


def waves(planned: Sequence[Schedule]) -> Iterator[Wave]:
    """Faults that can be tried together, of those that are planned in one scenario."""
    by_fault: dict[tuple[Fault, str], list[Schedule]] = {}
    for schedule in planned:
        fault, point = schedule[-1].fault, schedule[-1].point
        what = point.what if fault in _UNANSWERED else ""  # calls of one kind are counted together
        by_fault.setdefault((fault, what), []).append(schedule)
    for (fault, _), schedules in by_fault.items():
        match fault:
            case "crash":
                yield from _crashes(schedules)
            case "lost_ack" | "not_applied":
                commits = [each for each in schedules if each[-1].point.what == _COMMIT]
                for start in range(APART):
                    yield from _wave(commits[start::APART], repeated=True)
            case "lease" | "stop":
                first = [each for each in schedules if each[-1].point.nth == 1]
                for start in range(APART):
                    yield from _wave(first[start::APART], repeated=False)
            case _:
                pass  # a run is cancelled once


def _crashes(schedules: Iterable[Schedule]) -> Iterator[Wave]:
    """Whoever is resumed comes by all that was not recorded. Ends of what was have waves of their own."""
    sorts: dict[str, list[Schedule]] = {}
    for schedule in schedules:
        sort = _sort(schedule[-1].point)
        if sort is not None:
            sorts.setdefault(sort, []).append(schedule)
    for together in sorts.values():
        yield from _wave(together, repeated=False)


def _sort(point: Point) -> str | None:
    if point.what == _COMMIT:
        return "committed" if point.when == "after" else "open"
    if point.nth > 1 or point.what.startswith("storage:"):
        return None
    _, _, what = point.what.partition(": ")
    return "done" if point.when == "after" and what.startswith(_ONCE) else "open"


def _wave(schedules: Sequence[Schedule], *, repeated: bool) -> Iterator[Wave]:
    """Some at a time. `repeated`: what is struck is done again, and counts as the first after that."""
    for start in range(0, len(schedules), _MOST):
        some = tuple(schedules[start : start + _MOST])
        if len(some) > 1:
            numbers = [schedule[-1].point.nth for schedule in some]
            since = [numbers[0], *(number - before + 1 for before, number in itertools.pairwise(numbers))]
            yield Wave(
                tuple(
                    evolve(schedule[-1], point=evolve(schedule[-1].point, nth=nth if repeated else 1))
                    for schedule, nth in zip(some, since, strict=True)
                ),
                some,
            )
