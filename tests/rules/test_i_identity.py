"""I1 to I6: which call a record belongs to, and what the code between the steps may ask."""

import asyncio
import random
import threading
import uuid
import warnings
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any

import pytest

import flowkit
from flowkit import (
    AmbiguousOrder,
    Flow,
    NonDeterminismError,
    NotAllowedInStep,
    NotDurableWarning,
    ReplayWarning,
    RunBlocked,
    RunStatus,
    Task,
    current_run,
    now,
    patched,
    rng,
    step,
    task,
    uuid4,
)
from tests.rules.conftest import PATIENCE_S, Body, Colour, Crash, FakeClock, Store, Wire


def crash_once(store: Store, body: Any, *args: object) -> None:  # noqa: ANN401  # a task of either colour
    """Run a task as `r` in a process that dies in it."""
    flow = store.flow()
    with pytest.raises(Crash):
        flow.run(body.options(run_id="r"), *args)
    flow.close()


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

        @colour.step
        def effect(name: str) -> str:
            ran.append(name)
            return name

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


class TestComparison:
    """I3."""

    def versions(self, colour: Colour, store: Store) -> Callable[..., Any]:
        """A task whose body can be replaced between runs; the first version crashes at its end."""
        del store

        def version(*calls: Any, crash: bool = False) -> Task[[], None]:  # noqa: ANN401  # steps of either colour
            @colour.task(id="rules-versions")
            def body() -> Body[None]:
                for call in calls:
                    yield call()
                if crash:
                    raise Crash

            return body

        return version

    @pytest.fixture
    def steps(self, colour: Colour) -> dict[str, Callable[[], Any]]:
        """Some steps, and a timer."""
        made: dict[str, Callable[[], Any]] = {}
        for name in ("alpha", "beta", "gamma"):
            made[name] = colour.step(name=name)(lambda: None)
        made["sleep"] = lambda: flowkit.aio.sleep(0.001) if colour.awaits else flowkit.sleep(0.001)
        return made

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (["alpha", "beta"], ["alpha", "gamma"]),  # another name
            (["alpha", "beta"], ["beta", "alpha"]),  # another order
            (["alpha", "beta"], ["alpha", "gamma", "beta"]),  # one more in between
            (["alpha", "beta"], ["beta"]),  # one less at the start
            (["alpha", "beta"], ["alpha"]),  # one less at the end
            (["alpha", "beta"], []),  # none at all
            (["alpha", "sleep"], ["alpha", "beta"]),  # another kind
            (["alpha", "beta"], ["alpha", "sleep"]),  # another kind
        ],
        ids=lambda calls: "-".join(calls) or "nothing",
    )
    def test_other_code_blocks_the_run(
        self,
        store: Store,
        colour: Colour,
        steps: dict[str, Callable[[], Any]],
        before: list[str],
        after: list[str],
    ) -> None:
        """I3: a body that calls something else than was recorded is blocked, and goes on when it is put right."""
        version = self.versions(colour, store)
        crash_once(store, version(*(steps[name] for name in before), crash=True))
        length = store.header("r").length

        flow = store.flow()
        with pytest.raises(NonDeterminismError) as caught:
            flow.run(version(*(steps[name] for name in after)).options(run_id="r"))

        different = next((name for name, other in zip(before, after, strict=False) if name != other), None)
        missing = different or before[len(after)]
        assert missing in str(caught.value)
        assert flow.handle("r").status() is RunStatus.BLOCKED
        assert store.header("r").length == length

        flow.retry("r")
        flow.run(version(*(steps[name] for name in before)).options(run_id="r"))
        assert flow.handle("r").status() is RunStatus.SUCCEEDED

    def test_the_error_tells_what_was_recorded_and_called(self, store: Store, colour: Colour) -> None:
        """I3: the error shows the recorded and the called name, and the run's id."""
        version = self.versions(colour, store)
        one, other = colour.step(name="fetch-page")(lambda: None), colour.step(name="read-page")(lambda: None)
        crash_once(store, version(one, crash=True))

        with pytest.raises(NonDeterminismError) as caught:
            store.flow().run(version(other).options(run_id="r"))

        for part in ("fetch-page", "read-page", "r"):
            assert part in str(caught.value)
        assert isinstance(caught.value, RunBlocked)

    def test_more_calls_at_the_end_are_fine(
        self, store: Store, colour: Colour, steps: dict[str, Callable[[], Any]]
    ) -> None:
        """I3: calls after the last recorded one are new work, not a difference."""
        version = self.versions(colour, store)
        crash_once(store, version(steps["alpha"], crash=True))

        flow = store.flow()
        flow.run(version(steps["alpha"], steps["beta"]).options(run_id="r"))

        assert flow.handle("r").status() is RunStatus.SUCCEEDED

    def test_catching_the_error_does_not_help(self, store: Store, colour: Colour) -> None:
        """I3: a body that catches the error and returns is blocked all the same."""
        crashing = [True]

        @colour.step(name="recorded")
        def one() -> None: ...

        @colour.step(name="called")
        def other() -> None: ...

        @colour.task
        def body() -> Body[str]:
            if crashing:
                yield one()
                raise Crash
            try:
                yield other()
            except Exception:  # noqa: BLE001  # what a careless user would write
                return "went on"
            return "did not notice"

        crash_once(store, body)
        crashing.clear()
        flow = store.flow()
        with pytest.raises(NonDeterminismError):
            flow.run(body.options(run_id="r"))

        assert flow.handle("r").status() is RunStatus.BLOCKED

    def test_a_blocked_run_stays_blocked(self, store: Store, colour: Colour) -> None:
        """I3: the handle of a blocked run raises `RunBlocked` with the reason, in other processes too."""
        version = self.versions(colour, store)
        one, other = colour.step(name="one")(lambda: None), colour.step(name="other")(lambda: None)
        crash_once(store, version(one, crash=True))
        flow = store.flow()
        with pytest.raises(NonDeterminismError) as caught:
            flow.run(version(other).options(run_id="r"))
        flow.close()

        handle = store.flow().handle("r")
        with pytest.raises(RunBlocked) as again:
            handle.result(timeout=0)
        assert str(again.value) == str(caught.value)
        outcome = handle.wait_for_completion(timeout=0)
        assert (outcome.ok, outcome.status) == (False, RunStatus.BLOCKED)

    def test_other_arguments_warn(self, store: Store, colour: Colour) -> None:
        """I3: a step that is called with other arguments on replay warns, and is answered from the journal."""
        crashes = [Crash()]

        @colour.step
        def effect(name: str, number: int = 0) -> str:
            return f"{name}{number}"

        @colour.task
        def body() -> Body[str]:
            result: str = yield effect("first" if crashes else "second")
            if crashes:
                raise crashes.pop()
            return result

        crash_once(store, body)

        with pytest.warns(ReplayWarning, match="effect"):
            assert store.flow().run(body.options(run_id="r")) == "first0"

    def test_the_same_arguments_do_not_warn(self, store: Store, colour: Colour) -> None:
        """I3: defaults spelled out, keywords instead of positions and what cannot be encoded are no difference."""
        crashes = [Crash()]

        @colour.step
        def effect(name: str, number: int = 0, *, session: object = None) -> str:
            assert session is not None
            return f"{name}{number}"

        @colour.task
        def body() -> Body[str]:
            if crashes:
                result: str = yield effect("a", session=object())
                raise crashes.pop()
            result = yield effect(number=0, name="a", session=object())
            return result

        crash_once(store, body)

        assert store.flow().run(body.options(run_id="r")) == "a0"


