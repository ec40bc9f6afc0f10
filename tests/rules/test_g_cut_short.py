"""G2, G3: rollbacks in which an undo fails for good, or that a crash cuts short."""

from typing import Any

import pytest

import flowkit
from flowkit import (
    CompensationFailed,
    Flow,
    NonRetryable,
    NotAllowedInStep,
    RunBlocked,
    RunRolledBack,
    RunStatus,
    saga,
    task,
)
from flowkit_testing import Harness
from tests.rules.booking import Undone, booking, flown, left_in_back_off, trip_of
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, Crash, FakeClock, Store, crash_once
from tests.rules.effects import dying, refusing


class TestFailingUndos:
    """G2: an undo that fails for good."""

    def test_the_others_run(self, flow: Flow, colour: Colour) -> None:
        """G2: one that fails does not stop the others; the run fails with the cause first, then what is left."""
        undone: Undone = []
        trip = trip_of(colour, booking(colour, undone, fails=refusing({"flight"})), "car", "flight", "hotel")

        with pytest.raises(CompensationFailed) as caught:
            flow.run(trip.options(run_id="r"))

        assert [type(error) for error in caught.value.exceptions] == [ValueError, NonRetryable]
        assert flown(undone) == ["hotel", "car"]

    def test_retry_runs_only_what_is_left(self, store: Store, colour: Colour) -> None:
        """G2: `flow.retry` runs the undos that failed, then raises the cause."""
        undone: Undone = []
        broken = {"flight"}
        book = booking(colour, undone, fails=refusing(broken))
        ships: list[int] = []

        @colour.step(attempts=1)
        def ship() -> None:
            ships.append(1)
            raise ValueError("no")

        @colour.task(attempts=1)
        def trip() -> Body[None]:
            for name in ("car", "flight", "hotel"):
                yield book(name)
            yield ship()

        flow = store.flow()
        with pytest.raises(CompensationFailed):
            flow.run(trip.options(run_id="r"))
        broken.clear()
        flow.retry("r")
        with pytest.raises(ValueError, match="no"):
            flow.run(trip.options(run_id="r"))

        assert flown(undone) == ["hotel", "car", "flight"]
        assert len(ships) == 1
        with pytest.raises(RunRolledBack):
            flow.retry("r")

    def test_a_crash_after_it(self, store: Store, colour: Colour) -> None:
        """G2, G3: a failed undo is remembered over a crash in the next one: it is reported, and a retry runs it."""
        undone: Undone = []
        broken = {"hotel"}
        refuses, dies = refusing(broken), dying("flight")

        def fails(name: str) -> None:
            refuses(name)
            dies(name)

        trip = trip_of(colour, booking(colour, undone, fails=fails), "flight", "hotel")

        crash_once(store, trip)
        flow = store.flow()
        with pytest.raises(CompensationFailed) as caught:
            flow.run(trip.options(run_id="r"))
        assert [type(error) for error in caught.value.exceptions] == [ValueError, NonRetryable]
        broken.clear()
        flow.retry("r")
        with pytest.raises(ValueError, match="no"):
            flow.run(trip.options(run_id="r"))

        assert flown(undone) == ["flight", "hotel"]

    def test_in_a_scope_inside(self, store: Store, colour: Colour) -> None:
        """G2: the retry of an undo in an inner scope goes on outwards, and raises the first cause of all."""
        undone: Undone = []
        broken = {"inner"}
        book = booking(colour, undone, fails=refusing(broken))

        def sync_body() -> None:
            book("outer")
            with saga("scope"):
                book("inner")
                raise ValueError("the cause")

        async def async_body() -> None:
            await book("outer")
            async with saga("scope"):
                await book("inner")
                raise ValueError("the cause")

        body = task(attempts=1)(async_body if colour.awaits else sync_body)
        flow = store.flow()
        with pytest.raises(CompensationFailed):
            flow.run(body.options(run_id="r"))
        assert flown(undone) == ["outer"]
        broken.clear()
        flow.retry("r")
        with pytest.raises(ValueError, match="the cause"):
            flow.run(body.options(run_id="r"))

        assert flown(undone) == ["outer", "inner"]


