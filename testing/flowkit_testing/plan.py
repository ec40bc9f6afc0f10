"""Which faults are tried at which points of a run."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Sequence
from typing import Literal, get_args

from flowkit_testing.points import Fault, Injury, Point, Schedule
from flowkit_testing.trial import Passed

Kind = Literal["crash", "lost_ack", "not_applied", "lease", "cancel"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DEFAULT_FAULTS: tuple[Kind, ...] = ("crash", "lost_ack", "lease")
MOST_ORDERS = 10  # of completion, unless a budget says otherwise
MOST_UNANSWERED = 20  # calls of each kind, apart from commits: all of these lose their answers
_STORAGE, _COMMIT, _LOAD = "storage: ", "storage: commit", "storage: load"


def check_failing(failing: Collection[object]) -> None:
    """Refuse a step by itself where several are meant: a text is a collection too, of letters.

    Raises:
        TypeError: it is one.
    """
    if isinstance(failing, str):
        raise TypeError(f"harness.explore(failing={failing!r}) takes several steps: write ({failing!r},)")


def check_events(events: Sequence[object]) -> None:
    """Refuse what is no event before a run is blamed for it.

    Raises:
        TypeError: one of them is no pair of a name and a payload.
    """
    for event in events:
        if not (isinstance(event, tuple | list) and len(event) == 2 and isinstance(event[0], str)):  # noqa: PLR2004  # a pair
            raise TypeError(f'harness.explore(events=...) takes pairs ("name", payload), and {event!r} is none')


def check_faults(faults: Collection[str]) -> None:
    """Refuse kinds of faults that there are not.

    Raises:
        ValueError: there is no such kind, or none was asked for.
    """
    unknown = [fault for fault in faults if fault not in KINDS]
    if unknown or not faults:
        raise ValueError(f"harness.explore(faults={tuple(faults)!r}): write one or more of {', '.join(KINDS)}")


def schedules(scenario: Schedule, passed: Sequence[Passed], faults: Collection[Kind]) -> Iterator[Schedule]:
    """One fault at one point each, in a scenario."""
    for each in passed:
        if "crash" in faults:
            yield (*scenario, Injury("crash", each.point))
        if _goes_unanswered(each.point):
            yield from ((*scenario, Injury(fault, each.point)) for fault in _unanswered(each.point, faults))
    if "lease" in faults:
        for each in _before_effects(passed):
            yield (*scenario, Injury("lease", each.point))  # it goes on at once
            yield (*scenario, Injury("stop", each.point))  # it goes on when the other one is through with the run
    if "cancel" in faults:
        yield from ((*scenario, Injury("cancel", each.point)) for each in _first_of_each_state(passed))


def calls_left_out(passed: Sequence[Passed]) -> int:
    """How many calls of the storage are always answered, because there are so many before them."""
    return sum(
        each.point.when == "before" and each.point.what.startswith(_STORAGE) and not _goes_unanswered(each.point)
        for each in passed
    )


def _goes_unanswered(point: Point) -> bool:
    """All commits, and the first calls of each other kind."""
    if point.when != "before" or not point.what.startswith(_STORAGE):
        return False
    return point.what == _COMMIT or point.nth <= MOST_UNANSWERED


def _unanswered(point: Point, faults: Collection[Kind]) -> tuple[Fault, ...]:
    """Whoever loses the answer to a call may have lost the call as well; one that only reads is lost either way."""
    if "lost_ack" in faults and point.what != _LOAD:
        return ("lost_ack", "not_applied")
    return ("not_applied",) if {"lost_ack", "not_applied"} & {*faults} else ()


def _first_of_each_state(passed: Sequence[Passed]) -> Iterator[Passed]:
    seen: set[Hashable] = set()
    for each in passed:
        if each.state not in seen and not each.point.what.startswith("storage:"):
            seen.add(each.state)
            yield each


def _before_effects(passed: Sequence[Passed]) -> Iterator[Passed]:
    """Where a lease may be lost.

    After an effect is before the next one: between them is only the body's own code, which sees nothing of a lease.
    """
    for each in passed:
        if each.point.when == "before" and not each.point.what.startswith("storage:"):
            yield each
