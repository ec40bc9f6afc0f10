"""E3: batches of children, waited for durably."""

from typing import Any

import pytest

import flowkit
import flowkit.run
from flowkit import Flow, RunCancelled, RunResult, RunStatus, Task, task
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, Crash, FakeClock, Store, Wire, at_once, crash_once, eventually


def _total(found: object) -> int:
    if isinstance(found, RunResult):
        return int(found.unwrap())
    return sum(found) if isinstance(found, list) else int(found)  # type: ignore[call-overload]  # a number


def numbered(colour: Colour) -> Task[[int], int]:
    """A child that gives back its number."""

    @colour.task
    def child(number: int) -> Body[int]:
        yield from ()
        return number

    return child


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
            results: list[RunResult[int]] = yield colour.form(batch).wait_for_completion()
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
            results: list[int] = yield colour.form(child.batch_trigger(range(4))).results()
            return results

        with pytest.raises(ValueError, match="1"):
            working.run(parent.options(run_id="p"))
        broken.clear()

        assert working.retry("p").result(timeout=PATIENCE_S) == [0, 1, 2, 3]
        assert sorted(ran) == [0, 1, 1, 2, 3, 3]

    @pytest.mark.parametrize("items", [[], [7]], ids=["empty", "cached"])
    def test_what_has_ended_already(self, working: Flow, colour: Colour, items: list[int]) -> None:
        """E3: an empty batch, and one whose runs were all there before, end at once."""
        child = numbered(colour)

        @colour.task
        def parent() -> Body[list[int]]:
            batch = child.batch_trigger(child.options(run_id=f"c{number}").bind(number) for number in items)
            results: list[int] = yield colour.form(batch).results()
            return results

        for number in items:
            working.start(child.options(run_id=f"c{number}"), number).result(timeout=PATIENCE_S)

        assert working.run(parent) == items

    def test_made_in_one_change(self, wire: Wire, store: Store, colour: Colour) -> None:
        """A batch of children is one commit, and waking up for them is not one for each."""
        child = numbered(colour)

        @colour.task
        def parent() -> Body[int]:
            results: list[int] = yield colour.form(child.batch_trigger(range(100))).results()
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

        @colour.task(queue="children")
        def child(number: int) -> Body[int]:
            result: int = yield effect(number)
            return result

        @colour.task
        def parent() -> Body[list[int]]:
            batch = child.batch_trigger([1, 2, 3])
            if len(crashes) == 2:
                raise crashes.pop()
            results: list[int] = yield colour.form(batch).results()
            if crashes:
                raise crashes.pop()
            again: list[int] = yield colour.form(batch).results()
            return [*results, *again]

        crash_once(store, parent, run_id="p")
        with Flow(store.storage(), queues=["children"]) as second:
            with pytest.raises(Crash):
                second.run(parent.options(run_id="p"))
            assert second.run(parent.options(run_id="p")) == [1, 2, 3, 1, 2, 3]
            assert len(second.runs(task=child).runs) == 3
        assert not crashes
        assert sorted(ran) == [1, 2, 3]

    def test_outcomes_are_safe_from_retention(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """E3: a child that is forgotten before its parent looks has told its end in a message."""
        child = numbered(colour)

        @colour.task
        def parent() -> Body[list[int]]:
            batch = child.batch_trigger([1, 2])
            yield colour.sleep("2d")
            results: list[int] = yield colour.form(batch).results()
            return results

        with Flow(store.storage(), clock=clock, retention=None) as flow:
            flow.start(parent.options(run_id="p"))
            eventually(lambda: len(flow.runs(task=child, status="succeeded").runs) == 2)
            eventually(lambda: flow.handle("p").status() is RunStatus.WAITING)
            clock.advance(days=1)
            assert flow.prune(older_than="1h") == 2

        assert store.flow(clock=clock).run(parent.options(run_id="p")) == [1, 2]

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
        """The awaitable forms outside of a task; what can be walked only once makes a batch too."""

        @task
        async def child(number: int) -> int:
            return number

        async with Flow(store.storage()):
            batch = await child.aio.batch_trigger(number for number in [1, 2])
            assert await batch.aio.results(timeout=PATIENCE_S) == [1, 2]
            assert [result.ok for result in await batch.aio.wait_for_completion()] == [True, True]
            assert (await child.aio.trigger_and_wait(3)).unwrap() == 3

    def test_nested(self, working: Flow, colour: Colour) -> None:
        """E3: children that have children of their own end, with one slot for all."""

        @colour.task
        def fan(depth: int) -> Body[int]:
            if depth == 0:
                return 1
            results: list[int] = yield colour.form(fan.batch_trigger([depth - 1] * 3)).results()
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
            yield colour.form(child.batch_trigger(range(5))).results()

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
            results: list[int] = yield colour.form(child.batch_trigger([1, 2])).results()
            return results

        with Flow(store.storage()) as flow:
            handle = flow.start(parent.options(run_id="p"))
            for number in range(2):
                eventually(lambda number=number: len(flow.runs(task=child, status="waiting").runs) == 2 - number)  # type: ignore[misc]  # bound now
                flow.send_event("p", "noise", number)
                flow.send_event("p", "noise", number)
                flow.send_event(f"p/1.{number}", "go")
            assert handle.result(timeout=PATIENCE_S) == [1, 2]
