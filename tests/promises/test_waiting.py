"""E1: what a run does while it waits."""

import asyncio
import threading

import pytest

from flowkit import RunStatus, aio, saga, sleep, step, task, work
from flowkit_testing import Harness, SwallowedWarning
from tests.rules.colours import Body, Colour


def test_what_waits_holds_no_thread(harness: Harness, colour: Colour) -> None:
    """E1: a hundred runs that wait are records, no more: no thread is theirs, and no lease."""

    @colour.task
    def waits() -> Body[str]:
        yield colour.sleep("1d")
        return "woken"

    runs = [harness.start(waits)]
    before = threading.active_count()
    runs += [harness.start(waits) for _ in range(99)]
    assert threading.active_count() <= before
    assert {run.status for run in runs} == {RunStatus.WAITING}
    assert all(header.worker is None for header in harness.flow.runs(limit=200))
    harness.clock.advance("1d")
    assert {run.output for run in runs} == {"woken"}


def test_it_suspends_when_nothing_moves(harness: Harness) -> None:
    """E1: not while a branch or side work is at it: what runs beside a timer is not interrupted."""

    @step
    async def long(text: str) -> str:
        return text

    @task
    async def naps() -> str:
        work(long, "work")
        text, _ = await asyncio.gather(long("beside"), aio.sleep("1m"))
        return text

    harness.delay(long, "2h")
    run = harness.run(naps)
    assert run.output == "beside"
    run.assert_calls(long=2)


def test_unwinding_is_no_exception(harness: Harness, colour: Colour) -> None:
    """E1: `except Exception` does not hold it, and what is called meanwhile raises it again and does nothing."""
    caught: list[str] = []

    @colour.step
    def clean() -> None:
        pass

    @colour.task
    def waits() -> Body[str]:
        try:
            yield colour.sleep("1d")
        except Exception:  # noqa: BLE001  # what users write
            caught.append("exception")
        finally:
            yield clean()
            caught.append("cleaned")
        return "woken"

    run = harness.start(waits)
    assert run.status is RunStatus.WAITING
    run.assert_calls(clean=0)
    assert caught == []
    harness.clock.advance("1d")
    assert run.output == "woken"
    assert "exception" not in caught
    run.assert_calls(clean=1)


def test_a_scope_takes_no_notice(harness: Harness) -> None:
    """E1: a run that goes to wait inside a `saga` scope has not left it: nothing is undone."""

    @step
    def book() -> str:
        return "booked"

    @book.compensate
    def cancel(_booked: str) -> None:
        """The undo."""

    @task
    def waits() -> str:
        with saga("trip"):
            booked = book()
            sleep("1d")
        return booked

    run = harness.start(waits)
    assert run.status is RunStatus.WAITING
    harness.clock.advance("1d")
    assert run.output == "booked"
    run.assert_compensated([])


@pytest.mark.filterwarnings("ignore:the task of run:flowkit_testing.SwallowedWarning")
def test_a_body_that_swallows_it_is_reported(harness: Harness, colour: Colour) -> None:
    """E1: and what it does after that is not recorded."""

    @colour.step
    def after() -> str:
        return "after"

    @colour.task
    def waits() -> Body[str]:
        try:
            yield colour.sleep("1d")
        except BaseException:  # noqa: BLE001  # what should not be written
            return "swallowed"
        return (yield after())

    run = harness.start(waits)
    assert run.status is RunStatus.WAITING
    with pytest.warns(SwallowedWarning, match="let go"):
        harness.check()
    harness.clock.advance("1d")
    assert run.output == "after"
