"""Inside a task, besides steps: children spawned and joined, side work, and how soon an event is received."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import perf_counter

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from flowkit import Flow, RunHandle, step, task, wait_for_event, wait_for_work, work
from tests.bench.measure import Samples, by_turns, pedantic
from tests.bench.plugin import Judge

CHILDREN = 1000
WORKS = 200
EVENTS = 50


@step
def note(number: int) -> int:
    """A step that costs nothing itself."""
    return number


@task(id="bench-child")
def child(number: int) -> int:
    """A run that costs nothing itself."""
    return number


@task(id="bench-parent")
def parent(number: int) -> int:
    """So many children, spawned and joined."""
    return sum(child.batch_trigger(range(number)).results())


@task(id="bench-side-work")
def side_work(number: int) -> None:
    """So many steps beside the task, and one convergence."""
    for i in range(number):
        work(note, i)
    wait_for_work()


@task(id="bench-no-side-work")
def no_side_work(number: int) -> None:
    """As many steps, one after the other."""
    for i in range(number):
        note(i)


@task(id="bench-event")
def told() -> object:
    """Waits for one event."""
    return wait_for_event("go")


STORAGES = {"memory": "memory:", "disk, NORMAL": "disk:{folder}/state?durability=process"}


@contextmanager
def flow_on(storage: str, folder: Path) -> Iterator[Flow]:
    """An application on that storage, with its worker."""
    with Flow(STORAGES[storage].format(folder=folder)) as flow:
        yield flow


def one_by_one(flow: Flow) -> None:
    """As many runs, each started and waited for by itself."""
    for number in range(CHILDREN // 10):
        flow.start(child, number).result()


@pytest.mark.parametrize("storage", STORAGES)
def test_children(storage: str, tmp_path: Path, benchmark: BenchmarkFixture, judge: Judge) -> None:
    """A thousand children, spawned and joined, cost less each than runs that are started one by one."""
    with flow_on(storage, tmp_path) as flow:
        measured = by_turns(
            benchmark,
            lambda: flow.start(parent, CHILDREN).result(),
            lambda: one_by_one(flow),
            rounds=3,
            warm_up=1,
            flowkit_calls=CHILDREN,
            bare_calls=CHILDREN // 10,
        )
    judge(f"one of 1,000 children, {storage}", measured)


@pytest.mark.parametrize("storage", STORAGES)
def test_side_work(storage: str, tmp_path: Path, benchmark: BenchmarkFixture, judge: Judge) -> None:
    """A step as side work costs a thread more than a step."""
    with flow_on(storage, tmp_path) as flow:
        measured = by_turns(
            benchmark,
            lambda: flow.run(side_work, WORKS),
            lambda: flow.run(no_side_work, WORKS),
            rounds=10,
            flowkit_calls=WORKS,
            bare_calls=WORKS,
        )
    judge(f"side work, {storage}", measured)


@pytest.mark.parametrize("storage", STORAGES)
def test_an_event(storage: str, tmp_path: Path, benchmark: BenchmarkFixture, judge: Judge) -> None:
    """From sending an event to the end of the run that waited for it, against a run that is started and waited for."""
    numbers = count()
    handles: list[RunHandle[object]] = []
    started_s: list[float] = []
    with flow_on(storage, tmp_path) as flow:

        def get_ready() -> None:
            began = perf_counter()
            flow.start(child, 1).result()
            started_s.append(perf_counter() - began)
            handles.append(flow.start(told.options(run_id=f"told-{next(numbers)}")))
            while handles[-1].status() != "waiting":
                pass

        def receive() -> None:
            flow.send_event(handles[-1].id, "go")
            handles[-1].result()

        received_s = pedantic(benchmark, receive, rounds=EVENTS, warm_up=5, before_each=get_ready)
    judge(f"event received, {storage}", Samples(received_s, started_s[-EVENTS:]))
