"""G1: what is undone when a task is left, in which order, and what its undo gets."""

import asyncio

import pytest

from flowkit import Retry, RunStatus, on_rollback, task, uuid4, work
from flowkit_testing import Harness
from flowkit_testing.faults import AT, At
from tests.promises.trips import Trip
from tests.rules.colours import Body, Colour


def test_an_error_undoes_newest_first(harness: Harness, trip: Trip) -> None:
    """G1: each completed step once, and those without an undo not at all."""

    @trip.colour.step
    def look() -> str:
        return "looked"

    @trip.colour.task
    def travels() -> Body[None]:
        yield trip.book("flight")
        yield look()
        yield trip.book("hotel")
        yield trip.pay()

    harness.fail("pay", error=OSError("no money"))
    run = harness.run(travels)
    assert run.status is RunStatus.FAILED
    assert isinstance(run.error, OSError)
    assert trip.undone == ["hotel", "flight"]
    run.assert_compensated(["book", "book"])


def test_a_cancellation_undoes_too(harness: Harness, trip: Trip) -> None:
    """G1: a task that is cancelled is left as one that failed is."""

    @trip.colour.task
    def travels() -> Body[None]:
        yield trip.book("flight")
        yield trip.book("hotel")
        yield trip.colour.sleep("1d")

    run = harness.start(travels)
    harness.flow.cancel(run.run_id)
    harness.clock.advance(1)
    assert run.status is RunStatus.CANCELLED
    assert trip.undone == ["hotel", "flight"]
    run.assert_compensated(["book", "book"])


def test_the_order_is_that_of_the_record(harness: Harness) -> None:
    """G1: not of the calls: what was completed last is undone first."""
    trip = Trip(Colour(awaits=True))
    book = trip.book

    @task(attempts=1)
    async def travels() -> None:
        await asyncio.gather(book("flight"), book("hotel"), book("car"))
        raise OSError

    harness.delay(book, "2h", when=lambda what: what == "flight")
    harness.delay(book, "1h", when=lambda what: what == "car")
    run = harness.run(travels)
    booked = [entry.data for entry in run.journal if entry.kind == "step"]
    assert booked != ["booked flight", "booked hotel", "booked car"]
    assert [f"booked {what}" for what in trip.undone] == booked[::-1]


def test_the_undo_gets_what_it_needs(harness: Harness, colour: Colour) -> None:
    """G1: the step's result, and its arguments if it takes them, as they are on replay too."""
    undone: list[tuple[object, ...]] = []

    @colour.step
    def book(what: str, seats: int = 1) -> list[str]:
        return [what] * seats

    @book.compensate
    def cancel(booked: list[str], what: str, seats: int) -> None:
        undone.append((booked, what, seats))

    @colour.task(attempts=1)
    def travels() -> Body[None]:
        yield book("flight", seats=2)
        raise OSError

    harness.crash("undo of book", at="before_effect")
    assert not harness.run(travels).ok
    assert undone == [(["flight", "flight"], "flight", 2)]


def test_an_undo_is_a_step_with_retries(harness: Harness, trip: Trip) -> None:
    """G1: it is tried as often as it must, and succeeds once."""

    @trip.colour.task(retry=Retry(attempts=3, delay=0))
    def travels() -> Body[None]:
        yield trip.book("flight")
        yield trip.book("hotel")
        yield trip.pay()

    harness.fail("pay", error=OSError("no money"))
    harness.fail(trip.cancel, error=ConnectionError("no line"), times=2)
    run = harness.run(travels)
    assert isinstance(run.error, OSError)
    assert trip.undone == ["hotel", "flight"]
    assert run.calls("undo of book") == 4


@pytest.mark.parametrize("at", AT)
def test_an_undo_survives_a_crash(harness: Harness, trip: Trip, at: At) -> None:
    """G1: and is done once, unless the process died with its effect unrecorded."""

    @trip.colour.task
    def travels() -> Body[None]:
        yield trip.book("flight")
        yield trip.book("hotel")
        yield trip.pay()

    harness.fail("pay", error=OSError("no money"))
    harness.crash("undo of book", at=at)
    run = harness.run(travels)
    assert isinstance(run.error, OSError)
    assert trip.done == ["flight", "hotel"]
    again = ["hotel"] if at in {"after_effect", "before_commit"} else []
    assert trip.undone == [*again, "hotel", "flight"]
    run.assert_compensated(["book", "book"])
    assert run.calls("pay") == 1


def test_work_in_flight_settles_first(harness: Harness) -> None:
    """G1: what was still under way when the scope was left is undone as well, side work included."""
    trip = Trip(Colour(awaits=True))
    book = trip.book

    @task
    async def travels() -> None:
        work(book, "insurance")
        await asyncio.gather(book("flight"), trip.pay())

    harness.delay(book, "1h", when=lambda what: what == "flight")
    harness.delay(book, "2h", when=lambda what: what == "insurance")
    harness.fail("pay", error=OSError("no money"))
    run = harness.run(travels)
    assert isinstance(run.error, OSError)
    assert trip.undone == ["insurance", "flight"]


def test_a_child_has_an_undo_of_its_own(harness: Harness, colour: Colour) -> None:
    """G1: a completed child is undone if its task declares how; what it did inside stays done otherwise."""
    undone: list[str] = []
    trip = Trip(colour)

    @colour.task
    def with_undo(what: str) -> Body[str]:
        return (yield trip.book(what))

    @with_undo.compensate
    def take_back(result: str) -> None:
        undone.append(result)

    @colour.task
    def without(what: str) -> Body[str]:
        return (yield trip.book(what))

    @colour.task(attempts=1)
    def travels() -> Body[None]:
        yield with_undo("flight")
        yield without("hotel")
        raise OSError

    assert not harness.run(travels).ok
    assert undone == ["booked flight"]
    assert trip.undone == []


def test_an_undo_before_its_action(harness: Harness, trip: Trip) -> None:
    """G1: `on_rollback` registers one for what may happen without being recorded; it gets what it was given."""
    keys: list[str] = []
    charged: list[str] = []

    @trip.colour.step(attempts=1)
    def charge(key: str) -> None:
        charged.append(key)
        raise OSError("no answer")

    @trip.colour.task
    def travels() -> Body[None]:
        key = str(uuid4())
        on_rollback(keys.append, key)
        yield charge(key)

    assert not harness.run(travels).ok
    assert keys == charged
    assert len(keys) == 1
