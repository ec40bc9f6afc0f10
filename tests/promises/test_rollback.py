"""G2-G5: a rollback from its record to its end, the ones that fail and those written by hand included."""

import pytest

from flowkit import CompensationFailed, NonDeterminismError, Retry, RunBlocked, RunRolledBack, RunStatus
from flowkit.entries import Phase
from flowkit_testing import Harness
from tests.promises.trips import Trip
from tests.rules.colours import Body, Colour

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
