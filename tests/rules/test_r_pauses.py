"""R2 and R5: pauses between attempts, and how long one may take."""

import asyncio
import threading
from datetime import timedelta

import pytest

from flowkit import (
    Flow,
    Retry,
    RunStatus,
    StepTimeout,
    current_run,
    step,
    task,
)
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, Crash, FakeClock, Store, at_once, crash_once, eventually


class TestBackOff:
    """R2."""

    def test_the_pauses_are_those_of_the_policy(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """R2: the pauses grow as the policy says, up to its limit, and none follows the last attempt."""

        @colour.step(retry=Retry(attempts=5, delay=0.2, backoff=3, max_delay=0.9, jitter=0))
        def effect() -> None:
            raise OSError("no")

        @colour.task
        def body() -> Body[None]:
            yield effect()

        with pytest.raises(OSError, match="no"):
            store.flow(clock=clock).run(body)

        assert clock.slept == pytest.approx([0.2, 0.6, 0.9, 0.9], abs=0.002)

    def test_jitter_varies_the_pauses(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """R2: with jitter the pauses vary by no more than the given fraction."""

        @colour.step(retry=Retry(attempts=20, delay=0.5, backoff=1, jitter=0.2))
        def effect() -> None:
            raise OSError("no")

        @colour.task
        def body() -> Body[None]:
            yield effect()

        with pytest.raises(OSError, match="no"):
            store.flow(clock=clock).run(body)

        assert len(set(clock.slept)) > 1
        assert all(0.399 <= seconds <= 0.601 for seconds in clock.slept)

    @pytest.mark.parametrize("delay", [0.5, 3600.0])
    @pytest.mark.parametrize("piece", ["step", "body"])
    def test_a_crash_neither_loses_nor_resets_them(
        self, store: Store, clock: FakeClock, colour: Colour, delay: float, piece: str
    ) -> None:
        """R2: a process that dies in a pause leaves the count and the time of the next attempt to the next one."""
        ran: list[float] = []

        def fail() -> None:
            ran.append(clock.ms / 1000)
            raise OSError(f"attempt {len(ran)}")

        @colour.step
        def effect() -> None:
            fail()

        @colour.task(retry=Retry(attempts=3, delay=delay, max_delay=delay, jitter=0))
        def body() -> Body[None]:
            if piece == "step":
                yield effect()
            else:
                yield from ()
                fail()

        def die(_seconds: float) -> None:
            raise Crash

        start = clock.ms / 1000
        clock.on_sleep = die
        for _ in range(2):  # it dies in the same pause twice
            flow = store.flow(clock=clock)
            with pytest.raises(Crash):
                flow.run(body.options(run_id="r"))
            flow.close()
            clock.advance(seconds=delay / 4)
        clock.on_sleep = None
        with pytest.raises(OSError, match="attempt 3"):
            store.flow(clock=clock).run(body.options(run_id="r"))

        assert [moment - start for moment in ran] == pytest.approx([0, delay, 2 * delay], abs=0.002)

    def test_a_crash_before_the_last_attempt(self, store: Store, colour: Colour) -> None:
        """R2: attempts that failed before a crash count after it."""
        ran: list[str] = []
        crashes = [Crash()]

        @colour.step(retry=at_once(3))
        def effect() -> None:
            ran.append("effect")
            if len(ran) == 3:
                raise crashes.pop()
            raise OSError("no")

        @colour.task
        def body() -> Body[None]:
            yield effect()

        crash_once(store, body)
        with pytest.raises(OSError, match="no"):
            store.flow().run(body.options(run_id="r"))

        assert len(ran) == 4  # the third attempt was in flight, and runs again

    @pytest.mark.parametrize("piece", ["step", "body"])
    def test_a_long_pause_gives_the_slot_back(self, store: Store, colour: Colour, piece: str) -> None:
        """R2: while a run pauses for long, it waits without the only slot, which another run takes."""
        ran: list[str] = []

        def fail() -> None:
            ran.append("fail")
            raise OSError("no")

        @colour.step
        def effect() -> None:
            fail()

        @colour.task(retry=Retry(attempts=2, delay=3600, max_delay=3600))
        def pausing() -> Body[None]:
            if piece == "step":
                yield effect()
            else:
                yield from ()
                fail()

        @colour.task
        def other() -> Body[str]:
            yield from ()
            return "done"

        flow = Flow(store.storage(), concurrency=1)
        with flow:
            handle = flow.start(pausing)
            eventually(lambda: handle.status() is RunStatus.WAITING)
            assert flow.start(other).result(timeout=PATIENCE_S) == "done"
            assert handle.status() is RunStatus.WAITING

        assert ran == ["fail"]


class TestTimeouts:
    """R5."""

    def test_an_async_step_is_cancelled(self, flow: Flow) -> None:
        """R5: a timeout cancels an async step, whose `finally` runs, and raises `StepTimeout`."""
        ran: list[str] = []

        @step(timeout=0.01, attempts=1)
        async def effect() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ran.append("cancelled")
                raise
            finally:
                ran.append("finally")

        @task
        async def body() -> str:
            try:
                await effect()
            except TimeoutError as error:
                return type(error).__name__
            return "no timeout"

        assert flow.run(body) == "StepTimeout"
        assert ran == ["cancelled", "finally"]

    def test_a_sync_step_is_abandoned(self, store: Store, flow: Flow) -> None:
        """R5: a timed sync step runs in a daemon thread; after the timeout its late result is discarded."""
        go_on = threading.Event()
        late = threading.Event()
        daemons: list[bool] = []

        @step(timeout=0.01, attempts=1)
        def effect() -> str:
            daemons.append(threading.current_thread().daemon)
            go_on.wait(PATIENCE_S)
            late.set()
            return "late"

        @task
        def body() -> str:
            try:
                return effect()
            except StepTimeout:
                return "in time"

        assert flow.run(body.options(run_id="r")) == "in time"
        before = store.header("r")
        go_on.set()
        assert late.wait(PATIENCE_S)

        assert daemons == [True]
        assert store.header("r") == before
        assert flow.run(body.options(run_id="r")) == "in time"

    def test_a_timeout_is_a_failed_attempt(self, flow: Flow) -> None:
        """R5: each attempt has the whole timeout, and a step may succeed after one that ran into it."""
        ran: list[str] = []

        @step(timeout=0.01, retry=at_once(3))
        async def effect() -> str:
            ran.append("effect")
            if len(ran) < 3:
                await asyncio.Event().wait()
            return "done"

        @task
        async def body() -> str:
            return await effect()

        assert flow.run(body) == "done"
        assert len(ran) == 3

    def test_a_step_in_time_is_not_disturbed(self, flow: Flow, colour: Colour) -> None:
        """R5: a timeout that is not reached changes nothing, in whatever form it is given."""

        @colour.step(timeout="1h")
        def effect() -> str:
            return current_run().id

        @colour.task
        def body() -> Body[set[str]]:
            results = {(yield effect())}
            for timeout in ("1h30m", 3600, timedelta(hours=1)):
                results.add((yield effect.options(timeout=timeout)()))
            return results

        assert flow.run(body.options(run_id="r")) == {"r"}

    def test_a_timeout_error_of_the_step_is_its_own(self, flow: Flow, colour: Colour) -> None:
        """R5: a `TimeoutError` that the step raises itself is not taken for flowkit's."""

        @colour.step(timeout="1h", attempts=1)
        def effect() -> None:
            raise TimeoutError("mine")

        @colour.task
        def body() -> Body[None]:
            yield effect()

        with pytest.raises(TimeoutError, match="mine") as caught:
            flow.run(body)
        assert type(caught.value) is TimeoutError

    def test_a_task_has_a_timeout_too(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """R5: a task that takes longer than its timeout fails with `StepTimeout`, which is a `TimeoutError`."""
        ran: list[str] = []

        @colour.step
        def effect() -> None:
            ran.append("effect")
            clock.advance(minutes=40)

        @colour.task(timeout="1h", attempts=3)
        def body() -> Body[None]:
            for _ in range(10):
                yield effect()

        flow = store.flow(clock=clock)
        with pytest.raises(TimeoutError):
            flow.run(body.options(run_id="r"))

        assert len(ran) == 2
        assert flow.handle("r").status() is RunStatus.FAILED
