"""I1 and I2: which call a record belongs to."""

import asyncio
import threading
import warnings
from collections.abc import Coroutine
from concurrent.futures import Executor
from typing import Any

import pytest

import flowkit
from flowkit import AmbiguousOrder, Flow, NotDurableWarning, step, task
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, Crash, Store, crash_once
from tests.rules.effects import noting


class TestOrdinals:
    """I1."""

    def test_the_ordinal_is_taken_by_the_call(self, store: Store) -> None:
        """I1: coroutines keep the order in which they were made, in whatever order they are scheduled."""
        ran: list[str] = []
        crashes = [Crash()]

        @step
        async def effect(name: str) -> str:
            ran.append(name)
            return name

        async def later(turns: int, call: Coroutine[Any, Any, str]) -> str:
            for _ in range(turns):
                await asyncio.sleep(0)
            return await call

        @task
        async def body() -> list[str]:
            first, second = (9, 0) if crashes else (0, 9)  # how the machine happens to schedule them
            results = await asyncio.gather(later(first, effect("a")), later(second, effect("b")))
            if crashes:
                raise crashes.pop()
            return list(results)

        crash_once(store, body)

        assert store.flow().run(body.options(run_id="r")) == ["a", "b"]
        assert ran == ["b", "a"]

    def test_gather_keeps_results_with_their_calls(self, store: Store) -> None:
        """I1: steps that finish in any order are answered on replay by call, not by completion."""
        crashes = [Crash()]
        gates: dict[int, asyncio.Event] = {}

        @step
        async def effect(number: int) -> int:
            if number < 3:
                await gates[number + 1].wait()  # the last call completes first
            if gates:
                gates[number].set()
            return number * 10

        @task
        async def body() -> list[int]:
            gates.update({number: asyncio.Event() for number in range(4)})
            results = await asyncio.gather(*(effect(number) for number in range(4)))
            if crashes:
                raise crashes.pop()
            return results

        crash_once(store, body)

        assert store.flow().run(body.options(run_id="r")) == [0, 10, 20, 30]

    def test_a_key_takes_the_place_of_the_ordinal(self, store: Store, colour: Colour) -> None:
        """I1: calls with a key may change places between a first run and its replay."""
        ran: list[str] = []
        crashes = [Crash()]

        @colour.step
        def effect(name: str) -> str:
            ran.append(name)
            return name.upper()

        @colour.task
        def body() -> Body[dict[str, str]]:
            results = {}
            for name in ("a", "b", "c") if crashes else ("c", "a", "b"):
                results[name] = yield effect.options(key=name)(name)
            if crashes:
                raise crashes.pop()
            return results

        crash_once(store, body)

        assert store.flow().run(body.options(run_id="r")) == {"a": "A", "b": "B", "c": "C"}
        assert ran == ["a", "b", "c"]

    def test_calls_with_a_key_do_not_count(self, store: Store, colour: Colour) -> None:
        """I1: a keyed call takes no ordinal, so the calls around it keep theirs when it moves."""
        crashes = [Crash()]

        @colour.step
        def effect(name: str) -> str:
            return name

        @colour.step
        def other(name: str) -> str:
            return name

        @colour.task
        def body() -> Body[list[str]]:
            results: list[str] = []
            if crashes:
                results.append((yield other.options(key="k")("k")))
            results.append((yield effect("a")))
            if not crashes:
                results.append((yield other.options(key="k")("k")))
            if crashes:
                raise crashes.pop()
            return results

        crash_once(store, body)

        assert store.flow().run(body.options(run_id="r")) == ["a", "k"]

    def test_a_key_is_unique_in_its_scope(self, flow: Flow, colour: Colour) -> None:
        """I1: the same key twice in one scope is an error that names it, and is not retried."""
        ran: list[str] = []
        effect = noting(colour, ran)

        @colour.task
        def body() -> Body[None]:
            ran.append("body")
            yield effect.options(key="twice")("a")
            yield effect.options(key="twice")("b")

        with pytest.raises(flowkit.FlowkitError, match="twice"):
            flow.run(body)

        assert ran == ["body", "a"]

    def test_the_same_key_in_two_scopes(self, flow: Flow, colour: Colour) -> None:
        """I1: a child run is a scope of its own, so its keys are its own."""

        @colour.step
        def effect(name: str) -> str:
            return name

        @colour.task
        def child() -> Body[str]:
            return str((yield effect.options(key="k")("child")))

        @colour.task
        def parent() -> Body[str]:
            first: str = yield effect.options(key="k")("parent")
            second: str = yield child()
            return first + second

        assert flow.run(parent) == "parentchild"

    def test_one_step_many_calls(self, flow: Flow, colour: Colour) -> None:
        """I1: one step called in a loop, and two steps of one name, are all calls of their own."""

        @colour.step(name="same")
        def effect(number: int) -> int:
            return number

        @colour.step(name="same")
        def other(number: int) -> int:
            return -number

        @colour.task
        def body() -> Body[list[int]]:
            results = []
            for number in range(5):
                results.append((yield effect(number)))
                results.append((yield other(number)))
            return results

        assert flow.run(body) == [0, 0, 1, -1, 2, -2, 3, -3, 4, -4]


