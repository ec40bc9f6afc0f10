"""E1: a run that waits."""

import asyncio
import threading

import pytest

import flowkit
from flowkit import Flow, RunStatus, step, task
from flowkit.entries import decode
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, FakeClock, Store, eventually, waiting
from tests.rules.effects import noting

TURNS = 500  # of the event loop; many more than pass before a body is looked at


class TestWaiting:
    """E1."""

    def test_a_waiting_run_holds_no_slot(self, store: Store, colour: Colour) -> None:
        """E1: while runs wait for a timer, more of them than there are slots, others run."""

        @colour.task
        def waiting() -> Body[None]:
            yield colour.sleep("1h")

        @colour.task
        def other() -> Body[str]:
            yield from ()
            return "done"

        with Flow(store.storage(), concurrency=1) as flow:
            handles = [flow.start(waiting) for _ in range(3)]
            for handle in handles:
                eventually(lambda handle=handle: handle.status() is RunStatus.WAITING)  # type: ignore[misc]  # bound now
            assert flow.start(other).result(timeout=PATIENCE_S) == "done"

    def test_unwinding_runs_nothing(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """E1: a body that is put aside is unwound without its handlers and `finally` blocks doing anything durable."""
        ran: list[str] = []
        effect = noting(colour, ran)

        @colour.task
        def body() -> Body[str]:
            yield effect("before")
            try:
                yield colour.sleep("1h")
            except Exception:
                ran.append("except")
                yield effect("in except")
                raise
            finally:
                yield effect("in finally")
            return "done"

        with Flow(store.storage(), clock=clock) as flow:
            handle = flow.start(body.options(run_id="r"))
            eventually(lambda: handle.status() is RunStatus.WAITING)
            assert ran == ["before"]
        clock.advance(hours=2)

        assert store.flow(clock=clock).run(body.options(run_id="r")) == "done"
        assert ran == ["before", "in finally"]

    def test_a_body_that_swallows_the_signal_is_reported(
        self, memory: Store, clock: FakeClock, colour: Colour, caplog: pytest.LogCaptureFixture
    ) -> None:
        """E1: a body that holds what unwinds it is told of in the log, records nothing, and goes on in its time."""
        ran: list[str] = []

        @colour.step
        def effect() -> None:
            ran.append("effect")

        @colour.task
        def body() -> Body[str]:
            try:
                yield colour.sleep("1h")
                yield effect()
            except BaseException:  # noqa: BLE001  # the mistake that is reported
                ran.append("held")
            return "done"

        with Flow(memory.storage(), clock=clock) as flow:
            handle = flow.start(body.options(run_id="r"))
            eventually(lambda: handle.status() is RunStatus.WAITING)
        [told] = [record for record in caplog.records if record.name == "flowkit.run"]
        assert "'r' went on after it was told to let go" in told.getMessage()
        clock.advance(hours=2)

        assert memory.flow(clock=clock).run(body.options(run_id="r")) == "done"
        assert ran == ["held", "effect"]

    def test_a_loop_around_the_signal_is_reported_while_it_goes_on(
        self, memory: Store, colour: Colour, caplog: pytest.LogCaptureFixture
    ) -> None:
        """E1: a body that never ends since it holds the signal each time is told of before its end."""
        told_meanwhile: list[bool] = []

        @colour.task
        def body() -> Body[str]:
            while len(told_meanwhile) < 1000:
                try:
                    yield colour.sleep("1h")
                except BaseException:  # the mistake that is reported
                    told_meanwhile.append("goes on calling" in caplog.text)
                    if told_meanwhile[-1]:
                        raise
            return "never told"

        with Flow(memory.storage()) as flow:
            handle = flow.start(body.options(run_id="r"))
            eventually(lambda: handle.status() is RunStatus.WAITING)
        assert 90 < len(told_meanwhile) < 110

    def test_a_branch_at_work_is_not_cut_off(self, store: Store) -> None:
        """E1: a run with a branch that waits and one that works is put aside when the work is done and recorded."""
        ran: list[str] = []
        begun, go_on = threading.Event(), threading.Event()

        @step
        def effect() -> str:
            ran.append("effect")
            begun.set()
            go_on.wait(PATIENCE_S)
            return "worked"

        @task
        async def body() -> list[object]:
            return list(await asyncio.gather(flowkit.aio.sleep("1h"), effect.aio()))

        with Flow(store.storage()) as flow:
            handle = flow.start(body.options(run_id="r"))
            assert begun.wait(PATIENCE_S)
            assert handle.status() is RunStatus.RUNNING
            go_on.set()
            eventually(lambda: handle.status() is RunStatus.WAITING)

        assert ran == ["effect"]
        assert store.header("r").wake_at_ms is not None

    def test_except_exception_does_not_hold_it(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """E1: a body that catches every `Exception` around a timer waits like any other."""
        ran: list[str] = []

        @colour.task
        def body() -> Body[str]:
            try:
                yield colour.sleep("1h")
            except Exception:  # noqa: BLE001  # what a careless user would write
                ran.append("caught")
            return "done"

        with Flow(store.storage(), clock=clock) as flow:
            handle = flow.start(body.options(run_id="r"))
            eventually(lambda: handle.status() is RunStatus.WAITING)
        clock.advance(hours=1)

        assert store.flow(clock=clock).run(body.options(run_id="r")) == "done"
        assert ran == []

    def test_a_body_with_work_of_its_own_is_let_finish(self, flow: Flow) -> None:
        """E1: a body that awaits something of its own beside a timer is not cut off before that is done."""

        @task
        async def body() -> str:
            async def own() -> str:
                for _ in range(50):
                    await asyncio.sleep(0)
                return "own"

            results = await asyncio.gather(own(), flowkit.aio.sleep(0.01))
            return str(results[0])

        assert flow.run(body) == "own"

    def test_the_first_of_what_several_lines_wait_for_wakes_it(self, store: Store, colour: Colour) -> None:
        """E1: a line that waits for one message is woken by it, while the one beside it waits for several."""
        ran: list[str] = []

        @colour.step
        def effect(name: object) -> None:
            ran.append(str(name))

        @colour.task
        def child(number: int) -> Body[int]:
            yield colour.wait_for_event("go")
            return number

        def sync_line(index: int) -> object:
            if index:
                return effect(flowkit.wait_for_event("x"))
            return child.batch_trigger([1, 2, 3]).results()

        async def async_line(index: int) -> object:
            if index:
                return await effect(await flowkit.aio.wait_for_event("x"))
            return await child.batch_trigger([1, 2, 3]).aio.results()

        @colour.task
        def body() -> Body[list[object]]:
            if colour.awaits:
                results: list[object] = yield flowkit.aio.each([0, 1], async_line)
                return results
            return flowkit.each([0, 1], sync_line)

        with Flow(store.storage()) as flow:
            handle = flow.start(body.options(run_id="r"))
            eventually(lambda: len(flow.runs(status="waiting").runs) == 4)
            flow.send_event("r", "x", "woken")
            eventually(lambda: ran == ["woken"])
            for header in flow.runs(task=child):
                flow.send_event(header.run_id, "go")
            assert handle.result(timeout=PATIENCE_S) == [[1, 2, 3], None]

    def test_the_earliest_of_several_timers_wakes_it(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """E1: a run whose lines wait for different times is due at the first of them."""

        @task
        def sync_body() -> None:
            flowkit.each(["2h", "1h"], flowkit.sleep)

        @task
        async def async_body() -> None:
            await flowkit.aio.gather(flowkit.aio.sleep("2h"), flowkit.aio.sleep("1h"))

        start = clock.ms
        with Flow(store.storage(), clock=clock) as flow:
            flow.start((async_body if colour.awaits else sync_body).options(run_id="r"))
            waiting(flow)
        assert store.header("r").wake_at_ms == start + 3_600_000

    def test_messages_for_nobody_do_not_wake_it(self, store: Store, colour: Colour) -> None:
        """E1: what lies in its inbox and is not waited for does not make a run look again and again."""
        bodies: list[int] = []

        @colour.task
        def body() -> Body[object]:
            bodies.append(1)
            return (yield colour.wait_for_event("a"))

        with Flow(store.storage(), worker=False) as client:
            client.start(body.options(run_id="r"))
            client.send_event("r", "noise", 1)
            client.send_event("r", "noise", 2)
        with Flow(store.storage()) as flow:
            waiting(flow)
            flow.send_event("r", "a", "woken")
            assert flow.handle("r").result(timeout=PATIENCE_S) == "woken"

        assert len(bodies) == 2


class TestNotCutOff:
    """E1: an async body is put aside only when nothing in it moves; a look is taken every few turns of the loop."""

    def test_a_call_that_nobody_awaits(self, store: Store) -> None:
        """E1: a step in a task that the body has left alone goes on, and is recorded, before the run waits."""

        @step
        async def effect() -> str:
            for _ in range(TURNS):
                await asyncio.sleep(0)
            return "worked"

        @task
        async def body() -> object:
            beside = asyncio.ensure_future(effect())
            await flowkit.aio.sleep("1h")
            return await beside

        with Flow(store.storage()) as flow:
            flow.start(body.options(run_id="r"))
            waiting(flow)
            names = [decode(flow.engine.codec, raw).name for raw in flow.engine.load("r").entries]
        assert names.count("effect") == 1

    def test_what_is_no_call(self, store: Store) -> None:
        """E1: whatever else the body awaits beside a timer is let finish first."""
        ran: list[str] = []

        async def own() -> None:
            for _ in range(TURNS):
                await asyncio.sleep(0)
            ran.append("own")

        @task
        async def body() -> None:
            await asyncio.gather(own(), flowkit.aio.sleep("1h"))

        with Flow(store.storage()) as flow:
            flow.start(body.options(run_id="r"))
            waiting(flow)
        assert ran == ["own"]
