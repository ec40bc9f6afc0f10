"""I3, I4: the replay is held against the record, and outcomes come in its order."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from flowkit import NonDeterminismError, RunStatus, task
from flowkit_testing import Harness
from flowkit_testing.lab import ReplayDiffers
from tests.promises.pages import load
from tests.promises.trips import Trip
from tests.rules.colours import Body, Colour


def _another_name(_colour: Colour, _book: Any, pay: Any) -> Body[None]:  # noqa: ANN401  # steps of either colour
    yield pay("1a")


def _another_kind(colour: Colour, _book: Any, _pay: Any) -> Body[None]:  # noqa: ANN401  # steps of either colour
    yield colour.sleep(1)


def _nothing(_colour: Colour, _book: Any, _pay: Any) -> Body[None]:  # noqa: ANN401  # steps of either colour
    yield from ()


# ---- I3: the replay is held against the record ----------------------------------------------------------------------


@pytest.mark.parametrize("changed", [_another_name, _another_kind, _nothing])
def test_other_code_is_noticed(
    harness: Harness, colour: Colour, trip: Trip, changed: Callable[[Colour, Any, Any], Body[None]]
) -> None:
    """I3: another name, another kind, or a call that is not made again block the run, which fixed code resumes."""
    released = [False]

    @colour.step
    def pay(seat: str) -> str:
        return seat

    @colour.task
    def travels() -> Body[str]:
        if released[0]:
            yield from changed(colour, trip.book, pay)
        else:
            yield trip.book("1a")
            yield colour.sleep("1d")
            yield pay("1a")
        return "there"

    run = harness.start(travels)
    released[0] = True
    harness.clock.advance("2d")
    assert run.status is RunStatus.BLOCKED
    assert isinstance(run.error, NonDeterminismError)
    assert "book" in str(run.error)
    assert not trip.undone
    assert run.compensated == []

    released[0] = False
    harness.flow.retry(run.run_id)
    harness.clock.advance("2d")
    assert run.output == "there"
    run.assert_calls(book=1, pay=1)


def test_the_difference_is_shown(harness: Harness, colour: Colour) -> None:
    """I3: the error says what was recorded, what was called, and the likely cause."""
    released = [False]

    @colour.step
    def book(seat: str) -> str:
        return seat

    @colour.step
    def pay(seat: str) -> str:
        return seat

    @colour.task
    def trip() -> Body[None]:
        yield (pay if released[0] else book)("1a")
        yield colour.sleep("1d")

    run = harness.start(trip)
    released[0] = True
    harness.clock.advance("2d")
    told = str(run.error)
    assert "book" in told
    assert "pay" in told
    assert "recorded" in told
    assert "patched" in told or "changed" in told


def test_other_arguments_fail_in_the_harness(harness: Harness, colour: Colour) -> None:
    """I3: the digest of the arguments differs; outside of a test that would be a warning."""

    @colour.step
    def book(seat: int) -> int:
        return seat

    @colour.task
    def trip() -> Body[None]:
        yield book(random.randrange(10**9))
        yield book(0)

    harness.crash("book#2")
    with pytest.raises(ReplayDiffers, match="book"):
        harness.run(trip)


def test_what_does_not_count_as_another_argument(harness: Harness, colour: Colour) -> None:
    """I3: defaults that are written out, and what cannot be encoded, are left out of the digest."""
    turns: list[int] = []

    @colour.step
    def book(seat: str, handler: object, row: int = 7) -> str:
        del handler
        return f"{seat}{row}"

    @colour.task
    def trip() -> Body[str]:
        turns.append(1)
        booked = yield book("a", object()) if len(turns) == 1 else book("a", object(), 7)
        yield book("b", None)
        return booked

    harness.crash("book#2")
    assert harness.run(trip).output == "a7"
    assert len(turns) >= 2


# ---- I4: outcomes in the order of the record ------------------------------------------------------------------------


def test_as_completed_decides_the_same(harness: Harness) -> None:
    """I4: whoever was first the first time is first on replay."""
    orders: list[list[str]] = []

    @task
    async def reads() -> None:
        order = [await page for page in asyncio.as_completed([load("a"), load("b"), load("c")])]
        orders.append(order)
        await load("end")

    harness.delay(load, "3h", when=lambda page: page == "a")
    harness.delay(load, "1h", when=lambda page: page == "b")
    harness.crash(load, at="after_effect", when=lambda page: page == "end")
    run = harness.run(reads)
    assert len(orders) >= 2
    assert [entry.data for entry in run.journal] == [*orders[0], "page end"]
    assert all(order == orders[0] for order in orders), orders


def test_wait_decides_the_same(harness: Harness) -> None:
    """I4: so do `asyncio.wait` and races."""
    winners: list[set[str]] = []

    @task
    async def reads() -> None:
        pages = [asyncio.ensure_future(load(page)) for page in "ab"]
        done, _ = await asyncio.wait(pages, return_when=asyncio.FIRST_COMPLETED)
        winners.append({page.result() for page in done})
        await asyncio.gather(*pages)
        await load("end")

    harness.delay("load#1", "1h")
    harness.crash("load#3", at="after_effect")
    assert harness.run(reads).ok
    assert len(winners) >= 2
    assert all(won == {"page b"} for won in winners)