class TestDelivery:
    """I4."""

    def test_as_completed_decides_the_same(self, store: Store) -> None:
        """I4: on replay outcomes arrive in the order in which they were recorded, not in that of the calls."""
        orders: list[list[int]] = []
        crashes = [Crash(), Crash()]
        gates: dict[int, asyncio.Event] = {}

        @step
        async def effect(number: int) -> int:
            await gates[number].wait()
            return number

        @task
        async def body() -> None:
            order: list[int] = []
            gates.update({number: asyncio.Event() for number in range(4)})
            gates[2].set()
            for each in asyncio.as_completed([effect(number) for number in range(4)]):
                number = await each
                order.append(number)
                following = {2: 0, 0: 3, 3: 1}.get(number)
                if following is not None:
                    gates[following].set()
            orders.append(order)
            if crashes:
                raise crashes.pop()

        for _ in range(2):
            crash_once(store, body)
        store.flow().run(body.options(run_id="r"))

        assert orders == [[2, 0, 3, 1]] * 3

    def test_first_completed_decides_the_same(self, store: Store) -> None:
        """I4: a race that one side won is won by it on replay, though both are in the journal by then."""
        winners: list[str] = []
        crashes = [Crash()]

        @step
        async def quick() -> str:
            return "quick"

        @step
        async def slow(gate: object) -> str:
            assert isinstance(gate, asyncio.Event)
            await gate.wait()
            return "slow"

        @task
        async def body() -> str:
            gate = asyncio.Event()
            race = [asyncio.create_task(slow(gate)), asyncio.create_task(quick())]
            done, _ = await asyncio.wait(race, return_when=asyncio.FIRST_COMPLETED)
            winners.append("+".join(sorted(each.result() for each in done)))
            gate.set()
            await asyncio.wait(race)
            if crashes:
                raise crashes.pop()
            return winners[-1]

        crash_once(store, body)

        assert store.flow().run(body.options(run_id="r")) == "quick"
        assert winners == ["quick", "quick"]