class TestForeignTasks:
    """I2."""

    def test_gather_over_steps_is_fine(self, store: Store) -> None:
        """I2: `asyncio.gather` and `TaskGroup` over steps run side by side and resume after a crash."""
        ran: list[int] = []
        crashes = [Crash()]

        @step
        async def effect(number: int) -> int:
            ran.append(number)
            return number

        @task
        async def body() -> list[int]:
            first = await asyncio.gather(effect(1), effect(2))
            async with asyncio.TaskGroup() as group:
                second = [group.create_task(effect(number)) for number in (3, 4)]
            third = asyncio.create_task(effect(5))
            fourth = await asyncio.wait_for(effect(6), PATIENCE_S)
            async with asyncio.timeout(PATIENCE_S):
                fifth = await effect(7)
            done, _ = await asyncio.wait([third])
            sixth = [await each for each in asyncio.as_completed([effect(8)])]
            if crashes:
                raise crashes.pop()
            return [*first, *(each.result() for each in second), done.pop().result(), fourth, fifth, *sixth]

        crash_once(store, body)

        assert store.flow().run(body.options(run_id="r")) == [1, 2, 3, 4, 5, 6, 7, 8]
        assert sorted(ran) == [1, 2, 3, 4, 5, 6, 7, 8]

    def test_a_step_in_a_foreign_asyncio_task_is_refused(self, flow: Flow) -> None:
        """I2: a helper that calls steps in an asyncio task of its own is refused, and told what to use."""
        ran: list[str] = []

        @step
        async def effect(name: str) -> str:
            ran.append(name)
            return name

        async def helper(name: str) -> str:
            await asyncio.sleep(0)
            return await effect(name)

        @task
        async def body() -> list[str]:
            ran.append("body")
            return list(await asyncio.gather(helper("a"), helper("b")))

        with pytest.raises(AmbiguousOrder, match="gather"):
            flow.run(body)

        assert ran == ["body"]

    def test_a_call_returns_a_real_coroutine(self, flow: Flow) -> None:
        """I2: calling an async step gives a coroutine, which asyncio takes like any other."""
        seen: list[bool] = []

        @step
        async def effect() -> int:
            return 1

        @step
        def plain() -> int:
            return 2

        @task
        async def body() -> int:
            calls = [effect(), plain.aio()]
            seen.extend(asyncio.iscoroutine(call) for call in calls)
            return sum(await asyncio.gather(*calls))

        assert flow.run(body) == 3
        assert seen == [True, True]

    @pytest.mark.parametrize("how", ["thread", "executor", "to_thread"])
    def test_a_step_in_a_bare_thread_warns(self, flow: Flow, aside: Executor, how: str) -> None:
        """I2: a step that is called in a bare thread while its task runs warns that it is not durable."""
        warned: list[type[Warning]] = []

        @step
        def effect(name: str) -> str:
            return name

        def call() -> str:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                result = effect("a")
            warned.extend(each.category for each in caught)
            return result

        @task
        def body() -> str:
            if how == "executor":
                return aside.submit(call).result(PATIENCE_S)
            results: list[str] = []
            thread = threading.Thread(target=lambda: results.append(call()))
            thread.start()
            thread.join(PATIENCE_S)
            return results[0]

        @task
        async def async_body() -> str:
            return await asyncio.to_thread(call)

        assert flow.run(async_body if how == "to_thread" else body) == "a"
        assert warned == [NotDurableWarning]
