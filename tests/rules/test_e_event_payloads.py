"""E5: what is sent to whom, and mistakes."""

from typing import Any

import attrs
import pytest

import flowkit
from flowkit import (
    ConfigurationError,
    Flow,
    NotAllowedInStep,
    OutsideRun,
    RunFinished,
    RunNotFound,
    SerializationError,
    WrongColour,
    task,
)
from tests.rules.colours import Body, Colour
from tests.rules.conftest import Crash, Store, at_once


@attrs.frozen
class Decision:
    """What a person decides."""

    approved: bool
    by: str = "somebody"


class TestTypes:
    """The payload is what was asked for."""

    @pytest.mark.parametrize("payload", [{"denied": True}, {"approved": "no"}, "yes", 5, None], ids=repr)
    def test_another_type_is_an_error(self, flow: Flow, colour: Colour, payload: object) -> None:
        """A payload that is not of the type fails the wait with an error that names the event and what came."""

        @colour.task(retry=at_once())
        def body() -> Body[object]:
            return (yield colour.wait_for_event("approval", type=Decision))

        flow.start(body.options(run_id="r"))
        flow.send_event("r", "approval", payload)

        with pytest.raises(SerializationError, match="'approval'"):
            flow.run(body.options(run_id="r"))

    def test_of_the_type_all_through(self, flow: Flow, colour: Colour) -> None:
        """What is inside of the payload is of the type too, and the error says what is not, and where."""

        @colour.task(retry=at_once())
        def body() -> Body[object]:
            asked: Any = dict[str, list[int]]
            return (yield colour.wait_for_event("counts", type=asked))

        flow.start(body.options(run_id="r"))
        flow.send_event("r", "counts", {"a": [1, "two"]})

        with pytest.raises(SerializationError, match=r"\['a'\]\[1\] is 'two' \(str\), not int"):
            flow.run(body.options(run_id="r"))

    def test_a_plain_document(self, flow: Flow, colour: Colour) -> None:
        """A dict of the right fields, as another program sends it, becomes what was asked for."""

        @colour.task
        def body() -> Body[object]:
            return (yield colour.wait_for_event("approval", type=Decision))

        flow.start(body.options(run_id="r"))
        flow.send_event("r", "approval", {"approved": True, "by": "Ada"})

        assert flow.run(body.options(run_id="r")) == Decision(approved=True, by="Ada")

    def test_without_a_type(self, flow: Flow, colour: Colour) -> None:
        """Without a type the payload comes back as it was sent."""

        @colour.task
        def body() -> Body[object]:
            return (yield colour.wait_for_event("a"))

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
            colour.wait_for_event("a")

    def test_in_a_step(self, flow: Flow, colour: Colour) -> None:
        """I5: a step cannot wait for an event."""

        @colour.step(attempts=1)
        def effect() -> None:
            colour.wait_for_event("a")

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