class TestInsideAStep:
    """I5."""

    def test_other_steps_are_plain_functions(self, store: Store, flow: Flow, colour: Colour) -> None:
        """I5: a step called by a step, inline or not, runs as its function and records nothing of its own."""
        ran: list[str] = []

        @step
        def inner(name: str) -> str:
            ran.append(name)
            return name

        @colour.step
        def outer() -> str:
            return inner("plain") + step.run("inline", inner, "inline")

        @colour.step
        def alone() -> str:
            return ""

        @colour.task
        def nested() -> Body[str]:
            return str((yield outer()))

        @colour.task
        def flat() -> Body[str]:
            return str((yield alone()))

        assert flow.run(nested.options(run_id="nested")) == "plaininline"
        flow.run(flat.options(run_id="flat"))

        assert store.header("nested").length == store.header("flat").length
        assert ran == ["plain", "inline"]

    def test_async_steps_inside_async_steps(self, flow: Flow) -> None:
        """I5: an async step may await others, side by side too."""

        @step
        async def inner(number: int) -> int:
            return number

        @step
        async def outer() -> int:
            return sum(await asyncio.gather(inner(1), inner(2))) + await inner(3)

        @task
        async def body() -> int:
            return await outer()

        assert flow.run(body) == 6

    @pytest.mark.parametrize("operation", ["sleep", "sleep_until", "trigger"])
    def test_durable_operations_are_refused(self, flow: Flow, colour: Colour, operation: str) -> None:
        """I5: a durable operation inside a step is refused at once, and the error says what to do instead."""
        ran: list[str] = []

        @task
        def other() -> None:
            ran.append("other")

        operations: dict[str, Callable[[], object]] = {
            "sleep": lambda: flowkit.sleep(1),
            "sleep_until": lambda: flowkit.sleep_until(now()),
            "trigger": other.trigger,
        }

        @colour.step(attempts=3)
        def effect() -> None:
            ran.append("effect")
            operations[operation]()

        @colour.task(attempts=3)
        def body() -> Body[None]:
            yield effect()

        with pytest.raises(NotAllowedInStep) as caught:
            flow.run(body)

        assert operation.partition("_")[0] in str(caught.value)
        assert ran == ["effect"]

    def test_current_run_inside_a_step(self, flow: Flow, colour: Colour) -> None:
        """I5: a step may ask where it stands: run, task, attempt, and a key of its own."""
        seen: list[tuple[str, str, int]] = []
        keys: set[str] = set()

        @colour.step(attempts=2, retry=None)
        def effect() -> None:
            info = current_run()
            seen.append((info.id, info.task_id, info.attempt))
            keys.add(info.idempotency_key)

        @colour.task(id="rules-where")
        def body() -> Body[None]:
            keys.add(current_run().idempotency_key)
            yield effect()
            yield effect()

        flow.run(body.options(run_id="r"))

        assert seen == [("r", "rules-where", 1)] * 2
        assert len(keys) == 3


