"""Time flowkit and the bare store by turns, so that what disturbs the machine disturbs both."""

from __future__ import annotations

import json
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

from attrs import frozen
from pytest_benchmark.fixture import BenchmarkFixture

_CALIBRATION_LOOPS = 1000


@frozen
class Samples:
    """Seconds per operation, round by round."""

    flowkit: list[float]
    bare: list[float]

    def medians(self, ratio: Callable[[float, float], float]) -> tuple[float, float, float]:
        """Of flowkit, of the bare store, and of the ratios of each round."""
        ratios = [ratio(ours, theirs) for ours, theirs in zip(self.flowkit, self.bare, strict=True)]
        return median(self.flowkit), median(self.bare), median(ratios)

    def least(self, ratio: Callable[[float, float], float]) -> tuple[float, float, float]:
        """The same of the quickest rounds. What a slower one took on top was taken by others, as `timeit` says."""
        flowkit, bare = min(self.flowkit), min(self.bare)
        return flowkit, bare, ratio(flowkit, bare)


def by_turns(
    benchmark: BenchmarkFixture,
    flowkit: Callable[[], object],
    bare: Callable[[], object],
    *,
    rounds: int,
    flowkit_calls: int = 1,
    bare_calls: int = 1,
    warm_up: int = 3,
) -> Samples:
    """Time `bare`, then `flowkit`, and again, for so many rounds.

    Args:
        benchmark: pytest-benchmark's fixture, which times flowkit.
        flowkit: performs `flowkit_calls` operations.
        bare: performs `bare_calls` operations.
        rounds: how often.
        flowkit_calls: what a round's time is divided by.
        bare_calls: what a round's time is divided by.
        warm_up: rounds before the first that counts.
    """
    bare_s: list[float] = []

    def before_each() -> None:
        began = perf_counter()
        bare()
        bare_s.append((perf_counter() - began) / bare_calls)

    times_s = pedantic(benchmark, flowkit, rounds=rounds, warm_up=warm_up, before_each=before_each)
    return Samples([each / flowkit_calls for each in times_s], bare_s[-rounds:])


def pedantic(
    benchmark: BenchmarkFixture,
    flowkit: Callable[[], object],
    *,
    rounds: int,
    warm_up: int,
    before_each: Callable[[], None] | None = None,
) -> list[float]:
    """pytest-benchmark's `pedantic`, with types; the seconds of each round."""
    fixture: Any = benchmark
    fixture.pedantic(flowkit, setup=before_each, rounds=rounds, warmup_rounds=warm_up)
    times_s: list[float] = fixture.stats.stats.data
    return times_s


def calibrate() -> None:
    """A known amount of work: `_CALIBRATION_LOOPS` small JSON texts, which tell how fast this machine is right now."""
    for _ in range(_CALIBRATION_LOOPS):
        json.dumps({"a": 1})


def against_json(
    benchmark: BenchmarkFixture, flowkit: Callable[[], object], *, rounds: int, flowkit_calls: int
) -> Samples:
    """Time something that has no bare store to compare with against the speed of the machine."""
    return by_turns(
        benchmark, flowkit, calibrate, rounds=rounds, flowkit_calls=flowkit_calls, bare_calls=_CALIBRATION_LOOPS
    )
