"""What a trial is held against: the run without faults, or with those of its scenario alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from attrs import define, field

from flowkit_testing.points import REPLAYED, Schedule
from flowkit_testing.subject import Subject
from flowkit_testing.trial import Trial, is_of_scenario, shortened
from flowkit_testing.verdicts import Standard, what_is_wrong


@define(eq=False)
class Reference:
    """The run without faults (those of its scenario apart), which all others must equal."""

    subject: Subject  # in its scenario
    trial: Trial
    standard: Standard
    known: dict[Hashable, bool] = field(factory=dict)  # states that were resumed from, and whether that went well


def scenario_of(schedule: Schedule) -> Schedule:
    """What of a schedule holds from the start."""
    return tuple(injury for injury in schedule if is_of_scenario(injury) and injury != REPLAYED)


def judged(trial: Trial, schedule: Schedule, reference: Reference | None) -> tuple[str, ...]:
    """All that does not hold after a trial; if what it has left is known, what comes of that is, too."""
    if trial.left_state is not None or trial.broken_off:
        wrong = tuple(trial.seen_wrong())
    else:
        standard = None if reference is None else reference.standard
        wrong = what_is_wrong(trial.aftermath(), schedule, trial.subject.codec, standard)
    return tuple(dict.fromkeys((*trial.watch.suspects, *wrong))) if wrong else ()


def shrunk(
    schedule: Schedule, references: Mapping[Schedule, Reference]
) -> tuple[Schedule, tuple[str, ...], tuple[str, ...]] | None:
    """A shorter schedule that breaks something too, found by leaving out one fault after the other."""
    best = None
    at = 0
    while len(schedule) > 1 and at < len(schedule):
        shorter = shortened(schedule, at)
        reference = references.get(scenario_of(shorter))
        if reference is None:
            at += 1
            continue
        trial = Trial(reference.subject, shorter)
        trial.run()
        wrong = judged(trial, shorter, reference)
        if wrong:
            schedule, best = shorter, (shorter, wrong, trial.timeline())
        else:
            at += 1
        trial.close()
    return best


def refuse_what_is_never_called(subject: Subject, trial: Trial) -> None:
    """A failure that cannot happen proves nothing.

    Raises:
        AssertionError: always.
    """
    ran = ", ".join(trial.lab.trace.names()) or "none"
    raise AssertionError(
        f"task {subject.spec.id!r} never came to what was to fail: {'; '.join(trial.idle)}. Steps that ran: {ran}. (An "
        "undo only runs if the run fails: name a step that is to fail as well.)"
    )


def refuse_a_blind_world(subject: Subject, trial: Trial, world_before: object) -> None:
    """A check that could not fail proves nothing. What a rollback has brought back was seen to be different before.

    Raises:
        AssertionError: `world()` does not see what the steps change.
    """
    if subject.world is None or trial.wrong or any(seen != world_before for seen in trial.worlds()):
        return
    raise AssertionError(
        f"world() shows the same throughout a run of task {subject.spec.id!r}: it does not see what the steps change, "
        "so comparing it proves nothing. Let it return what they write to"
    )
