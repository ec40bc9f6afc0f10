"""`Exploration`: what came out of trying every point, for a test to judge and a person to read."""

from __future__ import annotations

from attrs import define, field, frozen

from flowkit_testing.points import Schedule, token_of

_SHOWN = 5


@frozen
class Violation:
    """A schedule after which something did not hold."""

    schedule: Schedule
    wrong: tuple[str, ...]

    def __str__(self) -> str:
        where = ", then ".join(str(injury) for injury in self.schedule) or "no fault at all"
        return "\n".join([f"{where}:", *(f"    {text}" for text in self.wrong), f"    replay it: {self._option()}"])

    def _option(self) -> str:
        return f"--flowkit-replay={token_of(self.schedule)}"


@define(repr=False)
class Exploration:
    """How a task fared at every point where its process can die."""

    task: str
    points: int = 0  # of the fault-free run
    states: int = 0  # distinct durable states that were found, and resumed from
    runs: int = 0  # runs and resumptions that this took
    unreached: list[Schedule] = field(factory=list)
    violations: list[Violation] = field(factory=list)

    @property
    def safe(self) -> bool:
        """True if nothing went wrong."""
        return not self.violations

    @property
    def coverage(self) -> float:
        """The part of the planned schedules whose points were reached."""
        return 1.0 if not self.runs else 1 - len(self.unreached) / self.runs

    def assert_safe(self, min_coverage: float = 1.0) -> None:
        """Fail with the shortest schedules that break something.

        Args:
            min_coverage: fail as well if less than this part of the points was reached.
        """
        if self.violations:
            shortest = sorted(self.violations, key=lambda violation: len(violation.schedule))[:_SHOWN]
            more = len(self.violations) - len(shortest)
            raise AssertionError(
                f"task {self.task!r} is not safe: {len(self.violations)} schedule(s) of {self.runs} break it\n"
                + "\n".join(str(violation) for violation in shortest)
                + (f"\n... and {more} more" if more else "")
            )
        if self.coverage < min_coverage:
            missed = "\n".join(f"    {', then '.join(map(str, schedule))}" for schedule in self.unreached[:_SHOWN])
            raise AssertionError(
                f"{len(self.unreached)} of {self.runs} schedules of task {self.task!r} were never reached:\n{missed}"
            )

    def __repr__(self) -> str:
        verdict = "safe" if self.safe else f"{len(self.violations)} schedule(s) break it"
        return (
            f"{self.task}: {verdict}; {self.points} points, {self.states} distinct durable states, {self.runs} runs, "
            f"{len(self.unreached)} not reached"
        )
