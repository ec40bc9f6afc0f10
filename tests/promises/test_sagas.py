"""G1-G6: what is undone, in which order, and how often."""

import asyncio
import contextlib
import threading

import pytest

from flowkit import (
    CompensationFailed,
    NonDeterminismError,
    Retry,
    RunBlocked,
    RunRolledBack,
    RunStatus,
    aio,
    on_rollback,
    saga,
    sequencer,
    step,
    task,
    uuid4,
    wait_for_work,
    work,
)
from flowkit.entries import Kind, Phase
from flowkit_testing import Harness
from flowkit_testing.faults import AT, At
from tests.rules.colours import Body, Colour


class Trip:
    """Steps with undos, of one colour, that write down what they do."""

    def __init__(self, colour: Colour) -> None:
        self.colour = colour
        self.done: list[str] = []
        self.undone: list[str] = []

        @colour.step
        def book(what: str) -> str:
            self.done.append(what)
            return f"booked {what}"

        @book.compensate
        def cancel(booked: str) -> None:
            self.undone.append(booked.removeprefix("booked "))

        @colour.step(attempts=1)
        def pay() -> str:
            return "paid"

        self.book, self.cancel, self.pay = book, cancel, pay


@pytest.fixture
def trip(colour: Colour) -> Trip:
    """Steps of a trip."""
    return Trip(colour)


# ---- G1 -------------------------------------------------------------------------------------------------------------


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
    undone: list[str] = []

    @step
    async def book(what: str) -> str:
        return what

    @book.compensate
    async def cancel(what: str) -> None:
        undone.append(what)

    @task(attempts=1)
    async def travels() -> None:
        await asyncio.gather(book("flight"), book("hotel"), book("car"))
        raise OSError

    harness.delay(book, "2h", when=lambda what: what == "flight")
    harness.delay(book, "1h", when=lambda what: what == "car")
    run = harness.run(travels)
    booked = [entry.data for entry in run.journal if entry.kind == "step"]
    assert booked != ["flight", "hotel", "car"]
    assert undone == booked[::-1]


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
    undone: list[str] = []

    @step
    async def book(what: str) -> str:
        return what

    @book.compensate
    async def cancel(what: str) -> None:
        undone.append(what)

    @step(attempts=1)
    async def pay() -> None:
        pass

    @task
    async def travels() -> None:
        work(book, "insurance")
        await asyncio.gather(book("flight"), pay())

    harness.delay(book, "1h", when=lambda what: what == "flight")
    harness.delay(book, "2h", when=lambda what: what == "insurance")
    harness.fail("pay", error=OSError("no money"))
    run = harness.run(travels)
    assert isinstance(run.error, OSError)
    assert undone == ["insurance", "flight"]


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


# ---- G2 -------------------------------------------------------------------------------------------------------------


def test_an_undo_that_fails_for_good(harness: Harness, trip: Trip) -> None:
    """G2: the others run; the run says what is left, a retry runs only that and raises the cause."""

    @trip.colour.task(retry=Retry(attempts=2, delay=0))
    def travels() -> Body[None]:
        for what in ("flight", "hotel", "car"):
            yield trip.book(what)
        yield trip.pay()

    broken = [True]
    harness.fail("pay", error=OSError("no money"))
    harness.fail(
        trip.cancel, error=ConnectionError("hotel closed"), when=lambda what, *_: broken[0] and what == "booked hotel"
    )
    run = harness.run(travels)
    assert trip.undone == ["car", "flight"]
    assert run.status is RunStatus.FAILED
    assert isinstance(run.error, CompensationFailed)
    assert isinstance(run.error, ExceptionGroup)
    cause, *left = run.error.exceptions
    assert isinstance(cause, OSError)
    assert [str(error) for error in left] == ["hotel closed"]

    broken[0] = False
    harness.flow.retry(run.run_id)
    harness.clock.advance(1)
    assert trip.undone == ["car", "flight", "hotel"]
    assert run.status is RunStatus.FAILED
    assert repr(run.error) == repr(OSError("no money"))
    assert trip.done == ["flight", "hotel", "car"]


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


# ---- G3 -------------------------------------------------------------------------------------------------------------


def test_a_rollback_is_recorded_first(harness: Harness, trip: Trip) -> None:
    """G3: with its cause and its list, before the first undo has run."""
    known: list[list[str]] = []

    @trip.colour.step
    def look() -> None:
        pass

    @look.compensate
    def unlook(_result: None) -> None:
        known.append([entry.phase for entry in harness.report("run-1").journal])
        recorded = next(e for e in harness.report("run-1").journal if e.phase == Phase.ROLLBACK)
        assert "no money" in str(recorded.data)

    @trip.colour.task
    def travels() -> Body[None]:
        yield look()
        yield trip.pay()

    harness.fail("pay", error=OSError("no money"))
    assert isinstance(harness.run(travels).error, OSError)
    assert [phases[-1] for phases in known] == [Phase.ROLLBACK]


