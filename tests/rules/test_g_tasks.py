"""G1, G5: what a task has completed is undone when it fails or is cancelled; and what comes after that."""

import asyncio
import contextlib
import threading
from typing import Any

import pytest

import flowkit
from flowkit import Flow, RunCancelled, RunRolledBack, RunStatus, task
from flowkit.entries import decode
from tests.rules.booking import Undone, booking, flown, trip_of
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, Crash, Store, at_once, crash_once, eventually


def _names(flow: Flow) -> list[str]:
    return [decode(flow.engine.codec, raw).name for raw in flow.engine.load("r").entries]


class TestTheTask:
    """G1: the whole task is left by an error or a cancellation."""

    def test_newest_first_once_each(self, flow: Flow, colour: Colour) -> None:
        """G1: the undos of the completed steps run in reverse, once each, with result and arguments; then the error."""
        undone: Undone = []
        trip = trip_of(colour, booking(colour, undone), "car", "flight", "hotel")

        with pytest.raises(ValueError, match="no"):
            flow.run(trip.options(run_id="r"))

        assert undone == [("booked hotel", "hotel"), ("booked flight", "flight"), ("booked car", "car")]
        assert flow.handle("r").status() is RunStatus.FAILED

    def test_a_step_that_failed_is_not_undone(self, flow: Flow, colour: Colour) -> None:
        """G1: only what was completed is undone."""
        undone: Undone = []
        book = booking(colour, undone)

        @colour.step(retry=at_once(1))
        def broken() -> None:
            raise OSError("broken")

        @broken.compensate
        def never() -> None:
            undone.append(("", "never"))

        @colour.task
        def trip() -> Body[None]:
            yield book("flight")
            yield broken()

        with pytest.raises(OSError, match="broken"):
            flow.run(trip)

        assert flown(undone) == ["flight"]

    def test_a_success_undoes_nothing(self, flow: Flow, colour: Colour) -> None:
        """G1: a task that succeeds keeps what it has done."""
        undone: Undone = []
        book = booking(colour, undone)

        @colour.task
        def trip() -> Body[str]:
            return str((yield book("flight")))

        assert flow.run(trip) == "booked flight"
        assert undone == []

    def test_cancellation_undoes(self, store: Store, colour: Colour) -> None:
        """G1, E2: a cancelled run undoes what it has completed, and ends as cancelled, also if cancelled twice."""
        undone: Undone = []
        book = booking(colour, undone)

        @colour.task
        def trip() -> Body[None]:
            yield book("flight")
            yield colour.sleep("7d")

        with Flow(store.storage()) as flow:
            handle = flow.start(trip.options(run_id="r"))
            eventually(lambda: handle.status() is RunStatus.WAITING)
            handle.cancel()
            with contextlib.suppress(flowkit.FlowkitError):
                handle.cancel()
            with pytest.raises(RunCancelled):
                handle.result(timeout=PATIENCE_S)
            assert handle.status() is RunStatus.CANCELLED

        assert flown(undone) == ["flight"]

    def test_undos_have_retries(self, flow: Flow, colour: Colour) -> None:
        """G1: an undo is a durable step with retries: those of its step, or of its task."""
        undone: Undone = []
        attempts: list[int] = []

        @colour.step(retry=at_once(3))
        def book() -> str:
            return "b"

        @book.compensate
        def cancel(_booked: str) -> None:
            attempts.append(flowkit.current_run().attempt)
            if len(attempts) < 3:
                raise OSError("the airline is away")
            undone.append(("b", "b"))

        @colour.task(attempts=1)
        def trip() -> Body[None]:
            yield book()
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            flow.run(trip)

        assert attempts == [1, 2, 3]
        assert len(undone) == 1

    def test_a_child_has_an_undo(self, flow: Flow, colour: Colour) -> None:
        """G1: a completed child is undone by its task's undo, which gets result and arguments; its steps are not."""
        undone: Undone = []
        book = booking(colour, undone)

        @colour.task
        def child(name: str, *, nights: int = 1) -> Body[str]:
            yield book(name)
            return f"{nights} nights"

        @child.compensate
        def undo(result: str, nights: int) -> None:
            undone.append((result, nights))

        @colour.task(attempts=1)
        def trip() -> Body[None]:
            yield child("hotel", nights=3)
            yield book("flight")
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            flow.run(trip)

        assert undone == [("booked flight", "flight"), ("3 nights", 3)]

    def test_parallel_steps(self, flow: Flow, colour: Colour) -> None:
        """G1: of steps side by side, all that completed are undone, in the reverse order of their recording."""
        undone: Undone = []
        book = booking(colour, undone)

        @colour.step(retry=at_once(1))
        def broken() -> None:
            raise OSError("full")

        @task(attempts=1)
        def sync_trip() -> None:
            flowkit.gather(book.bind("a"), book.bind("b"), broken.bind())

        @task(attempts=1)
        async def async_trip() -> None:
            await asyncio.gather(book("a"), book("b"), broken())

        trip: Any = async_trip if colour.awaits else sync_trip
        with pytest.raises(OSError, match="full"):
            flow.run(trip.options(run_id="r"))
        recorded = [name for name in _names(flow) if name == "book"]

        assert sorted(flown(undone)) == ["a", "b"]
        assert len(recorded) == 4  # two steps, two undos

    def test_parallel_steps_after_a_crash(self, store: Store, colour: Colour) -> None:
        """G1: the reverse order of recording holds on a replay too, where all are found recorded in another order."""
        undone: Undone = []
        book = booking(colour, undone)
        crashes = [Crash()]
        recorded, recorded_async = threading.Event(), asyncio.Event()

        def sync_line(name: str) -> None:
            if name == "called first":
                assert recorded.wait(PATIENCE_S)
            book(name)
            recorded.set()

        async def async_line(name: str) -> None:
            if name == "called first":
                await recorded_async.wait()
            await book(name)
            recorded_async.set()

        @colour.task(attempts=1)
        def trip() -> Body[None]:
            names = ["called first", "recorded first"]
            if colour.awaits:
                yield flowkit.aio.gather(*map(async_line, names))
            else:
                flowkit.each(names, sync_line)
            if crashes:
                raise crashes.pop()
            raise ValueError("no")

        crash_once(store, trip)
        with pytest.raises(ValueError, match="no"):
            store.flow().run(trip.options(run_id="r"))

        assert flown(undone) == ["called first", "recorded first"]

    def test_side_work_is_undone(self, flow: Flow, colour: Colour) -> None:
        """G1, W4: what side work has completed is undone with the rest; what is in flight settles first."""
        undone: Undone = []
        book = booking(colour, undone)

        @colour.task(attempts=1)
        def trip() -> Body[None]:
            flowkit.work(book, "beside")
            yield book("flight")
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            flow.run(trip)

        assert sorted(flown(undone)) == ["beside", "flight"]


class TestAfterwards:
    """G5: a run whose undos have run."""

    def test_it_cannot_be_retried(self, flow: Flow, colour: Colour) -> None:
        """G5: the error says to fork, which starts afresh and never reuses what was undone."""
        undone: Undone = []
        fails = [True]
        book = booking(colour, undone)

        @colour.task(attempts=1)
        def trip() -> Body[str]:
            booked: str = yield book("flight")
            if fails:
                raise ValueError("no")
            return booked

        with pytest.raises(ValueError, match="no"):
            flow.run(trip.options(run_id="r"))
        with pytest.raises(RunRolledBack, match="fork"):
            flow.retry("r")
        fails.clear()
        fork = flow.fork("r")

        assert flow.run(trip.options(run_id=fork.id)) == "booked flight"
        assert flown(undone) == ["flight"]