class TestRollbacksThatAreCutShort:
    """G3: recorded before it begins; it goes on where it stopped, and never forward."""

    @pytest.mark.parametrize("dies", ["hotel", "flight", "car"])
    def test_another_process_finishes_it(self, store: Store, colour: Colour, dies: str) -> None:
        """G3: a run in `compensating` is finished by another process: what was undone is not undone again."""
        undone: Undone = []
        bodies: list[str] = []
        forward: list[str] = []
        book = booking(colour, undone, fails=dying(dies))

        @colour.step
        def go_forward() -> None:
            forward.append("forward")

        @colour.task(attempts=1)
        def trip() -> Body[None]:
            bodies.append("begun")
            for name in ("car", "flight", "hotel"):
                yield book(name)
            bodies.append("went on")
            if len(bodies) == 2:
                raise ValueError("no")
            yield go_forward()

        flow = store.flow()
        with pytest.raises(Crash):
            flow.run(trip.options(run_id="r"))
        assert flow.handle("r").status() is RunStatus.COMPENSATING
        flow.close()
        with Flow(store.storage()) as flow, pytest.raises(ValueError, match="no"):
            flow.handle("r").result(timeout=PATIENCE_S)

        assert flown(undone) == ["hotel", "flight", "car"]
        assert forward == []
        assert store.header("r").status is RunStatus.FAILED

    def test_a_cancellation_while_undoing(self, store: Store, colour: Colour) -> None:
        """E2: a cancellation that comes while the run compensates is ignored: it fails with its own error."""
        undone: Undone = []
        flows: list[Flow] = []

        def fails(_name: str) -> None:
            flows[0].cancel("r")

        trip = trip_of(colour, booking(colour, undone, fails=fails), "flight", "hotel")

        flows.append(store.flow())
        with pytest.raises(ValueError, match="no"):
            flows[0].run(trip.options(run_id="r"))

        assert flown(undone) == ["hotel", "flight"]

    def test_a_timer_in_an_undo_is_refused_and_the_rest_runs(self, flow: Flow, colour: Colour) -> None:
        """I5, G2: an undo is a step, which cannot sleep durably; that is its failure, and the others run."""
        undone: Undone = []

        def fails(name: str) -> None:
            if name == "hotel":
                flowkit.sleep(1)

        trip = trip_of(colour, booking(colour, undone, fails=fails), "flight", "hotel")

        with pytest.raises(CompensationFailed) as caught:
            flow.run(trip)

        assert isinstance(caught.value.exceptions[1], NotAllowedInStep)
        assert flown(undone) == ["flight"]

    def test_an_undo_that_is_gone_blocks(self, store: Store, colour: Colour) -> None:
        """G3: an undo that the replay cannot rebuild blocks the run, naming the operation; mended code finishes it."""
        undone: Undone = []
        names = ["car", "flight"]
        book = booking(colour, undone, fails=dying())

        @colour.task(attempts=1)
        def trip() -> Body[None]:
            for name in names:
                yield book(name)
            raise ValueError("no")

        crash_once(store, trip)
        del names[1]
        flow = store.flow()
        with pytest.raises(RunBlocked, match="undo"):
            flow.run(trip.options(run_id="r"))
        names.append("flight")
        flow.retry("r")
        with pytest.raises(ValueError, match="no"):
            flow.run(trip.options(run_id="r"))

        assert flown(undone) == ["flight", "car"]

    @pytest.mark.parametrize("at", ["before_effect", "after_effect", "before_commit", "after_commit"])
    @pytest.mark.parametrize("where", ["cancel", "cancel#2"])
    def test_a_crash_at_each_point(self, harness: Harness, colour: Colour, at: Any, where: str) -> None:  # noqa: ANN401  # a word
        """G3: wherever the rollback is cut short, each undo is recorded once, in order."""
        undone: Undone = []
        trip = trip_of(colour, booking(colour, undone), "flight", "hotel")

        harness.crash(where, at=at)
        run = harness.run(trip)

        assert isinstance(run.error, ValueError)
        assert run.compensated == ["book", "book"]
        assert [*dict.fromkeys(flown(undone))] == ["hotel", "flight"]

    def test_an_undo_in_back_off(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """R2: an undo that waits for its next attempt lets go of the run, and keeps its attempts over a restart."""
        attempts: list[int] = []
        trip = left_in_back_off(store, clock, colour, attempts)

        with pytest.raises(ValueError, match="no"):
            store.flow(clock=clock).run(trip.options(run_id="r"))

        assert attempts == [1, 2, 3]
