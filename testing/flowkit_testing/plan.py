"""Which faults are tried at which points of a run."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Sequence
from typing import Literal, get_args

from flowkit_testing.points import Fault, Injury, Schedule
from flowkit_testing.trial import Passed

Kind = Literal["crash", "lost_ack", "not_applied", "lease", "cancel"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DEFAULT_FAULTS: tuple[Kind, ...] = ("crash", "lost_ack", "lease")
MOST_ORDERS = 10  # of completion, unless a budget says otherwise


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
        if each.point.what == "storage: commit" and each.point.when == "before":
            yield from ((*scenario, Injury(fault, each.point)) for fault in _unanswered(faults))
    if "lease" in faults:
        for each in _before_effects(passed):
            yield (*scenario, Injury("lease", each.point))  # it goes on at once
            yield (*scenario, Injury("stop", each.point))  # it goes on when the other one is through with the run
    if "cancel" in faults:
        yield from ((*scenario, Injury("cancel", each.point)) for each in _first_of_each_state(passed))


def _unanswered(faults: Collection[Kind]) -> tuple[Fault, ...]:
    """Whoever loses the answer to a commit may have lost the commit as well."""
    if "lost_ack" in faults:
        return ("lost_ack", "not_applied")
    return ("not_applied",) if "not_applied" in faults else ()


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
