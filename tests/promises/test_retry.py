"""R1-R5: how often what is tried, and when it is over."""

import asyncio
import contextlib
import threading
from typing import Any

import pytest

from flowkit import NonRetryable, Retry, RunBlocked, RunStatus, StepTimeout, step, task
from flowkit.entries import Kind, Phase
from flowkit_testing import Harness, RunReport
from tests.rules.colours import Body, Colour

AT_ONCE = Retry(attempts=3, delay=0, jitter=0)
SLOWLY = Retry(attempts=4, delay=5, backoff=2, jitter=0)


def restarts(run: RunReport[Any]) -> int:
    """How often the task itself was started over after an error of its code."""
    return sum(1 for entry in run.journal if entry.kind == Kind.RUN and entry.phase == Phase.ATTEMPT)


# ---- R1 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("failures", "ok"), [(0, True), (3, True), (4, False)])
def test_a_step_is_tried_in_place(harness: Harness, colour: Colour, failures: int, *, ok: bool) -> None:
    """R1: its error reaches the code of the task only when its attempts are used up."""
    seen: list[str] = []

    @colour.step(attempts=4)
    def pay() -> str:
        return "paid"

    @colour.task
    def shop() -> Body[str]:
        try:
            return (yield pay())
        except OSError as error:
            seen.append(str(error))
            raise

    if failures:
        harness.fail("pay", error=OSError("no line"), times=failures)
    run = harness.run(shop)
    assert run.ok is ok
    run.assert_calls(pay=min(failures + 1, 4))
    assert set(seen) == (set() if ok else {"no line"})


@pytest.mark.parametrize(
    ("options", "calls"), [({}, 3), ({"attempts": 1}, 1), ({"retry": Retry(attempts=5, delay=0)}, 5)], ids=str
)
def test_a_step_takes_the_policy_of_its_task(
    harness: Harness, colour: Colour, options: dict[str, object], calls: int
) -> None:
    """R1: unless it has one of its own; the attempts of both do not multiply."""

    @colour.step
    def pay() -> str:
        return "paid"

    @colour.step(attempts=2)
    def pack() -> str:
        return "packed"

    @colour.task(**options)
    def shop() -> Body[None]:
        try:
            yield pack()
        except OSError:
            yield pay()

    harness.fail("pay", error=OSError("no line"))
    harness.fail("pack", error=OSError("no paper"))
    run = harness.run(shop)
    assert isinstance(run.error, OSError)
    run.assert_calls(pack=2, pay=calls)
    assert restarts(run) == 0


def test_the_code_between_is_a_piece_too(harness: Harness, colour: Colour) -> None:
    """R1: if it raises, the task starts over, as often as its policy says, with completed steps skipped."""

    @colour.step
    def pay() -> str:
        return "paid"

    @colour.task(retry=AT_ONCE)
    def shop() -> Body[None]:
        yield pay()
        raise ZeroDivisionError

    run = harness.run(shop)
    assert isinstance(run.error, ZeroDivisionError)
    run.assert_calls(pay=1)
    assert restarts(run) == 2


def test_a_policy_may_be_a_function(harness: Harness, colour: Colour) -> None:
    """R1: of the error and the number of failed attempts; None gives up."""
    asked: list[tuple[str, int]] = []

    def policy(error: BaseException, attempt: int) -> float | None:
        asked.append((str(error), attempt))
        return 2.0 if attempt < 3 else None

    @colour.step(retry=policy)
    def pay() -> str:
        return "paid"

    @colour.task
    def shop() -> Body[None]:
        yield pay()

    harness.fail("pay", error=OSError("no line"))
    run = harness.run(shop)
    run.assert_calls(pay=3)
    assert asked == [("no line", 1), ("no line", 2), ("no line", 3)]


# ---- R2 -------------------------------------------------------------------------------------------------------------


@task
def another() -> None:
    """A run whose process dies."""


def test_a_back_off_is_stored(harness: Harness, colour: Colour) -> None:
    """R2: number and time of the next attempt outlive the process; none is lost and none begins anew."""

    @colour.step(retry=SLOWLY)
    def pay() -> str:
        return "paid"

    @colour.task
    def shop() -> Body[str]:
        return (yield pay())

    harness.fail("pay", error=OSError("no line"), times=3)
    run = harness.start(shop)
    for wait_s, calls in [(5, 2), (10, 3), (20, 4)]:
        harness.clock.advance(wait_s / 2)
        run.assert_calls(pay=calls - 1)
        harness.crash(another, at="before_commit")
        harness.start(another)
        harness.clock.advance(wait_s / 2 - 1)
        run.assert_calls(pay=calls - 1)
        harness.clock.advance(1)
        run.assert_calls(pay=calls)
    assert run.output == "paid"
    harness.clock.advance("1m")


def test_crashes_at_every_point_of_a_retry(harness: Harness, colour: Colour) -> None:
    """R2: attempts that failed count once, wherever the process dies."""

    @colour.step(retry=Retry(attempts=3, delay=0.5, jitter=0))
    def pay() -> str:
        return "paid"

    @colour.step(retry=Retry(attempts=2, delay=60, jitter=0))
    def pack() -> str:
        return "packed"

    @colour.task
    def shop() -> Body[list[str]]:
        return [(yield pay()), (yield pack())]

    harness.fail("pay", error=OSError("no line"), times=2)
    harness.fail("pack", error=OSError("no paper"), times=1)
    found = harness.explore(shop)
    assert found.safe, found.smallest
    assert harness.run(shop).ok