def test_a_rollback_never_turns_round(harness: Harness, trip: Trip) -> None:
    """G3: after a crash in it nothing goes forward, though the step that failed would succeed by now."""

    @trip.colour.task
    def travels() -> Body[str]:
        yield trip.book("flight")
        yield trip.pay()
        return (yield trip.book("hotel"))

    harness.fail("pay", error=OSError("no money"), times=1)
    harness.crash("undo of book", at="after_effect")
    run = harness.run(travels)
    assert isinstance(run.error, OSError)
    assert run.status is RunStatus.FAILED
    assert trip.done == ["flight"]
    assert run.calls("pay") == 1


def test_a_rollback_at_every_crash(harness: Harness, trip: Trip) -> None:
    """G3: it goes on where it stopped, and undoes nothing twice, wherever the process dies, however often."""

    @trip.colour.task
    def travels() -> Body[None]:
        yield trip.book("flight")
        yield trip.book("hotel")
        yield trip.pay()

    harness.explore(travels, failing=("pay", "undo of book")).assert_safe()


def test_a_rolling_back_body_records_nothing(harness: Harness, trip: Trip) -> None:
    """G3: it is replayed to rebuild its undos only: what it would do anew is not done."""
    released = [False]
    tried: list[str] = []

    @trip.colour.step
    def audit() -> None:
        tried.append("audit")

    @trip.colour.task
    def travels() -> Body[None]:
        yield trip.book("flight")
        try:
            yield trip.pay()
        finally:
            if released[0]:
                tried.append("called")
                yield audit()

    def release(_booked: str) -> bool:
        released[0] = True
        return True

    harness.fail("pay", error=OSError("no money"))
    harness.crash("undo of book", at="before_effect", when=release)
    run = harness.run(travels)
    assert isinstance(run.error, OSError)
    assert "audit" not in tried
    assert trip.undone == ["flight"]
    assert "audit" not in {entry.name for entry in run.journal}


def test_an_undo_that_cannot_be_rebuilt(harness: Harness, trip: Trip) -> None:
    """G3: it blocks the run, and a release that knows it again finishes."""
    released = [False]

    @trip.colour.task
    def travels() -> Body[None]:
        if not released[0]:
            yield trip.book.options(key="there")("flight")
        yield trip.pay()

    def release(_booked: str) -> bool:
        released[0] = not trip.undone
        return True

    harness.fail("pay", error=OSError("no money"))
    harness.crash("undo of book", at="before_effect", when=release)
    run = harness.run(travels)
    assert run.status is RunStatus.BLOCKED
    assert isinstance(run.error, RunBlocked)
    assert not isinstance(run.error, NonDeterminismError)
    assert "=there" in str(run.error)
    assert trip.undone == []

    released[0] = False
    harness.flow.retry(run.run_id)
    harness.clock.advance(1)
    assert isinstance(run.error, OSError)
    assert trip.undone == ["flight"]
    assert trip.done == ["flight"]


# ---- G4 -------------------------------------------------------------------------------------------------------------


def test_compensation_by_hand(harness: Harness, colour: Colour) -> None:
    """G4: steps in the `except` block are durable; the run fails with the original error and is not started over."""

    @colour.step
    def book(what: str) -> str:
        return what

    @colour.step(attempts=1)
    def pay() -> str:
        return "paid"

    @colour.step
    def refund(what: str) -> str:
        return what

    @colour.task(retry=Retry(attempts=3, delay=0))
    def travels() -> Body[None]:
        flight = yield book("flight")
        try:
            yield pay()
        except OSError:
            yield refund(flight)
            yield refund("hotel")
            raise

    harness.fail("pay", error=OSError("no money"))
    harness.crash("refund#2", at="after_effect")
    run = harness.run(travels)
    assert run.status is RunStatus.FAILED
    assert type(run.error) is OSError
    run.assert_calls(("book", 1), ("pay", 1), ("refund#1", 1), ("refund#2", 2))
    assert not [entry for entry in run.journal if entry.phase == Phase.ATTEMPT]
    with pytest.raises(RunRolledBack):
        harness.flow.retry(run.run_id)


# ---- G5 -------------------------------------------------------------------------------------------------------------


def test_what_was_undone_is_not_retried(harness: Harness, trip: Trip) -> None:
    """G5: but forked: afresh, from the same arguments, with no result of an undone step."""

    @trip.colour.task
    def travels(to: str) -> Body[str]:
        booked = yield trip.book(to)
        yield trip.pay()
        return booked

    harness.fail("pay", error=OSError("no money"), times=1)
    run = harness.run(travels, "Rome")
    assert trip.undone == ["Rome"]
    with pytest.raises(RunRolledBack):
        harness.flow.retry(run.run_id)
    with pytest.raises(RunRolledBack):
        harness.flow.fork(run.run_id, from_step="pay")
    assert run.status is RunStatus.FAILED

    fork = harness.report(harness.flow.fork(run.run_id).id)
    harness.clock.advance(1)
    assert fork.output == "booked Rome"
    assert trip.done == ["Rome", "Rome"]
    fork.assert_calls(book=1, pay=1)


# ---- G6 -------------------------------------------------------------------------------------------------------------


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
