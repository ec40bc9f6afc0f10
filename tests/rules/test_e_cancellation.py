"""E2: cancellation."""

import asyncio
import threading
from concurrent.futures import Executor
from datetime import UTC, datetime

import pytest

import flowkit
from flowkit import Flow, Retry, RunCancelled, RunStatus, step, task
from tests.rules.booking import left_in_back_off
from tests.rules.colours import Body, Colour
from tests.rules.conftest import (
    PATIENCE_S,
    Crash,
    FakeClock,
    Store,
    cancel_as_it_waits,
    crash_once,
    eventually,
    is_cancellation,
)


class TestCancellation:
    """E2."""

    def test_a_pending_run_is_cancelled(self, flow: Flow, colour: Colour) -> None:
        """E2: a run that has not begun never does; its result is `RunCancelled`."""
        ran: list[str] = []

        @colour.task
        def body() -> Body[None]:
            yield from ()
            ran.append("body")

        handle = flow.start(body.options(run_id="r"))
        assert handle.cancel()

        with pytest.raises(RunCancelled):
            flow.run(body.options(run_id="r"))
        with pytest.raises(RunCancelled):
            handle.result(timeout=PATIENCE_S)
        assert handle.status() is RunStatus.CANCELLED
        assert ran == []

    def test_a_running_body_sees_it_once(self, flow: Flow, colour: Colour, aside: Executor) -> None:
        """E2: the next operation raises the cancellation, once; handlers and `finally` may call steps."""
        ran: list[str] = []
        begun, go_on = threading.Event(), threading.Event()

        @colour.step
        def effect(name: str) -> str:
            ran.append(name)
            if name == "first":
                begun.set()
                go_on.wait(PATIENCE_S)
            return name

        @colour.task
        def body() -> Body[None]:
            try:
                yield effect("first")
                yield effect("second")
            except Exception:
                ran.append("as an Exception")
                raise
            except colour.cancelled:
                ran.append("cancelled")
                yield effect("handler")
                raise
            finally:
                yield effect("finally")

        running = aside.submit(flow.run, body.options(run_id="r"))
        assert begun.wait(PATIENCE_S)
        assert flow.cancel("r")
        go_on.set()

        assert isinstance(running.exception(PATIENCE_S), RunCancelled)
        assert ran == ["first", "cancelled", "handler", "finally"]
        assert flow.handle("r").status() is RunStatus.CANCELLED
        outcome = flow.handle("r").wait_for_completion(timeout=0)
        assert (outcome.ok, outcome.status) == (False, RunStatus.CANCELLED)
        assert isinstance(outcome.error, RunCancelled)

    def test_an_async_step_is_not_interrupted(self, flow: Flow, aside: Executor) -> None:
        """E2: a step that awaits something when its run is cancelled goes on to its end, and is recorded."""
        ran: list[str] = []
        begun, go_on = threading.Event(), threading.Event()

        @step
        async def effect(name: str) -> None:
            begun.set()
            await asyncio.to_thread(go_on.wait, PATIENCE_S)
            ran.append(name)

        @task
        async def body() -> None:
            await effect("first")
            await effect("second")

        running = aside.submit(flow.run, body.options(run_id="r"))
        assert begun.wait(PATIENCE_S)
        assert flow.cancel("r")
        go_on.set()

        assert isinstance(running.exception(PATIENCE_S), RunCancelled)
        assert ran == ["first"]

    def test_it_is_stored(self, store: Store, colour: Colour) -> None:
        """E2: a cancellation survives the crash of the process that was told of it, and is seen at the same place."""
        ran: list[str] = []
        crashes = [Crash()]

        @colour.step
        def effect(name: str) -> str:
            ran.append(name)
            if name == "first":
                assert store.flow().cancel("r")
            if name == "handler" and crashes:
                raise crashes.pop()
            return name

        @colour.task
        def body() -> Body[None]:
            try:
                yield effect("first")
                yield effect("second")
            except colour.cancelled as error:
                if isinstance(error, Crash):
                    raise
                yield effect("handler")
                raise

        crash_once(store, body)
        with pytest.raises(RunCancelled):
            store.flow().run(body.options(run_id="r"))

        assert ran == ["first", "handler", "handler"]

    @pytest.mark.parametrize("piece", ["sleep", "step's pause", "body's pause"])
    def test_it_wakes_a_waiting_run(self, store: Store, colour: Colour, piece: str) -> None:
        """E2: a run that waits, for a timer or its next attempt, is cancelled at once."""

        def fail() -> None:
            raise OSError("no")

        effect = colour.step(fail)

        @colour.task(retry=Retry(attempts=2, delay=3600, max_delay=3600))
        def body() -> Body[None]:
            if piece == "sleep":
                yield colour.sleep("30d")
            elif piece == "step's pause":
                yield effect()
            else:
                yield from ()
                fail()

        with Flow(store.storage()) as flow:
            cancel_as_it_waits(flow, body)

    def test_it_comes_while_the_run_goes_to_wait(self, store: Store, colour: Colour) -> None:
        """E2: a mark that comes with the answer to the timer's own commit is not taken for one that was heard."""

        class Cancelling(datetime):
            """Cancels the run when it is read, after the last look at the mark and before the timer is set."""

            def timestamp(self) -> float:
                flow.cancel("r")
                return super().timestamp()

        when = Cancelling(2100, 1, 1, tzinfo=UTC)

        @colour.task
        def body() -> Body[str]:
            yield colour.sleep_until(when)
            return "slept"

        with Flow(store.storage()) as flow:
            handle = flow.start(body.options(run_id="r"))
            with pytest.raises(RunCancelled):
                handle.result(timeout=PATIENCE_S)

    def test_it_comes_with_the_commit_of_a_line_beside(self, store: Store) -> None:
        """E2: a line that waits hears of a mark that was found by another line of the run."""

        @step
        def cancel() -> None:
            with Flow(store.storage(), worker=False) as other:
                other.cancel("r")

        @task
        async def body() -> None:
            await flowkit.aio.gather(flowkit.aio.sleep("1h"), cancel.aio())

        with Flow(store.storage()) as flow:
            handle = flow.start(body.options(run_id="r"))
            with pytest.raises(RunCancelled):
                handle.result(timeout=PATIENCE_S)

    def test_a_finished_run_is_not_cancelled(self, flow: Flow, colour: Colour) -> None:
        """E2: cancelling a run that has ended tells so and changes nothing, and so does cancelling twice."""

        @colour.task
        def body() -> Body[str]:
            yield from ()
            return "done"

        flow.run(body.options(run_id="r"))

        assert flow.cancel("r") is False
        assert flow.handle("r").cancel() is False
        assert flow.handle("r").result() == "done"

    def test_an_unknown_run_cannot_be_cancelled(self, flow: Flow) -> None:
        """E2: cancelling a run that nobody knows is `RunNotFound`."""
        with pytest.raises(flowkit.RunNotFound, match="nobody"):
            flow.cancel("nobody")

    def test_children_are_cancelled_first(self, store: Store, colour: Colour) -> None:
        """E2: cancelling a run cancels the child that it waits in, before its own handlers run."""
        ran: list[str] = []

        @colour.task
        def child() -> Body[None]:
            try:
                yield colour.sleep("1h")
            except colour.cancelled as error:
                if isinstance(error, asyncio.CancelledError) or "ancel" in type(error).__name__:
                    ran.append("child")
                raise

        @colour.task
        def parent() -> Body[None]:
            try:
                yield child()
            except colour.cancelled as error:
                if isinstance(error, asyncio.CancelledError) or "ancel" in type(error).__name__:
                    ran.append("parent")
                raise

        with Flow(store.storage()) as flow:
            handle = flow.start(parent)
            eventually(lambda: handle.status() is RunStatus.WAITING)
            ran.clear()  # an async body is unwound by a cancellation too
            handle.cancel()
            with pytest.raises(RunCancelled):
                handle.result(timeout=PATIENCE_S)
            (header,) = flow.runs(task=child).runs

        assert header.status is RunStatus.CANCELLED
        assert [name for name in ran if name == "child"] == ["child"]
        assert ran[-1] == "parent"

    def test_children_hear_of_it_before_the_body(self, store: Store, colour: Colour) -> None:
        """E2: a child that nobody waits for is told to stop before the body of its parent sees the cancellation."""
        told: list[bool] = []

        @colour.step
        def look() -> None:
            header = store.header("r/1")
            told.append(header.cancel or header.status.finished)

        @colour.task
        def child() -> Body[None]:
            yield colour.sleep("1h")

        @colour.task
        def parent() -> Body[None]:
            yield colour.start(child)
            try:
                yield colour.sleep("1h")
            except Exception:
                raise
            except colour.cancelled as error:
                if is_cancellation(error):
                    yield look()
                raise

        with Flow(store.storage()) as flow:
            cancel_as_it_waits(flow, parent)

        assert told == [True]

    def test_a_child_of_the_handler_is_cancelled(self, store: Store, colour: Colour) -> None:
        """E2: a child that a cancelled body has triggered on its way out does not outlive it."""

        @colour.task
        def child() -> Body[None]:
            yield colour.sleep("1h")

        @colour.task
        def parent() -> Body[None]:
            try:
                yield colour.sleep("1h")
            except colour.cancelled as error:
                if is_cancellation(error):
                    yield colour.start(child)
                raise

        with Flow(store.storage()) as flow:
            cancel_as_it_waits(flow, parent)
            eventually(lambda: [header.status for header in flow.runs(task=child)] == [RunStatus.CANCELLED])

    def test_it_comes_while_an_undo_waits(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """E2: while a run compensates a cancellation is ignored, also by an undo that waits for its next attempt."""
        attempts: list[int] = []
        trip = left_in_back_off(store, clock, colour, attempts)

        flow = store.flow(clock=clock)
        flow.cancel("r")
        with pytest.raises(ValueError, match="no"):
            flow.run(trip.options(run_id="r"))

        assert attempts == [1, 2, 3]
        assert store.header("r").status is RunStatus.FAILED
