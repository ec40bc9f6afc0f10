"""What a step costs late in a long run, and when it returns a lot."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from flowkit import Flow, step, task
from tests.bench.measure import Samples, by_turns, pedantic
from tests.bench.plugin import Judge

LINES = [f"{line:06d}: a line of a report, as long as such lines are\n" for line in range(20_000)]
REPORTS = ["".join(LINES)[start : start + 1024 * 1024] for start in range(4)]
EARLY, LATE = range(5, 15), range(9_995, 10_005)


@step
def double(number: int) -> int:
    """A step that costs nothing itself."""
    return 2 * number


@step
def report(number: int) -> str:
    """A step that returns a MiB, which it has at hand."""
    return REPORTS[number % len(REPORTS)]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("memory:", "10,000th step in memory"),
        ("disk:{}?durability=process", "10,000th step on disk, NORMAL"),
    ],
)
def test_the_ten_thousandth_step(
    url: str, name: str, tmp_path: Path, benchmark: BenchmarkFixture, judge: Judge
) -> None:
    """A step costs the same however many came before it."""
    early_s: list[float] = []
    late_s: list[float] = []

    @task(id=f"bench-{url[:4]}")
    def long_run() -> None:
        times: dict[int, float] = {}
        for i in range(LATE.stop):
            began = perf_counter()
            double(i)
            times[i] = perf_counter() - began
        early_s.append(median(times[i] for i in EARLY))
        late_s.append(median(times[i] for i in LATE))

    with Flow(url.format(tmp_path)) as flow:
        pedantic(benchmark, lambda: flow.run(long_run), rounds=7, warm_up=1)
    judge(name, Samples(late_s[1:], early_s[1:]))


def test_a_step_that_returns_a_mebibyte(tmp_path: Path, benchmark: BenchmarkFixture, judge: Judge) -> None:
    """A large result costs little more than a file that is written, synced and renamed."""
    measured: list[Samples] = []
    numbers = count()
    folder = tmp_path / "bare"
    folder.mkdir()

    def synced_write() -> None:
        with (folder / "new").open("wb", buffering=0) as file:
            file.write(payload)
            os.fsync(file.fileno())
        (folder / "new").rename(folder / f"{next(numbers)}")
        directory = os.open(folder, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    payload = report(1).encode()
    with Flow(f"disk:{tmp_path}/flowkit") as flow:

        @task(id="bench-mebibyte")
        def body() -> None:
            measured.append(by_turns(benchmark, lambda: report(2), synced_write, rounds=60))

        flow.run(body)
    judge("step that returns 1 MiB, FULL", measured[0])