def test_no_wait_after_the_last_attempt(harness: Harness, colour: Colour) -> None:
    """R2: the run fails as soon as it knows."""

    @colour.step(retry=SLOWLY)
    def pay() -> str:
        return "paid"

    @colour.task
    def shop() -> Body[str]:
        return (yield pay())

    harness.fail("pay", error=OSError("no line"))
    begun_ms = harness.clock.now_ms()
    run = harness.run(shop)
    run.assert_calls(pay=4)
    assert harness.clock.now_ms() - begun_ms == (5 + 10 + 20) * 1000


@pytest.mark.parametrize(("delay_s", "status"), [(60, RunStatus.WAITING), (0.5, RunStatus.SUCCEEDED)])
def test_a_long_back_off_holds_no_slot(harness: Harness, colour: Colour, delay_s: float, status: RunStatus) -> None:
    """R2: over about a second the run is put aside; a short one is waited for in place."""

    @colour.step(retry=Retry(attempts=2, delay=delay_s, jitter=0))
    def pay() -> str:
        return "paid"

    @colour.task
    def shop() -> Body[str]:
        return (yield pay())

    harness.fail("pay", error=OSError("no line"), times=1)
    run = harness.start(shop)
    assert run.status is status
    harness.clock.advance("1h")
    assert run.output == "paid"


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


# ---- R4 -------------------------------------------------------------------------------------------------------------


class Declined(NonRetryable):
    """What a user's step says."""


@pytest.mark.parametrize(
    ("error", "calls"), [(ConnectionResetError("gone"), 3), (LookupError("no"), 1), (Declined("no money"), 1)], ids=repr
)
def test_which_errors_are_tried_again(harness: Harness, colour: Colour, error: Exception, calls: int) -> None:
    """R4: those of `on=`; `NonRetryable` never."""

    @colour.step(retry=Retry(attempts=3, delay=0, on=(ConnectionError, NonRetryable)))
    def pay() -> str:
        return "paid"

    @colour.task
    def shop() -> Body[str]:
        return (yield pay())

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

    @colour.step(retry=SLOWLY)
    def pay() -> str:
        return "paid"

    @colour.task
    def shop() -> Body[str]:
        return (yield pay())

    harness.fail("pay", error=Busy(), times=1)
    run = harness.start(shop)
    harness.clock.advance(89)
    run.assert_calls(pay=1)
    harness.clock.advance(1)
    run.assert_calls(pay=2)
    assert run.output == "paid"


def test_crashes_are_no_attempts(harness: Harness, colour: Colour) -> None:
    """R4: a step of one attempt that took three processes with it has not failed."""

    @colour.step(attempts=1)
    def pay() -> str:
        return "paid"

    @colour.task(attempts=1)
    def shop() -> Body[str]:
        return (yield pay())

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


# ---- R5 -------------------------------------------------------------------------------------------------------------


def test_a_timeout_is_an_attempt(harness: Harness, colour: Colour) -> None:
    """R5: that failed with `StepTimeout`, which is a `TimeoutError`."""

    @colour.step(retry=AT_ONCE, timeout=10)
    def pay() -> str:
        return "paid"

    @colour.task
    def shop() -> Body[str]:
        return (yield pay())

    harness.timeout("pay", times=2)
    begun_ms = harness.clock.now_ms()
    run = harness.run(shop)
    assert run.output == "paid"
    run.assert_calls(pay=3)
    assert harness.clock.now_ms() - begun_ms == 20_000
    harness.timeout("pay")
    assert isinstance(harness.run(shop).error, StepTimeout)
    assert issubclass(StepTimeout, TimeoutError)


def test_a_timeout_cancels_an_async_step(harness: Harness) -> None:
    """R5: its body sees the cancellation, and no more of it runs."""
    seen: list[str] = []

    @step(attempts=1, timeout=10)
    async def pay() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        seen.append("paid after all")
        return "paid"

    @task
    async def shop() -> str:
        return await pay()

    begun_ms = harness.clock.now_ms()
    run = harness.run(shop)
    assert isinstance(run.error, StepTimeout)
    assert seen == ["cancelled"]
    assert harness.clock.now_ms() - begun_ms == 10_000


def test_a_sync_step_is_abandoned(harness: Harness) -> None:
    """R5: its thread goes on, and what it returns too late is discarded."""
    release, returned = threading.Event(), threading.Event()
    daemons: list[bool] = []

    @step(attempts=1, timeout=0.01)
    def pay() -> str:
        daemons.append(threading.current_thread().daemon)
        release.wait(60)
        returned.set()
        return "paid after all"

    @step
    def owe() -> str:
        release.set()
        returned.wait(60)
        return "owed"

    @task
    def shop() -> str:
        try:
            return pay()
        except StepTimeout:
            return owe()

    harness.crash("owe", at="after_effect")
    run = harness.run(shop)
    assert run.output == "owed"
    assert daemons == [True]
    assert [entry.phase for entry in run.journal if entry.name == "pay"] == [Phase.FAILED]
