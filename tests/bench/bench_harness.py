"""What the test harness costs: a test of one run, and exploring a saga of ten steps at every point."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from flowkit import NonRetryable, step, task
from flowkit.memory import MemoryStorage
from flowkit.storage import open_storage
from flowkit.tasks import Runnable
from flowkit_testing import Harness
from tests.bench.measure import against_json
from tests.bench.plugin import Judge

STEPS = 10
ROUNDS = 10


@step
def book(number: int) -> int:
    """A step with an undo."""
    return number


@book.compensate
def unbook(number: int) -> None:
    """The undo."""


@step
def ship() -> None:
    """Never works."""
    raise NonRetryable


@task(id="bench-failing-saga")
def failing_saga_of(steps: int) -> None:
    """Steps in a row, and their undos, because the last one fails."""
    for number in range(1, steps):
        book(number)
    ship()


@task(id="bench-saga")
def saga_of(steps: int) -> int:
    """Steps in a row, each with an undo."""
    return sum(book(number) for number in range(steps))


SAGAS = [(saga_of, "10 steps"), (failing_saga_of, "10 steps that fail")]


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Harness]:
    """A harness on disk."""
    storage = open_storage(f"disk:{tmp_path / 'flowkit'}?durability=process")
    harness = Harness(storage)
    yield harness
    harness.close()
    storage.close()


def test_one_run(benchmark: BenchmarkFixture, judge: Judge) -> None:
    """A harness is made, a run of ten steps is run and checked, all is closed again."""

    def one() -> None:
        harness = Harness(MemoryStorage())
        harness.run(saga_of, STEPS).assert_calls(book=STEPS)
        harness.check()
        harness.close()

    judge("harness test of one run", against_json(benchmark, one, rounds=ROUNDS, flowkit_calls=1))


@pytest.mark.parametrize(("saga", "what"), SAGAS)
def test_exploring_in_memory(
    saga: Runnable[[int], object], what: str, benchmark: BenchmarkFixture, judge: Judge
) -> None:
    """Every point of a saga of ten steps, in memory; how many resumes that took is printed."""
    harness = Harness(MemoryStorage())
    found = harness.explore(saga, STEPS)
    print(found)  # noqa: T201  # the number of resumes is a promise
    found.assert_safe()
    assert found.resumes <= 3 * STEPS + 20

    def explore() -> None:
        harness.explore(saga, STEPS)

    judge(f"exploring {what} in memory", against_json(benchmark, explore, rounds=ROUNDS, flowkit_calls=1))
    harness.close()


@pytest.mark.parametrize(("saga", "what"), SAGAS)
def test_exploring_on_disk(
    saga: Runnable[[int], object], what: str, on_disk: Harness, benchmark: BenchmarkFixture, judge: Judge
) -> None:
    """The same on disk."""

    def explore() -> None:
        on_disk.explore(saga, STEPS).assert_safe()

    judge(f"exploring {what} on disk", against_json(benchmark, explore, rounds=3, flowkit_calls=1))
