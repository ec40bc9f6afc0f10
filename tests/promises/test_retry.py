"""R1, R2: what is tried again, how often, and when."""

import pytest

from flowkit import Retry, RunStatus, task
from flowkit_testing import Harness
from tests.promises.steps import AT_ONCE, SLOWLY, restarts
from tests.promises.tasks import purchase
from tests.rules.colours import Body, Colour

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

    harness.fail("pay", error=OSError("no line"))
    run = harness.run(purchase(colour, retry=policy))
    run.assert_calls(pay=3)
    assert asked == [("no line", 1), ("no line", 2), ("no line", 3)]


@task
def another() -> None:
    """A run whose process dies."""


# ---- R2 -------------------------------------------------------------------------------------------------------------


def test_a_back_off_is_stored(harness: Harness, colour: Colour) -> None:
    """R2: number and time of the next attempt outlive the process; none is lost and none begins anew."""
    shop = purchase(colour, retry=SLOWLY)

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
    shop = purchase(colour, retry=SLOWLY)

    harness.fail("pay", error=OSError("no line"))
    begun_ms = harness.clock.now_ms()
    run = harness.run(shop)
    run.assert_calls(pay=4)
    assert harness.clock.now_ms() - begun_ms == (5 + 10 + 20) * 1000


@pytest.mark.parametrize(("delay_s", "status"), [(60, RunStatus.WAITING), (0.5, RunStatus.SUCCEEDED)])
def test_a_long_back_off_holds_no_slot(harness: Harness, colour: Colour, delay_s: float, status: RunStatus) -> None:
    """R2: over about a second the run is put aside; a short one is waited for in place."""
    shop = purchase(colour, retry=Retry(attempts=2, delay=delay_s, jitter=0))

    harness.fail("pay", error=OSError("no line"), times=1)
    run = harness.start(shop)
    assert run.status is status
    harness.clock.advance("1h")
    assert run.output == "paid"
