"""I3 and I4: a replay is held against the record, and sees outcomes in their order."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from flowkit import (
    NonDeterminismError,
    ReplayWarning,
    RunBlocked,
    RunStatus,
    Task,
    step,
    task,
)
from tests.rules.colours import Body, Colour
from tests.rules.conftest import Crash, Store, crash_once


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
        made["step sleep"] = colour.step(name="sleep")(lambda: None)
        made["sleep"] = lambda: colour.sleep(0.001)
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
            (["alpha", "sleep"], ["alpha", "step sleep"]),  # another kind of the same name
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

    def test_code_that_fails_before_what_is_recorded_blocks_the_run(self, store: Store, colour: Colour) -> None:
        """I3, G1: it cannot be rolled back, for nobody knows the undos of what it has not called again."""
        world, broken, crashes = ["reserved"], [OSError("no settings")], [Crash()]

        @colour.step
        def reserve() -> None: ...

        @reserve.compensate
        def release() -> None:
            world.remove("reserved")

        @colour.task(attempts=1)
        def body() -> Body[str]:
            if broken and not crashes:
                raise broken[0]
            yield reserve()
            if crashes:
                raise crashes.pop()
            return "done"

        crash_once(store, body)
        flow = store.flow()
        with pytest.raises(NonDeterminismError, match=r"no settings.*before it had called.*'reserve'"):
            flow.run(body.options(run_id="r"))
        assert flow.handle("r").status() is RunStatus.BLOCKED
        assert world == ["reserved"]

        broken.clear()
        flow.retry("r")
        assert flow.run(body.options(run_id="r")) == "done"

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
