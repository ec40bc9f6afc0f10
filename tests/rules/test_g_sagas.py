"""G1 to G5: what was completed is undone when a task, or a `saga` scope in it, fails."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

import flowkit
from flowkit import (
    CompensationFailed,
    ConfigurationError,
    Flow,
    NonRetryable,
    NotAllowedInStep,
    OutsideRun,
    RunBlocked,
    RunCancelled,
    RunRolledBack,
    RunStatus,
    WrongColour,
    on_rollback,
    saga,
    step,
    task,
)
from flowkit.entries import decode
from flowkit_testing import Harness
from tests.rules.conftest import PATIENCE_S, Body, Colour, Crash, FakeClock, Store, at_once, eventually

Undone = list[Any]


def booking(colour: Colour, undone: Undone, *, fails: Callable[[str], None] | None = None) -> Any:  # noqa: ANN401  # a step
    """A step with an undo that writes down what it takes back."""

    @colour.step(retry=at_once(1))
    def book(name: str) -> str:
        return f"booked {name}"

    @book.compensate
    def cancel(booked: str, name: str) -> None:
        if fails is not None:
            fails(name)
        undone.append((booked, name))

    return book


def flown(undone: Undone) -> list[str]:
    """The names of what was undone, in order."""
    return [name for _, name in undone]


class TestTheTask:
    """G1: the whole task is left by an error or a cancellation."""

    def test_newest_first_once_each(self, flow: Flow, colour: Colour) -> None:
        """G1: the undos of the completed steps run in reverse, once each, with result and arguments; then the error."""
        undone: Undone = []
        book = booking(colour, undone)

        @colour.task(attempts=1)
        def trip() -> Body[None]:
            for name in ("car", "flight", "hotel"):
                yield book(name)
            raise ValueError("no")

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


class TestScopes:
    """`saga()`: a part of a task."""

    def test_only_the_scope_is_undone(self, flow: Flow, colour: Colour) -> None:
        """G1: an error that leaves a scope undoes that scope; what was done before stays, and the body may go on."""
        undone: Undone = []
        book = booking(colour, undone)

        def sync_body() -> str:
            book("car")
            try:
                with saga("trip"):
                    book("flight")
                    book("hotel")
                    raise ValueError("no")
            except ValueError:
                book("sofa")
            return "home"

        async def async_body() -> str:
            await book("car")
            try:
                async with saga("trip"):
                    await book("flight")
                    await book("hotel")
                    raise ValueError("no")
            except ValueError:
                await book("sofa")
            return "home"

        assert flow.run(_task(colour, sync_body, async_body)) == "home"
        assert flown(undone) == ["hotel", "flight"]

    def test_a_scope_that_succeeds_hands_its_undos_on(self, flow: Flow, colour: Colour) -> None:
        """G1: what a scope has completed is undone with the scope around it, in the order of all."""
        undone: Undone = []
        book = booking(colour, undone)

        def sync_body() -> None:
            with saga("outer"):
                book("a")
                with saga("inner"):
                    book("b")
                book("c")
                raise ValueError("no")

        async def async_body() -> None:
            async with saga("outer"):
                await book("a")
                async with saga("inner"):
                    await book("b")
                await book("c")
                raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            flow.run(_task(colour, sync_body, async_body))

        assert flown(undone) == ["c", "b", "a"]

    def test_nested_scopes_undo_inside_out(self, flow: Flow, colour: Colour) -> None:
        """G1: an error that leaves two scopes undoes the inner one, then the outer one, each once."""
        undone: Undone = []
        book = booking(colour, undone)

        def sync_body() -> None:
            book("0")
            with saga("outer"):
                book("a")
                with saga("inner"):
                    book("b")
                    raise ValueError("no")

        async def async_body() -> None:
            await book("0")
            async with saga("outer"):
                await book("a")
                async with saga("inner"):
                    await book("b")
                    raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            flow.run(_task(colour, sync_body, async_body))

        assert flown(undone) == ["b", "a", "0"]

    @pytest.mark.parametrize("at", ["before_effect", "after_effect", "before_commit", "after_commit"])
    @pytest.mark.parametrize("step_name", ["cancel", "cancel#2"])
    def test_a_crash_in_a_scope(self, harness: Harness, colour: Colour, at: Any, step_name: str) -> None:  # noqa: ANN401  # a word
        """G3: a rollback of a scope that a crash cuts short goes on, each undo once, and the body goes on after it."""
        undone: Undone = []
        book = booking(colour, undone)

        def sync_body() -> str:
            try:
                with saga("trip"):
                    book("flight")
                    book("hotel")
                    raise ValueError("no")
            except ValueError:
                return str(book("sofa"))

        async def async_body() -> str:
            try:
                async with saga("trip"):
                    await book("flight")
                    await book("hotel")
                    raise ValueError("no")
            except ValueError:
                return str(await book("sofa"))

        harness.crash(step_name, at=at)
        run = harness.run(_task(colour, sync_body, async_body))

        assert run.output == "booked sofa"
        assert [*dict.fromkeys(flown(undone))] == ["hotel", "flight"]
        assert len(undone) == (3 if at in {"after_effect", "before_commit"} else 2)

    def test_undos_that_are_registered_first(self, flow: Flow, colour: Colour) -> None:
        """G1: `on_rollback` registers an undo before the action, which may then happen without being recorded."""
        undone: Undone = []

        @colour.step(retry=at_once(1))
        def charge(key: str) -> None:
            undone.append(("charged", key))
            raise OSError("the answer was lost")

        @colour.task
        def pay() -> Body[None]:
            key = str(flowkit.uuid4())
            on_rollback(lambda key: undone.append(("cancelled", key)), key)
            yield charge(key)

        with pytest.raises(OSError, match="lost"):
            flow.run(pay)

        assert [what for what, _ in undone] == ["charged", "cancelled"]
        assert undone[0][1] == undone[1][1]

    def test_by_hand(self, store: Store, colour: Colour) -> None:
        """G4: steps in an `except` block are durable; the run fails with the original error, never started over."""
        ran: list[str] = []
        crashes = [Crash()]

        @colour.step(retry=at_once(1))
        def effect(name: str) -> None:
            ran.append(name)
            if name == "ship":
                raise OSError("no carrier")

        @colour.task(retry=at_once())
        def order() -> Body[None]:
            yield effect("charge")
            try:
                yield effect("ship")
            except OSError:
                yield effect("refund")
                if crashes:
                    raise crashes.pop() from None
                raise

        flow = store.flow()
        with pytest.raises(Crash):
            flow.run(order.options(run_id="r"))
        flow.close()
        flow = store.flow()
        with pytest.raises(OSError, match="no carrier"):
            flow.run(order.options(run_id="r"))

        assert ran == ["charge", "ship", "refund"]
        assert flow.handle("r").status() is RunStatus.FAILED
        with pytest.raises(RunRolledBack):
            flow.retry("r")


class TestFailingUndos:
    """G2: an undo that fails for good."""

    def test_the_others_run(self, flow: Flow, colour: Colour) -> None:
        """G2: one that fails does not stop the others; the run fails with the cause first, then what is left."""
        undone: Undone = []

        def fails(name: str) -> None:
            if name == "flight":
                raise NonRetryable("the airline says no")

        book = booking(colour, undone, fails=fails)

        @colour.task(attempts=1)
        def trip() -> Body[None]:
            for name in ("car", "flight", "hotel"):
                yield book(name)
            raise ValueError("no")

        with pytest.raises(CompensationFailed) as caught:
            flow.run(trip.options(run_id="r"))

        assert [type(error) for error in caught.value.exceptions] == [ValueError, NonRetryable]
        assert flown(undone) == ["hotel", "car"]

    def test_retry_runs_only_what_is_left(self, store: Store, colour: Colour) -> None:
        """G2: `flow.retry` runs the undos that failed, then raises the cause."""
        undone: Undone = []
        broken = [True]

        def fails(name: str) -> None:
            if name == "flight" and broken:
                raise NonRetryable("the airline says no")

        book = booking(colour, undone, fails=fails)

        @colour.task(attempts=1)
        def trip() -> Body[None]:
            for name in ("car", "flight", "hotel"):
                yield book(name)
            raise ValueError("no")

        flow = store.flow()
        with pytest.raises(CompensationFailed):
            flow.run(trip.options(run_id="r"))
        broken.clear()
        flow.retry("r")
        with pytest.raises(ValueError, match="no"):
            flow.run(trip.options(run_id="r"))

        assert flown(undone) == ["hotel", "car", "flight"]
        with pytest.raises(RunRolledBack):
            flow.retry("r")


class TestRollbacksThatAreCutShort:
    """G3: recorded before it begins; it goes on where it stopped, and never forward."""

    @pytest.mark.parametrize("dies", ["hotel", "flight", "car"])
    def test_another_process_finishes_it(self, store: Store, colour: Colour, dies: str) -> None:
        """G3: a run in `compensating` is finished by another process: what was undone is not undone again."""
        undone: Undone = []
        bodies: list[str] = []
        crashes = [Crash()]

        def fails(name: str) -> None:
            if name == dies and crashes:
                raise crashes.pop()

        book = booking(colour, undone, fails=fails)

        @colour.task(attempts=1)
        def trip() -> Body[None]:
            bodies.append("begun")
            for name in ("car", "flight", "hotel"):
                yield book(name)
            bodies.append("went on")
            if len(bodies) == 2:
                raise ValueError("no")
            yield book("forward")

        flow = store.flow()
        with pytest.raises(Crash):
            flow.run(trip.options(run_id="r"))
        assert flow.handle("r").status() is RunStatus.COMPENSATING
        flow.close()
        with Flow(store.storage()) as flow, pytest.raises(ValueError, match="no"):
            flow.handle("r").result(timeout=PATIENCE_S)

        assert flown(undone) == ["hotel", "flight", "car"]
        assert store.header("r").status is RunStatus.FAILED

    def test_a_cancellation_while_undoing(self, store: Store, colour: Colour) -> None:
        """E2: a cancellation that comes while the run compensates is ignored: it fails with its own error."""
        undone: Undone = []
        flows: list[Flow] = []

        def fails(_name: str) -> None:
            flows[0].cancel("r")

        book = booking(colour, undone, fails=fails)

        @colour.task(attempts=1)
        def trip() -> Body[None]:
            yield book("flight")
            yield book("hotel")
            raise ValueError("no")

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

        book = booking(colour, undone, fails=fails)

        @colour.task(attempts=1)
        def trip() -> Body[None]:
            yield book("flight")
            yield book("hotel")
            raise ValueError("no")

        with pytest.raises(CompensationFailed) as caught:
            flow.run(trip)

        assert isinstance(caught.value.exceptions[1], NotAllowedInStep)
        assert flown(undone) == ["flight"]

    def test_an_undo_that_is_gone_blocks(self, store: Store, colour: Colour) -> None:
        """G3: an undo that the replay cannot rebuild blocks the run, naming the operation; mended code finishes it."""
        undone: Undone = []
        crashes = [Crash()]
        names = ["car", "flight"]

        def fails(_name: str) -> None:
            if crashes:
                raise crashes.pop()

        book = booking(colour, undone, fails=fails)

        @colour.task(attempts=1)
        def trip() -> Body[None]:
            for name in names:
                yield book(name)
            raise ValueError("no")

        flow = store.flow()
        with pytest.raises(Crash):
            flow.run(trip.options(run_id="r"))
        flow.close()
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
        book = booking(colour, undone)

        @colour.task(attempts=1)
        def trip() -> Body[None]:
            yield book("flight")
            yield book("hotel")
            raise ValueError("no")

        harness.crash(where, at=at)
        run = harness.run(trip)

        assert isinstance(run.error, ValueError)
        assert run.compensated == ["book", "book"]
        assert [*dict.fromkeys(flown(undone))] == ["hotel", "flight"]

    def test_an_undo_in_back_off(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """R2: an undo that waits for its next attempt lets go of the run, and keeps its attempts over a restart."""
        attempts: list[int] = []

        @colour.step(retry=flowkit.Retry(attempts=3, delay=3600, backoff=1, max_delay=3600, jitter=0))
        def book() -> None:
            pass

        @book.compensate
        def cancel() -> None:
            attempts.append(flowkit.current_run().attempt)
            if len(attempts) < 3:
                raise OSError("away")

        @colour.task(attempts=1)
        def trip() -> Body[None]:
            yield book()
            raise ValueError("no")

        with Flow(store.storage(), clock=clock) as flow:
            flow.start(trip.options(run_id="r"))
            eventually(lambda: store.header("r").wake_at_ms is not None)
            assert store.header("r").status is RunStatus.COMPENSATING
        with pytest.raises(ValueError, match="no"):
            store.flow(clock=clock).run(trip.options(run_id="r"))

        assert attempts == [1, 2, 3]


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


class TestMistakes:
    """Errors that name the remedy."""

    def test_outside_and_inside_a_step(self, flow: Flow) -> None:
        """`saga` and `on_rollback` work in a task only."""

        @step(attempts=1)
        def effect() -> None:
            with saga("s"):
                pass

        @task
        def body() -> None:
            effect()

        with pytest.raises(OutsideRun), saga("s"):
            pass
        with pytest.raises(OutsideRun):
            on_rollback(print)
        with pytest.raises(NotAllowedInStep):
            flow.run(body)

    def test_the_wrong_colour(self, flow: Flow) -> None:
        """A sync `with` in an async task, an async undo in a sync task: the error says what to write."""

        @task
        async def body() -> None:
            with saga("s"):
                pass

        @step
        def book() -> None:
            pass

        @book.compensate
        async def cancel() -> None:
            pass

        @task
        def sync_body() -> None:
            book()

        with pytest.raises(WrongColour, match="async with"):
            flow.run(body)
        with pytest.raises(WrongColour, match="undo"):
            flow.run(sync_body)

    def test_an_undo_takes_what_there_is(self) -> None:
        """An undo that asks for an argument which its step has not is refused where it is declared."""

        @step
        def book(name: str) -> str:
            return name

        with pytest.raises(ConfigurationError, match="nights"):

            @book.compensate
            def cancel(_booked: str, nights: int) -> None:
                del nights


def _task(colour: Colour, sync_body: Callable[[], Any], async_body: Callable[[], Any]) -> Any:  # noqa: ANN401  # a task
    return task(attempts=1)(async_body if colour.awaits else sync_body)


def _names(flow: Flow) -> list[str]:
    return [decode(flow.engine.codec, raw).name for raw in flow.engine.load("r").entries]
