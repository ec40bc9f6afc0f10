"""E5, E1: events, sent before and during the wait, are received once and in order."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterable
from typing import Any

import attrs
import pytest

import flowkit
from flowkit import (
    Flow,
    RunStatus,
    each,
    step,
    task,
)
from flowkit.mailbox import Mailbox
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, Crash, FakeClock, Process, Store, crash_once, eventually, waiting


@attrs.frozen
class Decision:
    """What a person decides."""

    approved: bool
    by: str = "somebody"


class TestReceiving:
    """What is sent is received, once, in order."""

    def test_sent_while_it_waits(self, store: Store, colour: Colour) -> None:
        """E5: a run that waits is woken by the event and gets its payload, as what it was."""

        @colour.task
        def body() -> Body[Decision]:
            decision: Decision = yield colour.wait_for_event("approval", type=Decision)
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
            first: object = yield colour.wait_for_event("go")
            yield colour.sleep("1d")
            second: object = yield colour.wait_for_event("go")
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
                payload: object = yield colour.wait_for_event(name)
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
            first: object = yield colour.wait_for_event("a")
            second: object = yield colour.wait_for_event("a")
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
            first: object = yield colour.wait_for_event("a")
            if crashes:
                raise crashes.pop()
            second: object = yield colour.wait_for_event("a")
            return [first, second]

        flow = store.flow()
        flow.start(body.options(run_id="r"))
        flow.send_event("r", "a", 1)
        flow.send_event("r", "a", 2)
        flow.close()
        for _ in range(2):
            crash_once(store, body)

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

    def test_two_lines_look_at_one_event(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """E5: a line that has been given an event keeps it, also while another one looks before it is recorded."""
        consume, given = Mailbox.consume, [threading.Event(), threading.Event()]

        def consume_together(mailbox: Mailbox, ids: Iterable[str]) -> None:
            event = next(event for event in given if not event.is_set())
            event.set()
            assert given[1].wait(PATIENCE_S)  # the first has its event, and has recorded nothing
            consume(mailbox, ids)

        def first() -> object:
            return flowkit.wait_for_event("a")

        def second() -> object:
            assert given[0].wait(PATIENCE_S)
            return flowkit.wait_for_event("a")

        @task(attempts=1)
        def body() -> list[object]:
            return each([first, second], lambda line: line())

        monkeypatch.setattr(Mailbox, "consume", consume_together)
        flow = store.flow()
        flow.start(body.options(run_id="r"))
        for number in (1, 2):
            flow.send_event("r", "a", number)

        assert flow.run(body.options(run_id="r")) == [1, 2]

    def test_from_another_process(self, disk: Store, process: Process, colour: Colour) -> None:
        """E5: a process that knows nothing of the task sends the event."""

        @colour.task
        def body() -> Body[object]:
            return (yield colour.wait_for_event("a"))

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
        """E1: while a run waits for an event, it has no slot, and neither a thread nor anything of its body is left."""
        refs: list[weakref.ref[object]] = []

        class Held:
            pass

        @colour.task
        def body() -> Body[object]:
            held = Held()
            refs.append(weakref.ref(held))
            return (yield colour.wait_for_event("a"))

        threads = threading.active_count()
        with Flow(store.storage(), concurrency=1) as flow:
            for number in range(20):
                flow.start(body.options(run_id=f"r{number}"))
            for number in range(20):
                waiting(flow, f"r{number}")
            eventually(lambda: flow._worker is not None and flow._worker._busy == 0)  # noqa: SLF001  # none has a slot
            assert threading.active_count() - threads < 10  # those of the worker and the storage
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
