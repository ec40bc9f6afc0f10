"""R5: steps that take too long."""

import asyncio
import threading

from flowkit import StepTimeout, step, task
from flowkit.entries import Phase
from flowkit_testing import Harness
from tests.promises.steps import AT_ONCE
from tests.rules.colours import Body, Colour


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
