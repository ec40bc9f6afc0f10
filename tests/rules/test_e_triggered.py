"""E3: triggered children, one by one, waited for durably."""

import asyncio
import contextlib

import attrs
import pytest

from flowkit import (
    Flow,
    NonRetryable,
    NotAllowedInStep,
    ResultTimeout,
    RunCancelled,
    RunConflict,
    RunNotFound,
    RunResult,
    RunStatus,
    WrongColour,
    step,
    task,
)
from flowkit_testing import Harness
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, FakeClock, Store, at_once, eventually, is_cancellation
from tests.rules.effects import noting, refusing


@attrs.frozen
class Parcel:
    """What a child returns."""

    number: int


class TestOneByOne:
    """`trigger`, `trigger_and_wait`, and the handle."""

    def test_a_triggered_child_is_waited_for(self, working: Flow, colour: Colour) -> None:
        """E3: `result` gives the child's value, as what it was; asked again it is the same; one slot is enough."""

        @colour.task
        def child(number: int) -> Body[Parcel]:
            yield colour.sleep(0.001)
            return Parcel(number)

        @colour.task
        def parent() -> Body[list[object]]:
            handle = child.trigger(1)
            first: object = yield colour.form(handle).result()
            second: RunResult[Parcel] = yield colour.form(handle).wait_for_completion()
            third: RunResult[Parcel] = yield colour.form(child).trigger_and_wait(3)
            return [first, second.output, second.status, second.ok, third.unwrap()]

        assert working.run(parent) == [Parcel(1), Parcel(1), RunStatus.SUCCEEDED, True, Parcel(3)]

    def test_a_failed_child(self, working: Flow, colour: Colour) -> None:
        """E3: a failed child wakes its parent; `wait_for_completion` tells how it ended, `result` raises it."""
        seen: list[object] = []

        @colour.task(attempts=1)
        def child() -> Body[None]:
            yield from ()
            raise ValueError("child", 5)

        @colour.task(retry=at_once())
        def parent() -> Body[None]:
            handle = child.trigger()
            ended: RunResult[None] = yield colour.form(handle).wait_for_completion()
            seen.append((ended.ok, ended.status, type(ended.error), getattr(ended.error, "args", None)))
            yield colour.form(handle).result()

        with pytest.raises(ValueError, match="child") as caught:
            working.run(parent)

        assert caught.value.args == ("child", 5)
        assert seen[0] == (False, RunStatus.FAILED, ValueError, ("child", 5))
        assert len(set(seen)) == 1

    def test_a_failure_that_is_let_through_is_final(self, working: Flow, colour: Colour) -> None:
        """R3: a child's failure that its parent lets through does not make the parent's body start over."""
        bodies: list[int] = []

        @colour.task(attempts=1)
        def child() -> Body[None]:
            yield from ()
            raise ValueError("child")

        @colour.task(retry=at_once())
        def parent() -> Body[None]:
            ended: RunResult[None] = yield colour.form(child).trigger_and_wait()
            bodies.append(1)
            ended.unwrap()

        with pytest.raises(ValueError, match="child"):
            working.run(parent)

        assert len(bodies) == 1

    def test_retry_of_the_parent_goes_on_in_the_child(self, working: Flow, colour: Colour) -> None:
        """X2: after `flow.retry` the failed child goes on where it failed, and its parent hears of it."""
        ran: list[str] = []
        broken = {"b"}
        effect = noting(colour, ran, refusing(broken), attempts=1)

        @colour.task
        def child() -> Body[str]:
            first: str = yield effect("a")
            yield colour.sleep(0.001)
            second: str = yield effect("b")
            return first + second

        @colour.task
        def parent() -> Body[str]:
            text: str = yield colour.form(child.trigger()).result()
            return text

        with pytest.raises(NonRetryable, match="b"):
            working.run(parent.options(run_id="p"))
        broken.clear()

        assert working.retry("p").result(timeout=PATIENCE_S) == "ab"
        assert ran == ["a", "b", "b"]

    def test_a_cancelled_child_wakes_its_parent(self, working: Flow, colour: Colour) -> None:
        """E3: a child that somebody cancels wakes its parent, who is told that it was cancelled."""

        @colour.task
        def child() -> Body[None]:
            yield colour.sleep("1h")

        @colour.task
        def parent() -> Body[list[object]]:
            ended: RunResult[None] = yield colour.form(child).trigger_and_wait()
            return [ended.status, type(ended.error).__name__]

        handle = working.start(parent.options(run_id="p"))
        eventually(lambda: bool(working.runs(task=child, status="waiting").runs))
        working.cancel(working.runs(task=child).runs[0].run_id)

        assert handle.result(timeout=PATIENCE_S) == [RunStatus.CANCELLED, "RunCancelled"]

    def test_cancelling_the_parent_cancels_the_children(self, working: Flow, colour: Colour) -> None:
        """E2: the parent's children are cancelled first, those that nobody waits for too; then its body hears of it."""
        order: list[str] = []

        @colour.task
        def child(name: str) -> Body[None]:
            try:
                yield colour.sleep("1h")
            except colour.cancelled as error:
                order.extend([name] * is_cancellation(error))
                raise

        @colour.task
        def parent() -> Body[None]:
            child.trigger("forgotten")
            try:
                yield colour.form(child.trigger("waited for")).result()
            except colour.cancelled as error:
                order.extend(["parent"] * is_cancellation(error))
                raise

        handle = working.start(parent.options(run_id="p"))
        eventually(lambda: len(working.runs(status="waiting").runs) == 3)
        handle.cancel()
        with pytest.raises(RunCancelled):
            handle.result(timeout=PATIENCE_S)
        eventually(lambda: len(working.runs(status="cancelled").runs) == 3)

        assert order.index("waited for") < order.index("parent")

    def test_a_timeout(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """E4: a wait with a timeout ends at its time, which a restart does not move; the child goes on."""

        @colour.task
        def child() -> Body[str]:
            yield colour.sleep("3h")
            return "late"

        @colour.task
        def parent() -> Body[str]:
            handle = child.trigger()
            with contextlib.suppress(ResultTimeout):
                yield colour.form(handle).result(timeout="2h")
            text: str = yield colour.form(handle).result()
            return text

        start = clock.ms
        with Flow(store.storage(), clock=clock) as flow:
            handle = flow.start(parent.options(run_id="p"))
            eventually(lambda: len(flow.runs(status="waiting").runs) == 2)
            clock.advance(hours=1)
        clock.advance(hours=1)
        with Flow(store.storage(), clock=clock) as flow:
            eventually(lambda: b"ResultTimeout" in b"".join(flow.engine.load("p").entries))
            assert clock.ms == start + 2 * 3_600_000
            clock.advance(hours=1)
            handle = flow.handle("p")
            eventually(lambda: handle.status() is RunStatus.SUCCEEDED)
            assert handle.result() == "late"

    def test_a_run_that_was_there_before(self, working: Flow, colour: Colour) -> None:
        """E3: a child whose id is taken by a finished run of its work has ended; other work is a conflict."""
        ran: list[int] = []

        @colour.task
        def child(number: int) -> Body[int]:
            yield from ()
            ran.append(number)
            return number

        @colour.task
        def parent(number: int) -> Body[int]:
            ended: RunResult[int] = yield colour.form(child.options(run_id="shared")).trigger_and_wait(number)
            return ended.unwrap()

        assert working.start(child.options(run_id="shared"), 1).result(timeout=PATIENCE_S) == 1
        assert working.run(parent, 1) == 1
        assert ran == [1]
        with pytest.raises(RunConflict, match="shared"):
            working.run(parent, 2)

    def test_a_run_of_another(self, harness: Harness, colour: Colour) -> None:
        """E3: a run that is no child and sends no message is waited for as well; one that is not there is an error."""

        @colour.task
        def other() -> Body[str]:
            yield colour.sleep("5m")
            return "done"

        @colour.task
        def parent(run_id: str) -> Body[str]:
            text: str = yield colour.form(harness.flow.handle(run_id)).result()
            return text

        harness.start(other.options(run_id="o"))

        assert harness.run(parent, "o").output == "done"
        assert isinstance(harness.run(parent, "nobody").error, RunNotFound)

    def test_inside_a_step(self, working: Flow, colour: Colour) -> None:
        """I5: a step may wait for children that its task has triggered; the one slot is theirs meanwhile."""

        @colour.task
        def child(number: int) -> Body[int]:
            yield from ()
            return number * 2

        @step
        def collect(ids: list[str]) -> list[int]:
            return [working.handle(run_id).result(timeout=PATIENCE_S) for run_id in ids]

        @step
        async def collect_async(ids: list[str]) -> list[int]:
            waits = [working.handle(run_id).aio.wait_for_completion(timeout=PATIENCE_S) for run_id in ids]
            return [result.unwrap() for result in await asyncio.gather(*waits)]

        @colour.task
        def parent() -> Body[list[int]]:
            batch = child.batch_trigger([1, 2, 3])
            ids = [handle.id for handle in batch.handles]
            found: list[int] = yield (collect_async if colour.awaits else collect)(ids)
            return found

        handles = [working.start(parent) for _ in range(3)]
        assert [handle.result(timeout=PATIENCE_S) for handle in handles] == [[2, 4, 6]] * 3

    def test_triggering_inside_a_step(self, flow: Flow, colour: Colour) -> None:
        """I5: a step cannot trigger, since it may run again."""

        @colour.task
        def child() -> Body[None]:
            yield from ()

        @step(attempts=1)
        def effect() -> None:
            child.batch_trigger([])

        @task
        def parent() -> None:
            effect()

        with pytest.raises(NotAllowedInStep, match="between steps"):
            flow.run(parent)


class TestColours:
    """The wrong colour is named."""

    def test_a_sync_wait_in_an_async_task(self, working: Flow) -> None:
        """A sync wait in an async task would block its event loop; the error names the awaitable form."""

        @task
        async def child() -> None:
            pass

        @task
        async def parent() -> None:
            child.trigger().result()

        with pytest.raises(WrongColour, match="aio"):
            working.run(parent)

    def test_an_awaitable_wait_in_a_sync_task(self, working: Flow) -> None:
        """An awaitable wait in a plain task cannot work."""

        @task
        def child() -> None:
            pass

        @task
        def parent() -> None:
            _ = child.trigger().aio.result()

        with pytest.raises(WrongColour):
            working.run(parent)
