"""E5: events, sent before, during and after the wait."""

import asyncio
import gc
import weakref
from typing import Any

import attrs
import pytest

import flowkit
from flowkit import (
    ConfigurationError,
    EventTimeout,
    Flow,
    NotAllowedInStep,
    OutsideRun,
    RunCancelled,
    RunFinished,
    RunNotFound,
    RunStatus,
    SerializationError,
    WrongColour,
    each,
    step,
    task,
)
from flowkit.durations import Duration
from tests.rules.conftest import PATIENCE_S, Body, Colour, Crash, FakeClock, Process, Store, at_once, eventually


@attrs.frozen
class Decision:
    """What a person decides."""

    approved: bool
    by: str = "somebody"


def wait(colour: Colour, name: str, *, timeout: Duration | None = None, type: type[Any] = object) -> Any:  # noqa: ANN401  # a coroutine, or the payload
    """`wait_for_event` in a colour."""
    waits = flowkit.aio.wait_for_event if colour.awaits else flowkit.wait_for_event
    return waits(name, timeout=timeout, type=type)


def waiting(flow: Flow, run_id: str = "r") -> None:
    """Wait until a run waits."""
    eventually(lambda: flow.handle(run_id).status() is RunStatus.WAITING)


class TestReceiving:
    """What is sent is received, once, in order."""

    def test_sent_while_it_waits(self, store: Store, colour: Colour) -> None:
        """E5: a run that waits is woken by the event and gets its payload, as what it was."""

        @colour.task
        def body() -> Body[Decision]:
            decision: Decision = yield wait(colour, "approval", type=Decision)
            return decision

        with Flow(store.storage()) as flow:
            handle = flow.start(body.options(run_id="r"))
            waiting(flow)
            assert flow.send_event("r", "approval", Decision(approved=True, by="Ada"))
            assert handle.result(timeout=PATIENCE_S) == Decision(approved=True, by="Ada")

    def test_sent_before_it_waits(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """E5: an event that was sent before the run even began is kept."""

        @colour.task
        def body() -> Body[list[object]]:
            first: object = yield wait(colour, "go")
            yield colour.sleep("1d")
            second: object = yield wait(colour, "go")
            return [first, second]

        with Flow(store.storage(), worker=False, clock=clock) as client:
            client.start(body.options(run_id="r"))
            client.send_event("r", "go", 1)
            client.send_event("r", "go", 2)

        assert store.flow(clock=clock).run(body.options(run_id="r")) == [1, 2]

    def test_in_order_one_wait_each(self, store: Store, colour: Colour) -> None:
        """E5: events of a name come in the order of sending, one for each wait; other names keep theirs."""

        @colour.task
        def body() -> Body[list[object]]:
            got: list[object] = []
            for name in ("a", "b", "a", "a", "b"):
                payload: object = yield wait(colour, name)
                got.append(payload)
            return got

        flow = store.flow()
        flow.start(body.options(run_id="r"))
        for name, payload in (("b", 10), ("a", 1), ("a", 2), ("b", 20), ("a", 3)):
            flow.send_event("r", name, payload)

        assert flow.run(body.options(run_id="r")) == [1, 10, 2, 3, 20]

    def test_twice_with_one_id(self, store: Store, colour: Colour) -> None:
        """E5: sent twice with one id it is received once, also when it was received before it was sent again."""

        @colour.task
        def body() -> Body[list[object]]:
            first: object = yield wait(colour, "a")
            second: object = yield wait(colour, "a")
            return [first, second]

        with Flow(store.storage()) as flow:
            handle = flow.start(body.options(run_id="r"))
            assert flow.send_event("r", "a", 1, id="one")
            assert not flow.send_event("r", "a", 1, id="one")
            waiting(flow)
            assert not flow.send_event("r", "a", 1, id="one")
            assert flow.send_event("r", "a", 2, id="two")
            assert handle.result(timeout=PATIENCE_S) == [1, 2]

    def test_received_once_through_crashes(self, store: Store, colour: Colour) -> None:
        """E5: a run that dies after it has received an event has it still, and does not receive it again."""
        crashes = [Crash(), Crash()]

        @colour.task
        def body() -> Body[list[object]]:
            first: object = yield wait(colour, "a")
            if crashes:
                raise crashes.pop()
            second: object = yield wait(colour, "a")
            return [first, second]

        flow = store.flow()
        flow.start(body.options(run_id="r"))
        flow.send_event("r", "a", 1)
        flow.send_event("r", "a", 2)
        flow.close()
        for _ in range(2):
            flow = store.flow()
            with pytest.raises(Crash):
                flow.run(body.options(run_id="r"))
            flow.close()

        assert store.flow().run(body.options(run_id="r")) == [1, 2]

    @pytest.mark.parametrize("side_by_side", [2, 5])
    def test_waits_side_by_side(self, store: Store, colour: Colour, side_by_side: int) -> None:
        """E5: waits of one name beside one another get one event each, none two, none the same."""

        @task
        def sync_body() -> list[object]:
            return each(range(side_by_side), lambda _: flowkit.wait_for_event("a"))

        @task
        async def async_body() -> list[object]:
            return list(await flowkit.aio.gather(*(flowkit.aio.wait_for_event("a") for _ in range(side_by_side))))

        body: Any = async_body if colour.awaits else sync_body
        with Flow(store.storage()) as flow:
            handle = flow.start(body.options(run_id="r"))
            for number in range(side_by_side):
                waiting(flow)
                flow.send_event("r", "a", number)
                eventually(lambda: handle.status() in {RunStatus.WAITING, RunStatus.SUCCEEDED})
            assert sorted(handle.result(timeout=PATIENCE_S)) == list(range(side_by_side))

    def test_one_branch_takes_what_came_while_another_waits(self, store: Store) -> None:
        """E1: a branch that takes an event out of the inbox does not keep the next one from waking another branch."""

        @task
        def body() -> list[object]:
            def first() -> object:
                return flowkit.wait_for_event("x")

            def second() -> object:
                return flowkit.wait_for_event("y")

            return each([first, second], lambda call: call())

        with Flow(store.storage()) as flow:
            handle = flow.start(body.options(run_id="r"))
            flow.send_event("r", "y", 2)
            eventually(lambda: handle.status() is RunStatus.WAITING and b"y" in b"".join(flow.engine.load("r").entries))
            flow.send_event("r", "x", 1)
            assert handle.result(timeout=PATIENCE_S) == [1, 2]

    def test_from_another_process(self, disk: Store, process: Process, colour: Colour) -> None:
        """E5: a process that knows nothing of the task sends the event."""

        @colour.task
        def body() -> Body[object]:
            return (yield wait(colour, "a"))

        with Flow(disk.storage()) as flow:
            handle = flow.start(body.options(run_id="r"))
            waiting(flow)
            told = process.run(
                "import sys\nfrom flowkit import Flow\n"
                "with Flow(sys.argv[1], worker=False) as flow:\n    flow.send_event('r', 'a', {'n': [1, 2]})\n",
                disk.url,
            )
            assert told.returncode == 0, told.stderr
            assert handle.result(timeout=PATIENCE_S) == {"n": [1, 2]}

    def test_a_run_that_waits_is_not_in_memory(self, store: Store, colour: Colour) -> None:
        """E1: while a run waits for an event, nothing of its body is left in the process."""
        refs: list[weakref.ref[object]] = []

        class Held:
            pass

        @colour.task
        def body() -> Body[object]:
            held = Held()
            refs.append(weakref.ref(held))
            return (yield wait(colour, "a"))

        with Flow(store.storage(), concurrency=1) as flow:
            for number in range(20):
                flow.start(body.options(run_id=f"r{number}"))
            for number in range(20):
                waiting(flow, f"r{number}")
            eventually(lambda: flow._worker is not None and flow._worker._busy == 0)  # noqa: SLF001  # none has a slot
            gc.collect()
            assert [ref() for ref in refs] == [None] * len(refs)

    def test_async_waits_let_others_go_on(self, store: Store) -> None:
        """E1: a branch that waits for an event that comes while another works gets it without being put aside."""
        sent = asyncio.Event()

        @step
        async def effect() -> str:
            await sent.wait()
            return "worked"

        @task
        async def body() -> list[object]:
            waits = flowkit.aio.wait_for_event("a")
            got = asyncio.ensure_future(waits)
            got.add_done_callback(lambda _: sent.set())
            return [await effect(), await got]

        with Flow(store.storage()) as flow:
            handle = flow.start(body.options(run_id="r"))
            eventually(lambda: flow.engine.load("r").header.length >= 1)
            flow.send_event("r", "a", 1)
            assert handle.result(timeout=PATIENCE_S) == ["worked", 1]


class TestTimeouts:
    """A wait that has timed out receives nothing."""

    def test_a_timeout(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """E5: without an event in time the wait raises `EventTimeout`, the same on every replay."""
        raised: list[str] = []
        crashes = [Crash()]

        @colour.task
        def body() -> Body[str]:
            try:
                yield wait(colour, "a", timeout="7d")
            except TimeoutError as error:
                raised.append(f"{type(error).__name__}: {error}")
            if crashes:
                raise crashes.pop()
            return "late"

        start = clock.ms
        flow = store.flow(clock=clock)
        with pytest.raises(Crash):
            flow.run(body.options(run_id="r"))
        flow.close()

        assert store.flow(clock=clock).run(body.options(run_id="r")) == "late"
        assert raised[0] == raised[1]
        assert raised[0].startswith("EventTimeout")
        assert "'a'" in raised[0]
        assert "'r'" in raised[0]
        assert clock.ms == start + 7 * 86_400_000

    def test_the_time_does_not_start_over(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """E4: a wait that is taken up by another process waits for the rest of its time."""

        @colour.task
        def body() -> Body[None]:
            yield wait(colour, "a", timeout="2h")

        start = clock.ms
        with Flow(store.storage(), clock=clock) as flow:
            flow.start(body.options(run_id="r"))
            waiting(flow)
        clock.advance(hours=1)
        with pytest.raises(EventTimeout):
            store.flow(clock=clock).run(body.options(run_id="r"))

        assert clock.ms == start + 2 * 3_600_000

    def test_sent_after_the_time_was_over(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """E5: an event that was sent after the time was over is for the next wait, also if nobody had looked yet."""

        @colour.task
        def body() -> Body[list[object]]:
            got: list[object] = []
            try:
                got.append((yield wait(colour, "a", timeout="1h")))
            except EventTimeout:
                got.append("timeout")
            got.append((yield wait(colour, "a")))
            return got

        with Flow(store.storage(), clock=clock) as flow:
            flow.start(body.options(run_id="r"))
            waiting(flow)
        clock.advance(hours=2)
        with Flow(store.storage(), clock=clock, worker=False) as flow:
            flow.send_event("r", "a", "late")

        assert store.flow(clock=clock).run(body.options(run_id="r")) == ["timeout", "late"]

    def test_sent_in_time_and_looked_at_late(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """E5: an event that was sent in time is received even if no worker was there until the time was over."""

        @colour.task
        def body() -> Body[object]:
            return (yield wait(colour, "a", timeout="1h"))

        with Flow(store.storage(), clock=clock) as flow:
            flow.start(body.options(run_id="r"))
            waiting(flow)
        with Flow(store.storage(), clock=clock, worker=False) as flow:
            flow.send_event("r", "a", "in time")
        clock.advance(hours=2)

        assert store.flow(clock=clock).run(body.options(run_id="r")) == "in time"

    def test_retry_waits_again(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """X2: `flow.retry` of a run that failed by a timeout waits anew."""

        @colour.task
        def body() -> Body[object]:
            return (yield wait(colour, "a", timeout="1h"))

        flow = store.flow(clock=clock)
        with pytest.raises(EventTimeout):
            flow.run(body.options(run_id="r"))
        flow.retry("r")
        flow.send_event("r", "a", "again")

        assert flow.run(body.options(run_id="r")) == "again"

    def test_cancelled_while_it_waits(self, store: Store, colour: Colour) -> None:
        """E2: a run that waits for an event is woken by a cancellation, which its body sees at the wait."""
        seen: list[str] = []

        @colour.task
        def body() -> Body[None]:
            try:
                yield wait(colour, "a", timeout="7d")
            except colour.cancelled:
                seen.append("cancelled")
                raise

        with Flow(store.storage()) as flow:
            handle = flow.start(body.options(run_id="r"))
            waiting(flow)
            handle.cancel()
            with pytest.raises(RunCancelled):
                handle.result(timeout=PATIENCE_S)

        assert seen[-1:] == ["cancelled"]


class TestTypes:
    """The payload is what was asked for."""

    @pytest.mark.parametrize("payload", [{"denied": True}, "yes", 5, None], ids=repr)
    def test_another_type_is_an_error(self, flow: Flow, colour: Colour, payload: object) -> None:
        """A payload that is not of the type fails the wait with an error that names the event and what came."""

        @colour.task(retry=at_once())
        def body() -> Body[object]:
            return (yield wait(colour, "approval", type=Decision))

        flow.start(body.options(run_id="r"))
        flow.send_event("r", "approval", payload)

        with pytest.raises(SerializationError, match="'approval'"):
            flow.run(body.options(run_id="r"))

    def test_a_plain_document(self, flow: Flow, colour: Colour) -> None:
        """A dict of the right fields, as another program sends it, becomes what was asked for."""

        @colour.task
        def body() -> Body[object]:
            return (yield wait(colour, "approval", type=Decision))

        flow.start(body.options(run_id="r"))
        flow.send_event("r", "approval", {"approved": True, "by": "Ada"})

        assert flow.run(body.options(run_id="r")) == Decision(approved=True, by="Ada")

    def test_without_a_type(self, flow: Flow, colour: Colour) -> None:
        """Without a type the payload comes back as it was sent."""

        @colour.task
        def body() -> Body[object]:
            return (yield wait(colour, "a"))

        flow.start(body.options(run_id="r"))
        flow.send_event("r", "a", (1, {2}, Decision(approved=False)))

        assert flow.run(body.options(run_id="r")) == (1, {2}, Decision(approved=False))


class TestSending:
    """To whom an event cannot be sent, and how often it is."""

    @pytest.mark.parametrize("fails", [False, True])
    def test_to_a_finished_run(self, flow: Flow, colour: Colour, *, fails: bool) -> None:
        """E5: a run that has ended, whichever way, receives nothing, and the sender is told."""

        @colour.task(attempts=1)
        def body() -> Body[None]:
            yield from ()
            if fails:
                raise ValueError

        handle = flow.start(body.options(run_id="r"))
        with pytest.MonkeyPatch.context():
            try:
                flow.run(body.options(run_id="r"))
            except ValueError:
                assert fails
        with pytest.raises(RunFinished, match=str(handle.status())):
            flow.send_event("r", "a")

    def test_to_no_run(self, flow: Flow) -> None:
        """E5: a run that is not there is named."""
        with pytest.raises(RunNotFound, match="nobody"):
            flow.send_event("nobody", "a")

    async def test_awaited(self, store: Store) -> None:
        """`flow.aio.send_event` does the same without blocking."""

        @task
        async def body() -> object:
            return await flowkit.aio.wait_for_event("a")

        async with Flow(store.storage()) as flow:
            handle = await flow.aio.start(body)
            assert await flow.aio.send_event(handle.id, "a", 1, id="x")
            assert not await flow.aio.send_event(handle.id, "a", 1, id="x") or (await handle.aio.status()).finished
            assert await handle.aio.result() == 1

    def test_sent_by_a_task(self, store: Store, colour: Colour) -> None:
        """E5: an event that a task or a step sends without an id is sent once, however often either runs."""
        crashes: list[BaseException] = [Crash(), OSError("flaky"), Crash()]

        @task
        def receiver() -> list[object]:
            return [flowkit.wait_for_event("a") for _ in range(3)]

        flows: list[Flow] = []

        @colour.step(retry=at_once())
        def send() -> None:
            flows[-1].send_event("receiver", "a", "step")
            if crashes:
                raise crashes.pop(0)

        @colour.task
        def sender() -> Body[None]:
            flows[-1].send_event("receiver", "a", "task")
            yield send()
            if crashes:
                raise crashes.pop(0)
            flows[-1].send_event("receiver", "a", "end")

        flows.append(store.flow())
        flows[-1].start(receiver.options(run_id="receiver"))
        while crashes:
            with pytest.raises(Crash):
                flows[-1].run(sender.options(run_id="s"))
            flows[-1].close()
            flows.append(store.flow())
        flows[-1].run(sender.options(run_id="s"))

        assert flows[-1].run(receiver.options(run_id="receiver")) == ["task", "step", "end"]


class TestMistakes:
    """Errors that name the remedy."""

    def test_outside(self, colour: Colour) -> None:
        """Outside of a task there is nobody to send an event to."""
        with pytest.raises(OutsideRun, match="task"):
            wait(colour, "a")

    def test_in_a_step(self, flow: Flow, colour: Colour) -> None:
        """I5: a step cannot wait for an event."""

        @colour.step(attempts=1)
        def effect() -> None:
            wait(colour, "a")

        @colour.task
        def body() -> Body[None]:
            yield effect()

        with pytest.raises(NotAllowedInStep, match="between steps"):
            flow.run(body)

    def test_the_wrong_colour(self, flow: Flow) -> None:
        """The error names the right colour."""

        @task
        async def body() -> None:
            flowkit.wait_for_event("a")

        @task
        def sync_body() -> None:
            _ = flowkit.aio.wait_for_event("a")

        with pytest.raises(WrongColour, match=r"flowkit\.aio\.wait_for_event"):
            flow.run(body)
        with pytest.raises(WrongColour):
            flow.run(sync_body)

    @pytest.mark.parametrize("name", ["", 5])
    def test_names(self, flow: Flow, name: str) -> None:
        """A name is a text that is not empty; so is an id."""

        @task(attempts=1)
        def body() -> None:
            flowkit.wait_for_event(name)

        with pytest.raises(ConfigurationError, match="name"):
            flow.run(body)
        with pytest.raises(ConfigurationError, match="name"):
            flow.send_event("r", name)
        with pytest.raises(ConfigurationError, match="id"):
            flow.send_event("r", "a", id=name)

    def test_payloads(self, flow: Flow) -> None:
        """A payload that cannot be stored is refused by the sender's call."""
        with pytest.raises(SerializationError, match="event 'a'"):
            flow.send_event("r", "a", object())
