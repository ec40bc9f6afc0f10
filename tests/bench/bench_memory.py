"""What flowkit itself costs: steps in memory, all in, and steps that are replayed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from time import perf_counter

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from flowkit import Flow, step, task
from tests.bench.measure import Samples, against_json
from tests.bench.plugin import Judge

STEPS = 1000
ROUNDS = 60


class Stop(BaseException):
    """Takes a run off the stack, so that the next call with its id replays it."""


@step
def double(number: int) -> int:
    """A step that costs nothing itself."""
    return 2 * number


@step
async def double_async(number: int) -> int:
    """The same, async."""
    return 2 * number


@task(id="bench-memory")
def work(number: int) -> None:
    """A run of so many steps."""
    for i in range(number):
        double(i)


@task(id="bench-memory-async")
async def work_async(number: int) -> None:
    """The same, async."""
    for i in range(number):
        await double_async(i)


replayed_s: list[float] = []  # what the calls alone took, at each replay


@task(id="bench-replay")
def work_and_stop(number: int) -> None:
    """A run that never ends."""
    began = perf_counter()
    for i in range(number):
        double(i)
    replayed_s.append((perf_counter() - began) / number)
    raise Stop


@task(id="bench-replay-async")
async def work_and_stop_async(number: int) -> None:
    """The same, async."""
    began = perf_counter()
    for i in range(number):
        await double_async(i)
    replayed_s.append((perf_counter() - began) / number)
    raise Stop


@pytest.fixture
def flow() -> Iterator[Flow]:
    """An application in memory."""
    with Flow("memory:", worker=False) as flow:  # nobody else takes up a run that was let go
        yield flow


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """An event loop that is started already."""
    with asyncio.Runner() as runner:
        runner.get_loop()
        yield runner


def test_a_step(flow: Flow, benchmark: BenchmarkFixture, judge: Judge) -> None:
    """A step in memory, the run around it included."""
    judge("step in memory", against_json(benchmark, lambda: flow.run(work, STEPS), rounds=ROUNDS, flowkit_calls=STEPS))


def test_an_async_step(flow: Flow, runner: asyncio.Runner, benchmark: BenchmarkFixture, judge: Judge) -> None:
    """An async step in memory, the run around it included."""
    measured = against_json(
        benchmark, lambda: runner.run(flow.aio.run(work_async, STEPS)), rounds=ROUNDS, flowkit_calls=STEPS
    )
    judge("step in memory, async", measured)


def test_a_replayed_step(flow: Flow, benchmark: BenchmarkFixture, judge: Judge) -> None:
    """A recorded step is held against the call and answered; loading and decoding it comes on top."""

    def resume() -> None:
        with suppress(Stop):
            flow.run(work_and_stop.options(run_id="replay"), STEPS)

    resume()
    whole = against_json(benchmark, resume, rounds=ROUNDS, flowkit_calls=STEPS)
    judge("replayed step, call only", Samples(replayed_s[-ROUNDS:], whole.bare))
    judge("replayed step", whole)


def test_an_async_replayed_step(flow: Flow, runner: asyncio.Runner, benchmark: BenchmarkFixture, judge: Judge) -> None:
    """A recorded async step is delivered in its turn as well."""

    async def resume() -> None:
        with suppress(Stop):
            await flow.aio.run(work_and_stop_async.options(run_id="replay"), STEPS)

    runner.run(resume())
    whole = against_json(benchmark, lambda: runner.run(resume()), rounds=ROUNDS, flowkit_calls=STEPS)
    judge("replayed step, async, call only", Samples(replayed_s[-ROUNDS:], whole.bare))
    judge("replayed step, async", whole)
