"""R3, R4: which failures are final, and which are none."""

import contextlib

import pytest

from flowkit import NonRetryable, Retry, RunBlocked, RunStatus
from flowkit_testing import Harness
from tests.promises.steps import AT_ONCE, SLOWLY, restarts
from tests.promises.tasks import purchase
from tests.rules.colours import Body, Colour

# ---- R3 -------------------------------------------------------------------------------------------------------------


def test_a_final_failure_is_recorded(harness: Harness, colour: Colour) -> None:
    """R3: and raised the same on every replay."""
    seen: list[str] = []

    @colour.step(attempts=2)
    def pay() -> str:
        return "paid"

    @colour.step
    def owe() -> str:
        return "owed"

    @colour.task
    def shop() -> Body[str]:
        try:
            return (yield pay())
        except OSError as error:
            seen.append(repr(error))
            return (yield owe())

    harness.fail("pay", error=OSError(7, "no line"), times=2)
    harness.crash("owe", at="after_effect")
    run = harness.run(shop)
    assert run.output == "owed"
    run.assert_calls(pay=2, owe=2)
    assert len(seen) >= 2
    assert set(seen) == {"OSError(7, 'no line')"}


def test_the_error_of_a_step_starts_nothing_over(harness: Harness, colour: Colour) -> None:
    """R3: once a final failure was delivered to the task, its outcome is final, whatever it raises then."""

    @colour.step(attempts=1)
    def pay() -> str:
        return "paid"

    @colour.task(retry=AT_ONCE)
    def translates() -> Body[None]:
        try:
            yield pay()
        except OSError as error:
            raise LookupError("shop closed") from error

    @colour.task(retry=AT_ONCE)
    def forgets() -> Body[None]:
        with contextlib.suppress(OSError):
            yield pay()
        raise LookupError("shop closed")

    harness.fail("pay", error=OSError("no line"))
    for body in (translates, forgets):
        run = harness.run(body)
        assert isinstance(run.error, LookupError)
        run.assert_calls(pay=1)
        assert restarts(run) == 0


def test_what_is_done_about_an_error_makes_it_final(harness: Harness, colour: Colour) -> None:
    """R3: a durable operation that is called while an error is being handled may have undone something."""

    @colour.step
    def refund() -> None:
        pass

    @colour.task(retry=AT_ONCE)
    def shop() -> Body[None]:
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            yield refund()
            raise

    run = harness.run(shop)
    assert isinstance(run.error, ZeroDivisionError)
    run.assert_calls(refund=1)
    assert restarts(run) == 0


class Declined(NonRetryable):
    """What a user's step says."""


# ---- R4 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "calls"), [(ConnectionResetError("gone"), 3), (LookupError("no"), 1), (Declined("no money"), 1)], ids=repr
)
def test_which_errors_are_tried_again(harness: Harness, colour: Colour, error: Exception, calls: int) -> None:
    """R4: those of `on=`; `NonRetryable` never."""
    shop = purchase(colour, retry=Retry(attempts=3, delay=0, on=(ConnectionError, NonRetryable)))

    harness.fail("pay", error=error)
    run = harness.run(shop)
    assert isinstance(run.error, type(error))
    run.assert_calls(pay=calls)


def test_a_task_is_not_started_over_for_ever(harness: Harness, colour: Colour) -> None:
    """R4: what its own code raises is held against the same rule."""

    @colour.task(retry=AT_ONCE)
    def shop() -> Body[None]:
        yield from ()
        raise Declined("no money")

    run = harness.run(shop)
    assert isinstance(run.error, Declined)
    assert restarts(run) == 0


class Busy(Exception):
    """What a server says that wants to be left alone for a while."""

    retry_after = 90


def test_a_server_says_when(harness: Harness, colour: Colour) -> None:
    """R4: an error's `retry_after`, in seconds, is honoured."""
    harness.fail("pay", error=Busy(), times=1)
    run = harness.start(purchase(colour, retry=SLOWLY))
    harness.clock.advance(89)
    run.assert_calls(pay=1)
    harness.clock.advance(1)
    run.assert_calls(pay=2)
    assert run.output == "paid"


def test_crashes_are_no_attempts(harness: Harness, colour: Colour) -> None:
    """R4: a step of one attempt that took three processes with it has not failed."""
    shop = purchase(colour, of_task={"attempts": 1}, attempts=1)
    for at in ("before_effect", "after_effect", "before_commit"):
        harness.crash("pay", at=at)
    assert harness.run(shop).output == "paid"


def test_a_cancellation_is_no_attempt(harness: Harness, colour: Colour) -> None:
    """R4: a task that is cancelled is not started over."""

    @colour.task(retry=AT_ONCE)
    def shop() -> Body[None]:
        yield colour.sleep("1d")

    run = harness.start(shop)
    harness.flow.cancel(run.run_id)
    harness.clock.advance(1)
    assert run.status is RunStatus.CANCELLED
    assert restarts(run) == 0


def test_a_run_that_kills_its_workers_is_stopped(harness: Harness, colour: Colour) -> None:
    """R4: after twenty crashes in a row without a new entry it is blocked, and says why; a retry takes it up again."""

    @colour.step
    def pay(what: str) -> str:
        return what

    @colour.task
    def shop() -> Body[str]:
        yield pay("bread")
        return (yield pay("milk"))

    for _ in range(19):
        harness.crash("pay#1", at="before_effect")
    for _ in range(20):
        harness.crash("pay#2", at="before_effect")
    run = harness.run(shop)
    assert run.status is RunStatus.BLOCKED
    assert isinstance(run.error, RunBlocked)
    assert "20 times" in str(run.error)
    harness.flow.retry(run.run_id)
    harness.clock.advance(1)
    assert run.output == "milk"
