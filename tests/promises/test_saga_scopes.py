"""G1, G2: a `saga` scope inside a task: what it undoes, what it hands on, and what is left of it."""

from flowkit import CompensationFailed, aio, saga, task, wait_for_work, work
from flowkit_testing import Harness
from tests.promises.trips import Trip
from tests.rules.colours import Colour


def test_a_scope_that_fails_is_undone_at_once(harness: Harness, trip: Trip) -> None:
    """G1: what stands before it stays, and the task may go on."""

    @task
    def plainly() -> str:
        trip.book("flight")
        try:
            with saga("stay"):
                trip.book("hotel")
                trip.book("car")
                trip.pay()
        except OSError:
            return str(trip.book("tent"))
        return "paid"

    @task
    async def awaiting() -> str:
        await trip.book("flight")
        try:
            async with saga("stay"):
                await trip.book("hotel")
                await trip.book("car")
                await trip.pay()
        except OSError:
            return str(await trip.book("tent"))
        return "paid"

    harness.fail("pay", error=OSError("no money"))
    harness.crash("book#4", at="after_effect")
    run = harness.run(awaiting if trip.colour.awaits else plainly)
    assert run.output == "booked tent"
    assert trip.undone == ["car", "hotel"]
    assert trip.done == ["flight", "hotel", "car", "tent", "tent"]


def test_a_scope_that_succeeds_hands_its_undos_on(harness: Harness, trip: Trip) -> None:
    """G1: to the scope around it, and that to the task."""

    @task
    def plainly() -> None:
        with saga("all"):
            trip.book("flight")
            with saga("stay"):
                trip.book("hotel")
            trip.book("car")
        trip.pay()

    @task
    async def awaiting() -> None:
        async with saga("all"):
            await trip.book("flight")
            async with saga("stay"):
                await trip.book("hotel")
            await trip.book("car")
        await trip.pay()

    harness.fail("pay", error=OSError("no money"))
    assert not harness.run(awaiting if trip.colour.awaits else plainly).ok
    assert trip.undone == ["car", "hotel", "flight"]


def test_side_work_of_a_scope_settles_in_it(harness: Harness, colour: Colour) -> None:
    """G1: a scope that fails undoes the side work that was queued in it; the order is that of the record."""
    trip = Trip(colour)

    @task(attempts=1)
    def plainly() -> str:
        work(trip.book, "outside")
        try:
            with saga("stay"):
                work(trip.book, "inside")
                trip.book("hotel")
                raise OSError
        except OSError:
            wait_for_work()
            return "stayed"

    @task(attempts=1)
    async def awaiting() -> str:
        work(trip.book, "outside")
        try:
            async with saga("stay"):
                work(trip.book, "inside")
                await trip.book("hotel")
                raise OSError
        except OSError:
            await aio.wait_for_work()
            return "stayed"

    harness.delay("book", "1h", when=lambda what: what == "inside")
    run = harness.run(awaiting if colour.awaits else plainly)
    assert run.output == "stayed"
    assert sorted(trip.undone) == ["hotel", "inside"]
    booked = [entry.data for entry in run.journal if entry.kind == "step" and entry.data != "booked outside"]
    assert [f"booked {what}" for what in trip.undone] == booked[::-1]


def test_what_is_left_of_a_scope(harness: Harness, trip: Trip) -> None:
    """G2: a retry takes up what a scope inside the task could not undo, and raises what it was left by."""
    broken = [True]

    @task
    def plainly() -> None:
        trip.book("flight")
        with saga("stay"):
            trip.book("hotel")
            trip.pay()

    @task
    async def awaiting() -> None:
        await trip.book("flight")
        async with saga("stay"):
            await trip.book("hotel")
            await trip.pay()

    harness.fail("pay", error=OSError("no money"))
    harness.fail(trip.cancel, error=ConnectionError("closed"), when=lambda booked: broken[0] and "hotel" in booked)
    run = harness.run(awaiting if trip.colour.awaits else plainly)
    assert isinstance(run.error, CompensationFailed)
    assert trip.undone == ["flight"]
    broken[0] = False
    harness.flow.retry(run.run_id)
    harness.clock.advance(1)
    assert trip.undone == ["flight", "hotel"]
    assert repr(run.error) == repr(OSError("no money"))
