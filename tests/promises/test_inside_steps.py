"""I5: what a step may call, and what it may not."""

from collections.abc import Callable

import pytest

from flowkit import NotAllowedInStep, emit, sleep, step, task, wait_for_event, work
from flowkit_testing import Harness
from tests.promises.pages import save
from tests.promises.trips import Trip
from tests.rules.colours import Body, Colour


def test_steps_in_a_step_are_functions_of_it(harness: Harness, colour: Colour) -> None:
    """I5: they are recorded with it, not by themselves, and have no undo of their own there."""
    trip = Trip(Colour(awaits=False))

    @colour.step
    def book_both() -> list[str]:
        return [trip.book("1a"), trip.book("1b")]

    @colour.step(attempts=1)
    def broken() -> None:
        raise OSError

    @colour.task
    def travels() -> Body[None]:
        yield book_both()
        yield broken()

    run = harness.run(travels)
    assert isinstance(run.error, OSError)
    assert [entry.name for entry in run.journal if entry.kind == "step"] == ["book_both", "broken"]
    assert not trip.undone
    run.assert_compensated([])


def test_a_step_with_an_undo_in_step_run(harness: Harness) -> None:
    """I5: `step.run` around one uses the function alone."""
    trip = Trip(Colour(awaits=False))

    @task
    def travels() -> None:
        step.run("booking", trip.book, "1a")
        raise OSError

    run = harness.run(travels)
    assert [entry.name for entry in run.journal if entry.kind == "step"] == ["booking"]
    assert not trip.undone


@task
def child() -> str:
    """What a step must not begin."""
    return "grown up"


@pytest.mark.parametrize(
    "forbidden",
    [
        lambda: sleep(1),
        lambda: child.trigger(),  # noqa: PLW0108  # named by the test
        lambda: work(save, "a"),
        lambda: wait_for_event("e"),
    ],
    ids=["sleep", "trigger", "work", "wait_for_event"],
)
def test_what_a_step_cannot_do(harness: Harness, forbidden: Callable[[], object]) -> None:
    """I5: it is refused at once, and the error says what to do in its place; `emit` may be called."""

    @step(attempts=3)
    def naughty() -> None:
        emit("progress", 1)
        forbidden()

    @task
    def trip() -> None:
        naughty()

    run = harness.run(trip)
    assert isinstance(run.error, NotAllowedInStep)
    assert "naughty" in str(run.error)
    assert "task" in str(run.error)
    run.assert_calls(naughty=1)
    items = [item.data for item in harness.flow.handle(run.run_id).items() if item.name == "progress"]
    assert items == [1]


def test_a_step_may_wait_for_children(harness: Harness) -> None:
    """I5: it keeps its thread and gives its slot back, so that the child can run."""

    @task
    def trip() -> str:
        handle = child.trigger()
        return step.run("wait", lambda: handle.result(timeout="1h"))

    run = harness.run(trip)
    assert run.output == "grown up"
    run.assert_calls(wait=1)
