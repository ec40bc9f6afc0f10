"""E3: triggered children, one by one and in batches, waited for durably."""

import asyncio
import contextlib
from typing import Any

import attrs
import pytest

import flowkit
import flowkit.run
from flowkit import (
    ConfigurationError,
    Flow,
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
from tests.rules.conftest import PATIENCE_S, Body, Colour, Crash, FakeClock, Store, Wire, at_once, eventually


@attrs.frozen
class Parcel:
    """What a child returns."""

    number: int


def form(colour: Colour, thing: Any) -> Any:  # noqa: ANN401  # a task, a handle or a batch, in a colour
    """The form of it that a body of this colour uses."""
    return thing.aio if colour.awaits else thing


@pytest.fixture
def working(store: Store) -> Flow:
    """A flow with a worker of one slot."""
    flow = Flow(store.storage(), concurrency=1).open()
    store.flows.append(flow)
    return flow


def is_cancellation(error: BaseException) -> bool:
    """False of what only takes a body off its stack for a while."""
    run = flowkit.run.current.get()
    assert run is not None
    return not isinstance(error, flowkit.run.Unwind) and run.run.reason is None


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
            first: object = yield form(colour, handle).result()
            second: RunResult[Parcel] = yield form(colour, handle).wait_for_completion()
            third: RunResult[Parcel] = yield form(colour, child).trigger_and_wait(3)
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
            ended: RunResult[None] = yield form(colour, handle).wait_for_completion()
            seen.append((ended.ok, ended.status, type(ended.error), getattr(ended.error, "args", None)))
            yield form(colour, handle).result()

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
            ended: RunResult[None] = yield form(colour, child).trigger_and_wait()
            bodies.append(1)
            ended.unwrap()

        with pytest.raises(ValueError, match="child"):
            working.run(parent)

        assert len(bodies) == 1

    def test_retry_of_the_parent_goes_on_in_the_child(self, working: Flow, colour: Colour) -> None:
        """X2: after `flow.retry` the failed child goes on where it failed, and its parent hears of it."""
        ran: list[str] = []
        broken = [True]

        @colour.step(attempts=1)
        def effect(name: str) -> str:
            ran.append(name)
            if name == "b" and broken:
                raise OSError("broken")
            return name

        @colour.task
        def child() -> Body[str]:
            first: str = yield effect("a")
            yield colour.sleep(0.001)
            second: str = yield effect("b")
            return first + second

        @colour.task
        def parent() -> Body[str]:
            text: str = yield form(colour, child.trigger()).result()
            return text

        with pytest.raises(OSError, match="broken"):
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
            ended: RunResult[None] = yield form(colour, child).trigger_and_wait()
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
                yield form(colour, child.trigger("waited for")).result()
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
                yield form(colour, handle).result(timeout="2h")
            text: str = yield form(colour, handle).result()
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
            ended: RunResult[int] = yield form(colour, child.options(run_id="shared")).trigger_and_wait(number)
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
            text: str = yield form(colour, harness.flow.handle(run_id)).result()
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


class TestBatches:
    """`batch_trigger` and what waits for it."""

    def test_all_settled(self, working: Flow, colour: Colour) -> None:
        """A batch tells of each run how it ended, in the order of its items, whatever failed."""

        @colour.task(attempts=1)
        def child(number: int, *, twice: bool = False) -> Body[int]:
            yield from ()
            if number == 2:
                raise ValueError("two")
            return number * 2 if twice else number

        @colour.task
        def parent() -> Body[list[object]]:
            items: list[Any] = [1, 2, child.bind(3, twice=True)]
            batch = child.batch_trigger(items)
            results: list[RunResult[int]] = yield form(colour, batch).wait_for_completion()
            return [len(batch), [result.output for result in results], [str(result.status) for result in results]]

        assert working.run(parent) == [3, [1, None, 6], ["succeeded", "failed", "succeeded"]]

    def test_results(self, working: Flow, colour: Colour) -> None:
        """`results` gives the values, or raises the error of the first that failed; a retry runs all that did."""
        broken = [True]
        ran: list[int] = []

        @colour.task(attempts=1)
        def child(number: int) -> Body[int]:
            yield from ()
            ran.append(number)
            if number % 2 and broken:
                raise ValueError(number)
            return number

        @colour.task(retry=at_once())
        def parent() -> Body[list[int]]:
            results: list[int] = yield form(colour, child.batch_trigger(range(4))).results()
            return results

        with pytest.raises(ValueError, match="1"):
            working.run(parent.options(run_id="p"))
        broken.clear()

        assert working.retry("p").result(timeout=PATIENCE_S) == [0, 1, 2, 3]
        assert sorted(ran) == [0, 1, 1, 2, 3, 3]

    @pytest.mark.parametrize("items", [[], [7]], ids=["empty", "cached"])
    def test_what_has_ended_already(self, working: Flow, colour: Colour, items: list[int]) -> None:
        """E3: an empty batch, and one whose runs were all there before, end at once."""

        @colour.task
        def child(number: int) -> Body[int]:
            yield from ()
            return number

        @colour.task
        def parent() -> Body[list[int]]:
            batch = child.batch_trigger(child.options(run_id=f"c{number}").bind(number) for number in items)
            results: list[int] = yield form(colour, batch).results()
            return results

        for number in items:
            working.start(child.options(run_id=f"c{number}"), number).result(timeout=PATIENCE_S)

        assert working.run(parent) == items

    def test_made_in_one_change(self, wire: Wire, store: Store, colour: Colour) -> None:
        """A batch of children is one commit, and waking up for them is not one for each."""

        @colour.task
        def child(number: int) -> Body[int]:
            yield from ()
            return number

        @colour.task
        def parent() -> Body[int]:
            results: list[int] = yield form(colour, child.batch_trigger(range(100))).results()
            return sum(results)

        with Flow(wire.storage, concurrency=1) as flow:
            assert flow.start(parent.options(run_id="p")).result(timeout=PATIENCE_S) == 4950
        commits = [commit for name, args in wire.calls if name == "commit" for commit in args[0]]
        mine = [commit for commit in commits if commit.run_id == "p"]

        assert max(len(commit.spawn) for commit in mine) == 100
        assert max(len(commit.consume) for commit in mine) == 100
        assert len(mine) == 4  # the batch, letting go, what all have told, the end
        assert store.header("p").inbox == 0

    def test_very_many(self, memory: Store) -> None:
        """A batch that is too large for one change takes a few, and a crash between them makes nothing twice."""
        died: list[str] = []
        wire = Wire(memory.storage())

        @task
        def child(number: int) -> int:
            return number

        @task
        def parent() -> int:
            return len(child.batch_trigger(range(2500)).handles)

        def die(name: str, args: tuple[Any, ...]) -> None:
            if name == "commit" and args[0][0].spawn and len(args[0][0].spawn) == 1000 and not args[0][0].entries:
                died.append("here")
                wire.after = None
                raise Crash

        wire.after = die
        first = Flow(wire.storage, worker=False).open()
        with pytest.raises(Crash):
            first.run(parent.options(run_id="p"))
        first.close()
        second = Flow(wire.storage, worker=False).open()
        assert second.run(parent.options(run_id="p")) == 2500
        counts = second.engine.storage.stats()
        second.close()

        assert died
        assert counts.by_status[RunStatus.PENDING] == 2500

    def test_a_replay_makes_none_again(self, store: Store, colour: Colour) -> None:
        """E3: a parent that dies after making its batch, and after it was woken, finds its children and their ends."""
        crashes = [Crash(), Crash()]
        ran: list[int] = []

        @colour.step
        def effect(number: int) -> int:
            ran.append(number)
            return number

        @colour.task
        def child(number: int) -> Body[int]:
            result: int = yield effect(number)
            return result

        @colour.task
        def parent() -> Body[list[int]]:
            batch = child.batch_trigger([1, 2, 3])
            if len(crashes) == 2:
                raise crashes.pop()
            results: list[int] = yield form(colour, batch).results()
            if crashes:
                raise crashes.pop()
            again: list[int] = yield form(colour, batch).results()
            return [*results, *again]

        first = store.flow()
        with pytest.raises(Crash):
            first.run(parent.options(run_id="p"))
        first.close()
        with Flow(store.storage()) as second:
            assert second.handle("p").result(timeout=PATIENCE_S) == [1, 2, 3, 1, 2, 3]
            assert len(second.runs(task=child).runs) == 3
        assert not crashes
        assert sorted(ran) == [1, 2, 3]

    def test_outcomes_are_safe_from_retention(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """E3: a child that is forgotten before its parent looks has told its end in a message."""

        @colour.task
        def child(number: int) -> Body[int]:
            yield from ()
            return number

        @colour.task
        def parent() -> Body[list[int]]:
            batch = child.batch_trigger([1, 2])
            yield colour.sleep("2d")
            results: list[int] = yield form(colour, batch).results()
            return results

        with Flow(store.storage(), clock=clock, retention=None) as flow:
            flow.start(parent.options(run_id="p"))
            eventually(lambda: len(flow.runs(task=child, status="succeeded").runs) == 2)
            eventually(lambda: flow.handle("p").status() is RunStatus.WAITING)
            clock.advance(days=1)
            assert flow.prune(older_than="1h") == 2

        assert store.flow(clock=clock).run(parent.options(run_id="p")) == [1, 2]

    @pytest.mark.parametrize(
        ("threshold", "succeed", "fail", "ended"),
        [
            ({"min_successful": 2}, [0, 1], [], 2),
            ({"tolerated_failures": 1}, [0], [1, 2], 3),
            ({"tolerated_failures": 0}, [], [3], 1),
            ({"min_successful": 3, "tolerated_failures": 1}, [0, 1], [2, 3], 4),
            ({"min_successful": 0}, [], [], 0),
        ],
        ids=str,
    )
    def test_thresholds(  # what is given and what comes of it
        self,
        store: Store,
        colour: Colour,
        threshold: dict[str, int],
        succeed: list[int],
        fail: list[int],
        ended: int,
    ) -> None:
        """A wait with a threshold is over as soon as that is reached; what was decided then is what a replay sees."""
        seen: list[list[str]] = []
        wait = (flowkit.aio if colour.awaits else flowkit).wait_for_event

        @colour.task(attempts=1)
        def child(number: int) -> Body[int]:
            verdict: object = yield wait("verdict")
            if not verdict:
                raise ValueError(number)
            return number

        @colour.task
        def parent() -> Body[int]:
            batch = child.batch_trigger(range(5))
            results: list[RunResult[int]] = yield form(colour, batch).wait_for_completion(**threshold)
            seen.append([str(result.status) for result in results])
            yield wait("go on")
            return sum(result.status is not RunStatus.RUNNING for result in results)

        with Flow(store.storage()) as flow:
            handle = flow.start(parent.options(run_id="p"))
            eventually(lambda: len(flow.runs(task=child).runs) == 5)
            for number in (*succeed, *fail):
                flow.send_event(f"p/1.{number}", "verdict", payload=number in succeed)
                eventually(lambda number=number: flow.handle(f"p/1.{number}").status().finished)  # type: ignore[misc]  # bound now
            eventually(lambda: len(seen) > 0)
            for number in {*range(5)} - {*succeed, *fail}:
                flow.send_event(f"p/1.{number}", "verdict", payload=True)
                eventually(lambda number=number: flow.handle(f"p/1.{number}").status().finished)  # type: ignore[misc]  # bound now
            flow.send_event("p", "go on")
            assert handle.result(timeout=PATIENCE_S) == ended

        assert seen[0] == seen[-1]

    @pytest.mark.parametrize(
        "threshold",
        [{"min_successful": 3}, {"min_successful": -1}, {"tolerated_failures": -1}, {"min_successful": "2"}],
    )
    def test_thresholds_that_cannot_be(self, flow: Flow, threshold: dict[str, Any]) -> None:
        """A threshold that can never be reached, or is none, is refused."""

        @task
        def child(number: int) -> int:
            return number

        with flow:
            batch = child.batch_trigger([1, 2])
        with pytest.raises(ConfigurationError, match=next(iter(threshold))):
            batch.wait_for_completion(**threshold)

    def test_outside_of_a_task(self, working: Flow) -> None:
        """A batch works outside of a task too: made in one change, waited for by looking."""

        @task(attempts=1)
        def child(number: int) -> int:
            if number == 2:
                raise ValueError("two")
            return number

        with working:
            batch = child.batch_trigger([1, 2, 3])
        results = batch.wait_for_completion(timeout=PATIENCE_S)
        enough = batch.wait_for_completion(timeout=PATIENCE_S, min_successful=1)

        assert [result.output for result in results] == [1, None, 3]
        assert sum(result.ok for result in enough) >= 1
        with pytest.raises(ValueError, match="two"):
            batch.results()

    async def test_awaited_outside_of_a_task(self, store: Store) -> None:
        """The awaitable forms outside of a task."""

        @task
        async def child(number: int) -> int:
            return number

        async with Flow(store.storage()):
            batch = await child.aio.batch_trigger([1, 2])
            assert await batch.aio.results(timeout=PATIENCE_S) == [1, 2]
            assert [result.ok for result in await batch.aio.wait_for_completion()] == [True, True]
            assert (await child.aio.trigger_and_wait(3)).unwrap() == 3

    def test_nested(self, working: Flow, colour: Colour) -> None:
        """E3: children that have children of their own end, with one slot for all."""

        @colour.task
        def fan(depth: int) -> Body[int]:
            if depth == 0:
                return 1
            results: list[int] = yield form(colour, fan.batch_trigger([depth - 1] * 3)).results()
            return sum(results)

        assert working.run(fan, 3) == 27

    def test_side_by_side(self, working: Flow) -> None:
        """Batches and single children that are waited for side by side, in both colours, end each with its own."""

        @task
        def child(number: int) -> int:
            return number

        @task
        def sync_parent() -> list[int]:
            waits: list[Any] = [child.bind(1).call, child.batch_trigger([2, 3]).results, child.trigger(4).result]
            return flowkit.each(waits, lambda wait: _total(wait()))

        @task
        async def async_parent() -> list[int]:
            batch = child.batch_trigger([2, 3])
            found = await flowkit.aio.gather(
                child.aio(1), batch.aio.results(), child.trigger(4).aio.result(), child.aio.trigger_and_wait(5)
            )
            return [_total(each) for each in found]

        assert working.run(sync_parent) == [1, 5, 4]
        assert working.run(async_parent) == [1, 5, 4, 5]

    def test_cancelling_a_parent_cancels_its_batch(self, working: Flow, colour: Colour) -> None:
        """E2: all children of a batch are cancelled with their parent, also those that have not begun."""

        @colour.task
        def child(number: int) -> Body[int]:
            yield colour.sleep("1h")
            return number

        @colour.task
        def parent() -> Body[None]:
            yield form(colour, child.batch_trigger(range(5))).results()

        handle = working.start(parent.options(run_id="p"))
        eventually(lambda: len(working.runs(task=child).runs) == 5)
        handle.cancel()
        with pytest.raises(RunCancelled):
            handle.result(timeout=PATIENCE_S)

        assert {header.status for header in working.runs(task=child)} == {RunStatus.CANCELLED}

    def test_messages_for_others_do_not_end_a_wait(self, store: Store, colour: Colour) -> None:
        """E1: a run that is sent other things while it waits for its children goes on waiting for them."""

        @colour.task
        def child(number: int) -> Body[int]:
            yield (flowkit.aio if colour.awaits else flowkit).wait_for_event("go")
            return number

        @colour.task
        def parent() -> Body[list[int]]:
            results: list[int] = yield form(colour, child.batch_trigger([1, 2])).results()
            return results

        with Flow(store.storage()) as flow:
            handle = flow.start(parent.options(run_id="p"))
            for number in range(2):
                eventually(lambda number=number: len(flow.runs(task=child, status="waiting").runs) == 2 - number)  # type: ignore[misc]  # bound now
                flow.send_event("p", "noise", number)
                flow.send_event("p", "noise", number)
                flow.send_event(f"p/1.{number}", "go")
            assert handle.result(timeout=PATIENCE_S) == [1, 2]


def _total(found: object) -> int:
    if isinstance(found, RunResult):
        return int(found.unwrap())
    return sum(found) if isinstance(found, list) else int(found)  # type: ignore[call-overload]  # a number


class TestUndos:
    """G1: triggered children have undos too."""

    def test_children_that_were_waited_for_are_undone(self, working: Flow, colour: Colour) -> None:
        """G1: children that have succeeded are undone newest first when their parent fails, each once."""
        undone: list[object] = []

        @colour.task
        def child(number: int) -> Body[str]:
            yield from ()
            return f"r{number}"

        @child.compensate
        def undo(result: str, number: int) -> None:
            undone.append((result, number))

        @colour.task(attempts=1)
        def parent() -> Body[None]:
            handle = child.trigger(1)
            yield form(colour, handle).result()
            yield form(colour, handle).wait_for_completion()
            batch = child.batch_trigger([2, 3])
            yield form(colour, batch).results()
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            working.run(parent)

        assert undone == [("r3", 3), ("r2", 2), ("r1", 1)]

    def test_undone_after_a_crash(self, store: Store, colour: Colour) -> None:
        """G3: a rollback of children that a crash has cut short goes on where it was."""
        undone: list[object] = []
        crashes = [Crash()]

        @colour.task
        def child(number: int) -> Body[int]:
            yield from ()
            return number

        @child.compensate
        def undo(number: int) -> None:
            if number == 2 and crashes:
                raise crashes.pop()
            undone.append(number)

        @colour.task(attempts=1)
        def parent() -> Body[None]:
            yield form(colour, child.batch_trigger([1, 2, 3])).results()
            raise ValueError("no")

        with Flow(store.storage()) as flow, pytest.raises(ValueError, match="no"):
            flow.start(parent.options(run_id="p")).result(timeout=PATIENCE_S)

        assert not crashes
        assert undone == [3, 2, 1]


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