class TestFacts:
    """I6."""

    def test_they_are_the_same_on_every_replay(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """I6: `uuid4`, `rng` and `now` give on replay what they gave at first, whatever the time is by then."""
        seen: list[list[object]] = []
        crashes = [Crash(), Crash()]

        @colour.step
        def effect() -> None:
            clock.advance(seconds=7)

        @colour.task
        def body() -> Body[None]:
            facts: list[object] = [now(), uuid4(), rng().random()]
            yield effect()
            facts += [now(), uuid4(), [rng().randrange(10**9) for _ in range(3)], now()]
            seen.append(facts)
            if crashes:
                raise crashes.pop()

        for _ in range(2):
            flow = store.flow(clock=clock)
            with pytest.raises(Crash):
                flow.run(body.options(run_id="r"))
            flow.close()
            clock.advance(days=1)
        store.flow(clock=clock).run(body.options(run_id="r"))

        assert seen[0] == seen[1] == seen[2]

    def test_they_are_the_same_when_the_body_starts_over(self, flow: Flow, colour: Colour) -> None:
        """I6: a body that is started over after an error of its own sees the same facts."""
        seen: list[list[object]] = []

        @colour.task(retry=flowkit.Retry(attempts=2, delay=0))
        def body() -> Body[None]:
            yield from ()
            seen.append([uuid4(), rng().random()])
            if len(seen) == 1:
                raise OSError

        flow.run(body)

        assert seen[0] == seen[1]

    def test_they_differ_between_calls_and_runs(self, flow: Flow, colour: Colour) -> None:
        """I6: each call is another one, in one run and between runs, and of the right kind."""
        seen: list[uuid.UUID | float] = []

        @colour.task
        def body() -> Body[None]:
            yield from ()
            for _ in range(3):
                seen.extend([uuid4(), rng().random()])

        flow.run(body)
        flow.run(body)

        assert len(set(seen)) == 12
        assert all(each.version == 4 for each in seen if isinstance(each, uuid.UUID))

    def test_rng_is_a_generator_of_its_own(self, flow: Flow, colour: Colour) -> None:
        """I6: `rng()` gives a `random.Random` and leaves the global generator alone."""

        @colour.task
        def body() -> Body[bool]:
            yield from ()
            state = random.getstate()
            made = rng()
            made.random()
            return type(made) is random.Random and random.getstate() == state

        assert flow.run(body)

    def test_they_cost_no_write(self, store: Store, wire: Wire, colour: Colour) -> None:
        """I6: neither of them writes to the storage."""

        @colour.task
        def plain() -> Body[None]:
            yield from ()

        @colour.task
        def asking() -> Body[None]:
            yield from ()
            for _ in range(10):
                uuid4()
                rng()
                now()
                current_run()

        flow = store.flow(wire.storage)
        flow.run(plain)
        commits = wire.commits()
        flow.run(asking.options(run_id="r"))

        assert wire.commits() == 2 * commits

    def test_now_is_the_time_of_what_was_last_recorded(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """I6: `now` stands still between two records, and is never before an earlier `now`."""
        seen: list[float] = []

        @colour.step
        def effect() -> None:
            clock.advance(seconds=10)

        @colour.task
        def body() -> Body[None]:
            seen.append(now().timestamp())
            clock.advance(seconds=5)
            seen.append(now().timestamp())
            yield effect()
            seen.append(now().timestamp())

        start = clock.now_ms() / 1000
        store.flow(clock=clock).run(body)

        assert seen == [start, start, start + 15]

    def test_patched_keeps_old_runs_on_the_old_path(self, store: Store, colour: Colour) -> None:
        """I6: `patched` is False for a run that passed the line before the patch, True for a new one, for good."""
        ran: list[str] = []

        def version(*, has_patch: bool, crash: bool) -> Task[[], str]:
            @colour.step
            def old() -> str:
                ran.append("old")
                return "old"

            @colour.step
            def new() -> str:
                ran.append("new")
                return "new"

            @colour.task(id="rules-patched")
            def body() -> Body[str]:
                result: str = yield (new() if has_patch and patched("new-rule") else old())
                if crash:
                    raise Crash
                return result

            return body

        crash_once(store, version(has_patch=False, crash=True))
        crash_once(store, version(has_patch=True, crash=True))  # replayed with the new code
        flow = store.flow()
        assert flow.run(version(has_patch=True, crash=False).options(run_id="r")) == "old"

        with pytest.raises(Crash):
            flow.run(version(has_patch=True, crash=True).options(run_id="later"))
        assert flow.run(version(has_patch=True, crash=False).options(run_id="later")) == "new"
        assert ran == ["old", "new"]
