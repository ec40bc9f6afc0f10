"""A durable step on disk, against one bare `set` of a diskcache with the same settings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import perf_counter

import diskcache
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from flowkit import Flow, step, task
from tests.bench.measure import Samples, by_turns, pedantic
from tests.bench.plugin import Judge

ROUNDS, WARM_UP = 1000, 50
SETTINGS = {  # those of flowkit_disk, written out: a store that loses nothing
    "eviction_policy": "none",
    "cull_limit": 0,
    "size_limit": 2**62,
    "statistics": 0,
    "tag_index": 0,
    "disk_min_file_size": 2**62,
    "sqlite_auto_vacuum": 0,
    "sqlite_journal_mode": "wal",
    "sqlite_mmap_size": 0,
    "sqlite_wal_autocheckpoint": 0,
}
LEVELS = {"FULL": ("", 2), "NORMAL": ("?durability=process", 1)}


@step
def reserve(number: int) -> str:
    """A step of the usual size."""
    return f"reservation {number}"


@step
async def reserve_async(number: int) -> str:
    """The same, async."""
    return f"reservation {number}"


@task(id="bench-entry")
def one_step() -> None:
    """What the bare store is to write as well."""
    reserve(1)


@task(id="bench-async")
async def many_steps(number: int) -> None:
    """An async run."""
    for i in range(number):
        await reserve_async(i)


@contextmanager
def bare_set(folder: Path, synchronous: int, payload: bytes) -> Iterator[Callable[[], None]]:
    """One `set` of those bytes under a new key."""
    numbers = count()
    cache = diskcache.Cache(str(folder), **SETTINGS, sqlite_synchronous=synchronous)
    with cache:
        yield lambda: cache.set(f"key-{next(numbers):015d}", payload)


def entry_of_a_step(flow: Flow) -> bytes:
    """The bytes that one step gives to its storage."""
    flow.run(one_step.options(run_id="entry"))
    snapshot = flow.engine.storage.load("entry")
    assert snapshot is not None
    return snapshot.entries[0]


@pytest.mark.parametrize("level", LEVELS)
def test_a_step_on_disk(level: str, tmp_path: Path, benchmark: BenchmarkFixture, judge: Judge) -> None:
    """A step costs little more than the write that makes it durable."""
    options, synchronous = LEVELS[level]
    measured: list[Samples] = []
    with (
        Flow(f"disk:{tmp_path}/flowkit{options}") as flow,
        bare_set(tmp_path / "bare", synchronous, entry_of_a_step(flow)) as bare,
    ):

        @task(id=f"bench-{level}")
        def body() -> None:
            measured.append(by_turns(benchmark, lambda: reserve(1), bare, rounds=ROUNDS, warm_up=WARM_UP))

        flow.run(body)
    judge(f"step on disk, {level}", measured[0])


@pytest.mark.parametrize("level", LEVELS)
def test_an_async_step_on_disk(level: str, tmp_path: Path, benchmark: BenchmarkFixture, judge: Judge) -> None:
    """A step on an event loop pays for two hand-overs between threads, since nothing may block the loop."""
    options, synchronous = LEVELS[level]
    flowkit_s: list[float] = []
    bare_s: list[float] = []
    with (
        Flow(f"disk:{tmp_path}/flowkit{options}") as flow,
        bare_set(tmp_path / "bare", synchronous, entry_of_a_step(flow)) as bare,
        asyncio.Runner() as runner,
    ):

        @task(id=f"bench-async-{level}")
        async def body() -> None:
            for _ in range(WARM_UP + ROUNDS):
                began = perf_counter()
                bare()
                between = perf_counter()
                await reserve_async(1)
                flowkit_s.append(perf_counter() - between)
                bare_s.append(between - began)

        pedantic(benchmark, lambda: runner.run(flow.aio.run(body)), rounds=1, warm_up=0)
    judge(f"step on disk, {level}, async", Samples(flowkit_s[WARM_UP:], bare_s[WARM_UP:]))


def test_group_commit(tmp_path: Path, benchmark: BenchmarkFixture, judge: Judge) -> None:
    """Concurrent runs share their synced writes."""
    steps, runs = 100, 32
    with Flow(f"disk:{tmp_path}/flowkit") as flow, asyncio.Runner() as runner:

        async def concurrently() -> None:
            await asyncio.gather(*(flow.aio.run(many_steps, steps) for _ in range(runs)))

        measured = by_turns(
            benchmark,
            lambda: runner.run(concurrently()),
            lambda: runner.run(flow.aio.run(many_steps, steps)),
            rounds=8,
            flowkit_calls=steps * runs,
            bare_calls=steps,
        )
    judge("step of one of 32 async runs, FULL", measured)
