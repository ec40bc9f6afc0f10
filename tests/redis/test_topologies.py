"""Workflows of many shapes on a Cluster in eight shards, and behind a Sentinel; events and crashes between shards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count

import pytest

from flowkit import EventTimeout, Flow, RunStatus, task, wait_for_event
from flowkit_redis import redis_storage
from flowkit_testing import Harness
from flowkit_testing.clusters import Cluster, Watched
from flowkit_testing.corpus import CASES, Case

_numbers = count()
CHOSEN = {
    "chain",
    "saga",
    "saga-nested",
    "parent",
    "rescuing-parent",
    "sleeps",
    "retries",
    "work-must",
    "each",
    "gather",
}
SAMPLE = [case for case in CASES if case.name in CHOSEN]


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    """A master, a replica and a Sentinel."""
    with Watched() as started:
        yield started


@pytest.fixture(params=["cluster", "sentinel"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty namespace on each kind."""
    place: Cluster | Watched = request.getfixturevalue(
        "flowkit_redis_cluster" if request.param == "cluster" else "watched"
    )
    return f"{place.url}?namespace=topology{os.getpid()}-{next(_numbers)}"


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.name)
def test_a_workflow_with_a_replay_after_every_step(case: Case, url: str) -> None:
    """It ends as it is said to, though it is unwound and replayed all the time."""
    storage = redis_storage(url)
    harness = Harness(storage, always_replay=True)
    try:
        run = harness.run(case.task, *case.args)
        if case.fails is None:
            assert run.ok, run.describe()
        else:
            assert isinstance(run.error, case.fails), run.describe()
    finally:
        harness.close()
        storage.close()


@task(id="topology-waits")
def waits(name: str) -> str:
    """Waits for an event."""
    return str(wait_for_event(name, timeout="60s", type=str))


@task(id="topology-gives-up")
def gives_up() -> None:
    """Waits for what does not come."""
    wait_for_event("never", timeout=0.2)


def test_events_reach_runs_in_every_shard(url: str) -> None:
    """E5: sent by a client, to sixteen runs that workers have let go of, or sent before they began."""
    with Flow(url, worker=True, concurrency=4) as flow:
        handles = [flow.start(waits, f"event-{number}") for number in range(16)]
        for number, handle in enumerate(handles):
            flow.send_event(handle.id, f"event-{number}", f"answer {number}", id="once")
            flow.send_event(handle.id, f"event-{number}", "again", id="once")
        assert [handle.result(timeout=60) for handle in handles] == [f"answer {number}" for number in range(16)]


def test_timers_and_cancellations(url: str) -> None:
    """E2, E4: what waits is woken by the clock, or by being cancelled."""
    with Flow(url, worker=True, concurrency=4) as flow:
        timed = [flow.start(gives_up) for _ in range(4)]
        cancelled = [flow.start(waits, "nothing") for _ in range(4)]
        for handle in cancelled:
            handle.cancel()
        for late in timed:
            with pytest.raises(EventTimeout):
                late.result(timeout=60)
        ended = [handle.wait_for_completion(timeout=60).status for handle in cancelled]
        assert ended == [RunStatus.CANCELLED] * 4
