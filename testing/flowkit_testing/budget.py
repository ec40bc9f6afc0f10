"""How much an exploration may take: a time, a number of runs, or no end."""

from __future__ import annotations

import time

from attrs import define, field

from flowkit.durations import Duration, seconds


@define
class Budget:
    """Counts runs, or looks at the clock on the wall."""

    runs: int | None = None
    seconds: float | None = None
    _ran: int = 0
    _began_s: float = field(factory=time.monotonic)

    @classmethod
    def of(cls, given: int | Duration | None) -> Budget:
        """A whole number is a number of runs; text such as "10s" or a `timedelta` is a time.

        Raises:
            ValueError: it allows nothing.
        """
        if given is None:
            return cls()
        if isinstance(given, int):
            budget = cls(runs=given)
        else:
            budget = cls(seconds=seconds(given, "harness.explore(budget=...)"))
        if (budget.runs is not None and budget.runs < 1) or (budget.seconds is not None and budget.seconds <= 0):
            raise ValueError(f"harness.explore(budget={given!r}) allows nothing, so nothing would be proven")
        return budget

    @property
    def unlimited(self) -> bool:
        """True if it has no end."""
        return self.runs is None and self.seconds is None

    @property
    def spent(self) -> bool:
        """True if there is nothing left of it."""
        if self.runs is not None:
            return self._ran >= self.runs
        return self.seconds is not None and time.monotonic() - self._began_s >= self.seconds

    def begin(self) -> None:
        """From now on it counts."""
        self._ran, self._began_s = 0, time.monotonic()

    def spend(self) -> None:
        """One run was made."""
        self._ran += 1

    def __str__(self) -> str:
        if self.runs is not None:
            return f"{self.runs} runs"
        return "no end" if self.seconds is None else f"{self.seconds:g} s"
