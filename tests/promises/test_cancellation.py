"""E2: what a cancellation reaches, and what it does not interrupt."""

import pytest

from flowkit import Retry, RunCancelled, RunStatus
from flowkit.entries import Phase
from flowkit_testing import Harness
from tests.rules.colours import Body, Colour


def test_a_cancellation_is_raised_once(harness: Harness, colour: Colour) -> None:
    """E2: as a `BaseException` where the body waits; handlers and `finally` may do durable things, crashes or not."""
    seen: list[str] = []

    @colour.step
    def tidy(what: str) -> str:
        return what

    @colour.task
    def waits() -> Body[None]:
        try:
            yield colour.sleep("30d")
        except Exception:  # noqa: BLE001  # what users write
            seen.append("exception")
        except colour.cancelled as error:
            if (yield tidy("handler")) == "handler":
                seen.append(type(error).__name__)
            raise
        finally:
            yield tidy("finally")

    run = harness.start(waits)
    assert harness.flow.cancel(run.run_id)
    harness.crash("tidy#2", at="after_effect")
    harness.clock.advance("1h")
    assert run.status is RunStatus.CANCELLED
    assert "exception" not in seen
    assert len(set(seen)) == 1
    assert seen[0] == "CancelledError" if colour.awaits else "Cancel" in seen[0]
    assert [entry.data for entry in run.journal if entry.name == "tidy"] == ["handler", "finally"]
    assert [entry.name for entry in run.journal if entry.phase == Phase.CANCELLED and entry.name == "sleep"] == [
        "sleep"
    ]
    with pytest.raises(RunCancelled):
        harness.flow.handle(run.run_id).result(timeout=1)


@pytest.mark.parametrize("waits_for", ["timer", "event", "child"])
def test_it_always_wakes(harness: Harness, colour: Colour, waits_for: str) -> None:
    """E2: whatever the run waits for, at once; children are cancelled with it."""

    @colour.task
    def child() -> Body[None]:
        yield colour.sleep("30d")

    @colour.task
    def waits() -> Body[None]:
        if waits_for == "timer":
            yield colour.sleep("30d")
        elif waits_for == "event":
            yield colour.wait_for_event("never")
        else:
            handle = yield colour.start(child)
            yield colour.form(handle).result()

    begun_ms = harness.clock.now_ms()
    run = harness.start(waits)
    assert run.status is RunStatus.WAITING
    harness.flow.cancel(run.run_id)
    harness.clock.advance("1m")
    assert isinstance(run.error, RunCancelled)
    assert {header.status for header in harness.flow.runs()} == {RunStatus.CANCELLED}
    assert harness.clock.now_ms() - begun_ms == 60_000


def test_a_step_in_flight_is_not_interrupted(harness: Harness, colour: Colour) -> None:
    """E2: it is recorded, and the next durable call raises; the cancellation outlives the process."""

    @colour.step
    def pay() -> str:
        harness.flow.cancel("run-1")
        return "paid"

    @colour.step
    def ship() -> str:
        return "shipped"

    @colour.task
    def shop() -> Body[None]:
        yield pay()
        yield ship()

    harness.crash("pay", at="after_commit")
    run = harness.run(shop)
    assert run.status is RunStatus.CANCELLED
    run.assert_calls(pay=1, ship=0)
    assert [entry.data for entry in run.journal if entry.name == "pay"] == ["paid"]


def test_children_are_cancelled_first(harness: Harness, colour: Colour) -> None:
    """E2: whoever handles the cancellation of a run may wait for its children to have ended."""
    seen: list[str] = []

    @colour.task
    def child() -> Body[None]:
        yield colour.sleep("30d")

    @colour.task
    def parent() -> Body[None]:
        handle = yield colour.start(child)
        try:
            yield colour.sleep("30d")
        finally:
            seen.append((yield colour.form(handle).wait_for_completion()).status)

    run = harness.start(parent)
    harness.flow.cancel(run.run_id)
    harness.clock.advance("1m")
    assert run.status is RunStatus.CANCELLED
    assert set(seen) == {RunStatus.CANCELLED}


def test_it_is_ignored_while_an_undo_waits(harness: Harness, colour: Colour) -> None:
    """E2: an undo that is to be tried again is, though the run has been cancelled meanwhile."""
    tried: list[str] = []

    @colour.step(retry=Retry(attempts=3, delay=60, jitter=0))
    def book(what: str) -> str:
        return what

    @book.compensate
    def cancel(what: str) -> None:
        tried.append(what)
        if len(tried) == 1:
            harness.flow.cancel("run-1")
            raise ConnectionError("no line")

    @colour.step(attempts=1)
    def pay() -> None:
        pass

    @colour.task
    def travels() -> Body[None]:
        yield book("flight")
        yield pay()

    harness.fail("pay", error=OSError("no money"))
    run = harness.run(travels)
    assert isinstance(run.error, OSError)
    assert tried == ["flight", "flight"]
    run.assert_compensated(["book"])


def test_it_is_ignored_while_compensating(harness: Harness, colour: Colour) -> None:
    """E2: a rollback goes to its end, and the run ends as it would have."""
    undone: list[str] = []

    @colour.step
    def book(what: str) -> str:
        return what

    @book.compensate
    def cancel(what: str) -> None:
        if not undone:
            harness.flow.cancel("run-1")
        undone.append(what)

    @colour.task(attempts=1)
    def travels() -> Body[None]:
        yield book("flight")
        yield book("hotel")
        raise OSError("no money")

    run = harness.run(travels)
    assert run.status is RunStatus.FAILED
    assert isinstance(run.error, OSError)
    assert undone == ["hotel", "flight"]


def test_cancelled_at_every_point(harness: Harness, colour: Colour) -> None:
    """E2: wherever the cancellation comes, and whatever crashes besides."""

    @colour.step
    def book(what: str) -> str:
        return what

    @book.compensate
    def cancel(what: str) -> None:
        """The undo."""

    @colour.task
    def travels() -> Body[str]:
        yield book("flight")
        yield colour.sleep("1d")
        return (yield book("hotel"))

    harness.explore(travels, faults=("cancel",)).assert_safe()
