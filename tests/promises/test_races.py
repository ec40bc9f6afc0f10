"""G6: who wins a race stays the winner, and what the losers complete all the same is undone."""

import asyncio
import contextlib
import threading

from flowkit import sequencer, step, task
from flowkit.entries import Kind
from flowkit_testing import Harness


def test_the_loser_of_a_race_is_undone(harness: Harness) -> None:
    """G6: what it completes all the same is recorded, and its undo runs; the winner stays."""
    undone: list[str] = []

    @step
    async def slow(what: str) -> str:
        with contextlib.suppress(asyncio.CancelledError):  # the seller does not hear of it
            await asyncio.sleep(60)
        return f"slow {what}"

    @slow.compensate
    async def cancel(booked: str) -> None:
        undone.append(booked)

    @step
    async def fast(what: str) -> str:
        await asyncio.sleep(1)
        return f"fast {what}"

    @fast.compensate
    async def cancel_fast(booked: str) -> None:
        undone.append(booked)

    run = harness.run(sequencer("first-flight").race([slow, fast]), "flight")
    assert run.output == "fast flight"
    assert undone == ["slow flight"]
    run.assert_compensated(["slow"])
    assert [entry.name for entry in run.journal if entry.kind == "step"] == ["fast", "slow"]
    assert [entry.name for entry in run.journal if entry.kind == Kind.CHOICE] == ["race"]


def test_a_loser_that_dies_with_its_process(harness: Harness) -> None:
    """G6: it begins nothing anew after a crash, and the winner stays: the page of guarantees tells this limit."""

    @step
    async def slow(what: str) -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return f"slow {what}"

    @step
    async def fast(what: str) -> str:
        await asyncio.sleep(1)
        return f"fast {what}"

    @step
    async def end(booked: str) -> str:
        return booked

    harness.crash("end", at="after_effect")
    run = harness.run(sequencer("race-and-die").race([slow, fast]).then(end), "flight")
    assert run.output == "fast flight"
    assert run.calls("end") == 2
    run.assert_skipped("fast")


def test_a_race_at_every_crash(harness: Harness) -> None:
    """G6: the winner is recorded before anyone hears of it, and stays the winner."""

    @step
    async def book(what: str) -> str:
        return what

    @book.compensate
    async def cancel(what: str) -> None:
        pass

    race = sequencer("race-of-two").race([book, book])
    found = harness.explore(race, "flight", budget=120)
    assert found.safe, found.smallest
    assert harness.run(race, "flight").output == "flight"


def test_a_late_completion_is_undone(harness: Harness) -> None:
    """G6: what a call completes after asyncio has cancelled it is recorded, and undone with the rest of its scope."""
    begun, cancelled, undone = threading.Event(), threading.Event(), list[str]()

    @step
    def book(what: str) -> str:
        begun.set()
        cancelled.wait(60)
        return what

    @book.compensate
    def cancel(what: str) -> None:
        undone.append(what)

    @task(attempts=1)
    async def travels() -> None:
        call = asyncio.ensure_future(book.aio("flight"))
        await asyncio.to_thread(begun.wait, 60)
        call.cancel()
        await asyncio.wait({call})
        cancelled.set()
        raise OSError

    harness.crash("undo of book", at="before_effect")
    run = harness.run(travels)
    assert isinstance(run.error, OSError)
    assert undone == ["flight"]
    run.assert_compensated(["book"])


def test_losers_that_heard_of_it_in_time(harness: Harness) -> None:
    """G6: losers that were cancelled in time have no effect, and are not undone."""
    undone: list[str] = []

    @step
    async def quote(seller: str) -> str:
        return seller

    @quote.compensate
    async def forget(seller: str) -> None:
        undone.append(seller)

    @task
    async def travels() -> set[str]:
        asked = [asyncio.ensure_future(quote(seller)) for seller in "abc"]
        done, late = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        for each in late:
            each.cancel()
        return {each.result() for each in done}

    harness.delay(quote, "1h", when=lambda seller: seller != "b")
    run = harness.run(travels)
    assert run.output == {"b"}
    assert undone == []
