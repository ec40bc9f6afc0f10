"""What to do about what an exploration has found: for each kind of finding, the usual cause and its remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowkit_testing.checks import Check, check_of
from flowkit_testing.points import Schedule

_CODE = (
    "the task's own code must come to the same on every replay. Take random numbers from flowkit.rng() and uuid4(), "
    "the time from flowkit.now(); read files, global variables and other systems in a step; sort a set before looping "
    "over it"
)
_OUTSIDE = (
    "what a task does outside of its steps is done again on every replay. Do it in a step: "
    'step.run("a name", function, ...)'
)
_TWICE = (
    "a step whose process dies between its effect and its commit runs again (rule D3). Hand the other system "
    "current_run().idempotency_key, or look first whether it has happened already, or mark the step at_most_once=True"
)
_TOO_LATE = (
    "a process that has stood still for longer than its lease still carries out the step that it is in: nothing of "
    "that is recorded (rule D4), but it takes effect, after another process has gone on, or has even undone the step. "
    "Hand the other system current_run().idempotency_key; let an undo leave a mark that its step looks for; or leave "
    "this out: "
    'explore(..., faults=("crash", "lost_ack"))'
)
_BY_LOT = (
    "if that step is meant to return something else each time (an id, a time), nothing that follows can be compared: "
    'let the test decide it, harness.mock("the step", ...), or derive it from current_run().idempotency_key'
)
_MUTATED = (
    "on a replay the step's body does not run, so what it does to its arguments is missing. Let it return what is new, "
    "and leave what it was given as it is"
)
_WAITING = (
    'explore(..., events=[("name", payload)]) sends the run what it waits for; wait_for_event(..., timeout=...) '
    "gives up"
)
_OF_THE_WORLD: Mapping[str, str] = {"replay": _OUTSIDE, "stop": _TOO_LATE, "lease": _TOO_LATE}  # by the last fault
MUTATES = "changes what it was given"  # in a finding


def advice(schedule: Schedule, wrong: Sequence[str]) -> str | None:
    """The remedy, if it can be told from what is wrong.

    Args:
        schedule: after which it is wrong.
        wrong: what is wrong.
    """
    told, checks = "\n".join(wrong), {check_of(text) for text in wrong}
    if MUTATES in told:
        return _MUTATED
    if "called with the same arguments, returned" in told:
        return _BY_LOT
    if not schedule:
        return _WAITING if "what it waits for never comes" in told else None
    if Check.WORLD in checks:
        return _OF_THE_WORLD.get(schedule[-1].fault, _TWICE)
    if "D8:" in told or (Check.SAME_OUTCOME in checks and schedule[-1].fault == "replay"):
        return _CODE
    return _CODE if "was called with other arguments" in told else None
