"""The fourteen things that must hold at every point of every run, by number."""

from __future__ import annotations

import re
from enum import IntEnum

_NUMBERED = re.compile(r"^\[(\d+)")


class Check(IntEnum):
    """What is checked; the texts are in `TEXTS`."""

    DONE_ONCE = 1
    SAME_BYTES = 2
    SAME_OUTCOME = 3
    UNDOS = 4
    ROLLBACK_GOES_ON = 5
    NOT_LOST = 6
    FENCED = 7
    EFFECTS = 8
    OTHERS = 9
    TWICE_IS_ONCE = 10
    ENDS = 11
    RETRY_BUDGET = 12
    WORK_SETTLES = 13
    WORLD = 14

    def broken(self, what: str) -> str:
        """A message that says what is wrong, and which check has found it."""
        return f"[{self.value}] {what}"


TEXTS: dict[Check, str] = {
    Check.DONE_ONCE: "a completed step's body never runs again",
    Check.SAME_BYTES: "its result is the same bytes on every resume",
    Check.SAME_OUTCOME: "the outcome is the fault-free one, or a declared failure",
    Check.UNDOS: "undos are exactly the completed steps with one, newest first, one success each",
    Check.ROLLBACK_GOES_ON: "an interrupted rollback finishes and never turns around",
    Check.NOT_LOST: "no acknowledged run is lost; each unfinished run can still be claimed or woken",
    Check.FENCED: "nothing is recorded by a superseded lease",
    Check.EFFECTS: "effects of a step are at most 1 + crashes between its effect and its commit",
    Check.OTHERS: "one run's fault changes no other run",
    Check.TWICE_IS_ONCE: "resuming twice is resuming once",
    Check.ENDS: "when faults stop, the run ends, in bounded virtual time",
    Check.RETRY_BUDGET: "retry budgets are neither lost nor reset",
    Check.WORK_SETTLES: "side work settles before the run does",
    Check.WORLD: "the final world(), where given, equals the fault-free run's",
}


def check_of(message: str) -> Check | None:
    """Which check a message comes from."""
    found = _NUMBERED.match(message)
    return None if found is None else Check(int(found[1]))
