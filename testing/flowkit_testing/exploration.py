"""`Exploration`: what came out of trying every point, for a test to judge and a person to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal

from attrs import define, field, frozen

from flowkit_testing.advice import advice
from flowkit_testing.checks import Check, check_of
from flowkit_testing.points import Schedule, token_of

_SHOWN = 5
Verdict = Literal["passed", "equal", "failed", "not reached", "not tried"]
"""Of one schedule. `equal`: what it leaves behind is what another point leaves behind, which was resumed from."""


@frozen
class Tried:
    """A schedule, and what came of it: one cell of the matrix."""

    schedule: Schedule
    verdict: Verdict

    def __str__(self) -> str:
        return f"{_told(self.schedule)}: {self.verdict}"


@frozen
class Violation:
    """A schedule after which something did not hold."""

    schedule: Schedule
    wrong: tuple[str, ...]
    timeline: tuple[str, ...] = ()  # what happened, in order

    @property
    def checks(self) -> tuple[Check, ...]:
        """Which of the fourteen checks have found it."""
        return tuple(dict.fromkeys(check for text in self.wrong if (check := check_of(text)) is not None))

    @property
    def token(self) -> str:
        """What `--flowkit-replay` takes."""
        return token_of(self.schedule)

    def __str__(self) -> str:
        happened = ["    what happened:", *(f"        {line}" for line in self.timeline)] if self.timeline else []
        wrong = [f"    {text}" for text in self.wrong]
        remedy = advice(self.schedule, self.wrong)
        wrong += [] if remedy is None else [f"    what to do: {remedy}"]
        return "\n".join(
            [f"{_told(self.schedule)}:", *wrong, *happened, f"    replay it: --flowkit-replay={self.token}"]
        )


@define(repr=False)
class Exploration:
    """How a task fared at every point where its process can die."""

    task: str
    points: int = 0  # of the runs without faults, one for each scenario
    states: int = 0  # distinct durable states that were found
    resumes: int = 0  # runs resumed from one of them
    runs: int = 0  # all runs and resumptions that this took
    orders: int = 0  # orders of completion that were tried
    real: int = 0  # schedules that were tried in real processes
    tried: list[Tried] = field(factory=list)
    violations: list[Violation] = field(factory=list)
    notes: list[str] = field(factory=list)  # what was left out, and why
    doubts: list[str] = field(factory=list)  # what only the author of the task can judge
    swallowed: dict[str, None] = field(factory=dict)  # what was told of bodies that let nothing out (rule E1)
    on_failure: Callable[[Violation], None] | None = None  # keeps the smallest one, to be tried first the next time

    @property
    def safe(self) -> bool:
        """True if nothing went wrong."""
        return not self.violations

    @property
    def unreached(self) -> list[Schedule]:
        """Schedules whose points were never passed, or for which the budget was too small."""
        return [tried.schedule for tried in self.tried if tried.verdict in {"not reached", "not tried"}]

    @property
    def coverage(self) -> float:
        """The part of the planned faults (each at its point) that happened."""
        return 1 - len(self.unreached) / len(self.tried) if self.tried else 0.0

    @property
    def smallest(self) -> Violation | None:
        """The shortest schedule that breaks something."""
        return min(self.violations, key=lambda violation: len(violation.schedule), default=None)

    def assert_safe(self, min_coverage: float = 1.0) -> None:
        """Fail with the shortest schedules that break something.

        Args:
            min_coverage: fail as well if less than this part of the planned faults happened.

        Raises:
            AssertionError: something broke, too little was reached, or nothing was tried that could have failed.
        """
        if self.violations:
            if self.on_failure is not None and self.smallest is not None:
                self.on_failure(self.smallest)
            raise AssertionError(self._told_of_violations())
        assert self.tried, f"nothing was tried on task {self.task!r}, so nothing is proven. {'; '.join(self.notes)}"
        if self.coverage < min_coverage:
            missed = [str(tried) for tried in self.tried if tried.verdict in {"not reached", "not tried"}]
            more = f"\n    ... and {len(missed) - _SHOWN} more" if len(missed) > _SHOWN else ""
            raise AssertionError(
                f"{self.covered()}; assert_safe wants {min_coverage:.0%}. never reached on task {self.task!r}:\n    "
                + "\n    ".join(missed[:_SHOWN])
                + more
            )

    def _told_of_violations(self) -> str:
        shortest = sorted(self.violations, key=lambda violation: len(violation.schedule))
        told = [str(violation) for violation in shortest[:1]]
        told += [str(Violation(each.schedule, each.wrong)) for each in shortest[1:_SHOWN]]
        more = len(shortest) - _SHOWN
        return (
            f"task {self.task!r} is not safe: {len(self.violations)} schedule(s) of {self.runs} runs break it\n"
            + "\n".join(told)
            + (f"\n... and {more} more" if more > 0 else "")
        )

    def covered(self) -> str:
        """The coverage in words, with its denominator."""
        kinds = Counter(tried.schedule[-1].fault for tried in self.tried if tried.schedule)
        named = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        reached = len(self.tried) - len(self.unreached)
        return f"{reached} of {len(self.tried)} planned faults happened ({named or 'none planned'})"

    def __repr__(self) -> str:
        verdict = "safe" if self.safe else f"{len(self.violations)} schedule(s) break it"
        told = (
            f"{self.task}: {verdict}; {self.points} points, {self.states} distinct durable states, "
            f"{self.resumes} resumes, {self.runs} runs; {self.covered()}"
        )
        return "; ".join([told, *self.notes, *self.doubts])


def _told(schedule: Schedule) -> str:
    return ", then ".join(str(injury) for injury in schedule) or "no fault at all"
