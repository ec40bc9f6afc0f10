"""Explorations in real processes: one schedule by its token, or a sample of those that were tried in one process."""

from __future__ import annotations

from collections.abc import Iterable

from flowkit_testing.exploration import Exploration, Tried, Violation
from flowkit_testing.points import Schedule
from flowkit_testing.real import RealTier

MOST = 12  # of one exploration: each takes two processes or three
_KILLED = frozenset({"crash", "stop", "lease"})
_REACHED = frozenset({"passed", "equal", "failed"})


def replay_for_real(tier: RealTier, schedules: Iterable[Schedule]) -> Exploration:
    """Try schedules in real processes."""
    found = Exploration(tier.subject.spec.id)
    for schedule in schedules:
        verdict = tier.run(schedule)
        found.real += 1
        found.runs += 1
        if verdict.wrong:
            found.violations.append(Violation(schedule, verdict.wrong, verdict.timeline))
        found.tried.append(
            Tried(schedule, "failed" if verdict.wrong else "passed" if verdict.reached else "not reached")
        )
    return found


def sample(found: Exploration, most: int = MOST) -> list[Tried]:
    """What broke something, and of what else was tried, in even distances, what has a process die or stand still."""
    broke = [Tried(each.schedule, "failed") for each in found.violations if _is_killed(each.schedule)]
    known = {tried.schedule for tried in broke}
    killed = [
        tried
        for tried in found.tried
        if tried.verdict in _REACHED and _is_killed(tried.schedule) and tried.schedule not in known
    ]
    every = max(1, -(-len(killed) // most))
    return [*broke[:most], *killed[::every]]


def _is_killed(schedule: Schedule) -> bool:
    """True if a process dies in it, or stands still, but no other one after that."""
    faults = [injury.fault for injury in schedule]
    return bool(faults) and faults[-1] in _KILLED and not {"stop", "lease"} & {*faults[:-1]}


def confirm_for_real(found: Exploration, tier: RealTier, most: int = MOST) -> None:
    """Try a sample again in real processes: what goes wrong only there is a violation, what does not is said."""
    for tried in sample(found, most):
        [again] = (real := replay_for_real(tier, [tried.schedule])).tried
        found.real += 1
        if again.verdict == "not reached":
            found.notes.append(f"{tried.schedule[-1]} is not reached in real processes")
        elif tried.verdict == "failed" and again.verdict == "passed":
            found.notes.append(f"{tried.schedule[-1]} breaks nothing in real processes")
        elif tried.verdict != "failed":
            found.violations.extend(
                Violation(each.schedule, ("in real processes only:", *each.wrong), each.timeline)
                for each in real.violations
            )
    found.notes.append(f"{found.real} schedules were tried in real processes too")
