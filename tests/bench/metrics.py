"""What is measured, against what, and how much it may be."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen


@frozen
class AtMost:
    """The ratio to the bare store may not be above this."""

    ratio: float

    def holds(self, _seconds: float, ratio: float) -> bool:
        """Whether a result is within it."""
        return ratio <= self.ratio

    def text(self) -> str:
        """As a cell of the table."""
        return f"≤ {self.ratio:g}"


@frozen
class AtLeast:
    """The ratio may not be below this."""

    ratio: float

    def holds(self, _seconds: float, ratio: float) -> bool:
        """Whether a result is within it."""
        return ratio >= self.ratio

    def text(self) -> str:
        """As a cell of the table."""
        return f"≥ {self.ratio:g}"


@frozen
class Within:
    """So much time and no more, whatever the machine; the bare column tells how fast it was."""

    seconds: float

    def holds(self, seconds: float, _ratio: float) -> bool:
        """Whether a result is within it."""
        return seconds <= self.seconds

    def text(self) -> str:
        """As a cell of the table."""
        return f"≤ {self.seconds * 1000:g} ms" if self.seconds >= MS else f"≤ {self.seconds / US:g} µs"


Limit = AtMost | AtLeast | Within

MS, US = 1e-3, 1e-6


@frozen
class Metric:
    """One row of the table."""

    name: str
    against: str  # what the ratio is to
    limit: Limit | None  # None: told for the sake of knowing
    ratio: Callable[[float, float], float] = lambda flowkit, bare: flowkit / bare


def speed_up(many: float, one: float) -> float:
    """How many times the steps per second, from the seconds per step."""
    return one / many


JSON = 'json.dumps({"a": 1})'

METRICS = {
    metric.name: metric
    for metric in (
        Metric("step on disk, FULL", "diskcache set, FULL", AtMost(1.5)),
        Metric("step on disk, FULL, async", "diskcache set, FULL", AtMost(1.5)),
        Metric("step on disk, NORMAL", "diskcache set, NORMAL", AtMost(1.5)),
        Metric("step on disk, NORMAL, async", "diskcache set, NORMAL", AtMost(1.5)),
        Metric("step in memory", JSON, Within(20 * US)),
        Metric("step in memory, async", JSON, Within(20 * US)),
        Metric("replayed step, call only", JSON, None),
        Metric("replayed step, async, call only", JSON, None),
        Metric("replayed step", JSON, Within(5 * US)),
        Metric("replayed step, async", JSON, Within(5 * US)),
        Metric("10,000th step in memory", "the 10th step", AtMost(1.3)),
        Metric("10,000th step on disk, NORMAL", "the 10th step", AtMost(1.3)),
        Metric("step of one of 32 async runs, FULL", "step of a lone run, FULL", AtLeast(5), speed_up),
        Metric("step that returns 1 MiB, FULL", "synced file write", AtMost(2.5)),
        Metric("sequencer of ten blocks", "ten steps of a task", AtMost(1.3)),
        Metric("sequencer of ten blocks, async", "ten steps of a task", AtMost(1.3)),
        Metric("step on Redis, everysec", "RPUSH, everysec", AtMost(1.5)),
        Metric("step on Redis, always", "RPUSH, always", AtMost(1.5)),
        Metric("step of one of 32 async runs, Redis everysec", "step of a lone run", AtLeast(6), speed_up),
        Metric("step of one of 32 async runs, Redis always", "step of a lone run", AtLeast(6), speed_up),
        Metric("work of two workers, Redis", "one worker", AtLeast(1.6), speed_up),
        Metric("work of two workers, beside a million", "without the million", AtMost(1.3)),
        Metric("step on Redis beside a million finished runs", "without the million", AtMost(1.3)),
        Metric("step of one of 32 async runs, beside a million", "without the million", AtMost(1.3)),
        Metric("claim of 1 of 100,000", "claim of 1 of 100", AtMost(1.5)),
        Metric("claim of 1 of 100,000, beside a million", "without the million", AtMost(1.3)),
        Metric("trigger to first step, p50", "RPUSH", Within(5 * MS)),
        Metric("trigger to first step, p50, beside a million", "without the million", AtMost(1.3)),
        Metric("trigger to first step, p99", "RPUSH", Within(25 * MS)),
        Metric("trigger to first step, p99, beside a million", "without the million", AtMost(1.3)),
        Metric("one of 1,000 children, memory", "a run started by itself", AtMost(1.5)),
        Metric("one of 1,000 children, disk, NORMAL", "a run started by itself", AtMost(1.5)),
        Metric("side work, memory", "a step", None),
        Metric("side work, disk, NORMAL", "a step", None),
        Metric("event received, memory", "a run started by itself", AtMost(3)),
        Metric("event received, disk, NORMAL", "a run started by itself", AtMost(3)),
        Metric("harness test of one run", JSON, Within(5 * MS)),
        Metric("exploring 10 steps in memory", JSON, Within(500 * MS)),
        Metric("exploring 10 steps on disk", JSON, Within(3000 * MS)),
        Metric("exploring 10 steps that fail in memory", JSON, Within(500 * MS)),
        Metric("exploring 10 steps that fail on disk", JSON, Within(3000 * MS)),
        Metric("import flowkit", "bare interpreter", Within(150 * MS)),
    )
}
