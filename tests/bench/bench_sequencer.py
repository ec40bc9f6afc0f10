"""What a sequencer costs beside the same steps called from a task."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from flowkit import Flow, Sequencer, sequencer, step, task
from tests.bench.measure import by_turns
from tests.bench.plugin import Judge

BLOCKS, RUNS, ROUNDS = 10, 20, 60


def increment(number: int) -> int:
    """A block that costs nothing itself."""
    return number + 1


async def increment_async(number: int) -> int:
    """The same, async."""
    return number + 1


BLOCKS_OF_A_RUN = [step(name=f"block-{number}")(increment) for number in range(BLOCKS)]
ASYNC_BLOCKS_OF_A_RUN = [step(name=f"block-{number}")(increment_async) for number in range(BLOCKS)]


@task(id="bench-ten-steps")
def ten_steps(number: int) -> int:
    """The steps, called one after the other."""
    for block in BLOCKS_OF_A_RUN:
        number = block(number)
    return number


@task(id="bench-ten-steps-async")
async def ten_steps_async(number: int) -> int:
    """The same, async."""
    for block in ASYNC_BLOCKS_OF_A_RUN:
        number = await block(number)
    return number


def chained(name: str, blocks: list[Any]) -> Sequencer[int, int]:
    """The steps as a chain."""
    chain = sequencer(name, input=int, output=int)
    for block in blocks:
        chain = chain.then(block)
    return chain


TEN_BLOCKS = chained("bench-ten-blocks", BLOCKS_OF_A_RUN)
TEN_BLOCKS_ASYNC = chained("bench-ten-blocks-async", ASYNC_BLOCKS_OF_A_RUN)


@pytest.fixture
def flow() -> Iterator[Flow]:
    """An application in memory."""
    with Flow("memory:", worker=False) as flow:
        yield flow


def test_ten_blocks(flow: Flow, benchmark: BenchmarkFixture, judge: Judge) -> None:
    """A run of ten blocks against a run of a task that calls the same ten steps."""

    def blocks() -> None:
        for _ in range(RUNS):
            flow.run(TEN_BLOCKS, 1)

    def steps() -> None:
        for _ in range(RUNS):
            flow.run(ten_steps, 1)

    judge(
        "sequencer of ten blocks",
        by_turns(benchmark, blocks, steps, rounds=ROUNDS, flowkit_calls=RUNS, bare_calls=RUNS),
    )


def test_ten_blocks_async(flow: Flow, benchmark: BenchmarkFixture, judge: Judge) -> None:
    """The same, async."""

    async def blocks() -> None:
        for _ in range(RUNS):
            await flow.aio.run(TEN_BLOCKS_ASYNC, 1)

    async def steps() -> None:
        for _ in range(RUNS):
            await flow.aio.run(ten_steps_async, 1)

    with asyncio.Runner() as runner:
        runner.get_loop()
        measured = by_turns(
            benchmark,
            lambda: runner.run(blocks()),
            lambda: runner.run(steps()),
            rounds=ROUNDS,
            flowkit_calls=RUNS,
            bare_calls=RUNS,
        )
    judge("sequencer of ten blocks, async", measured)
