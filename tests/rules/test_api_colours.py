"""What api.md says of the two colours, and of code outside a run."""

import asyncio
import random
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import flowkit
from flowkit import (
    Flow,
    OutsideRun,
    WrongColour,
    current_run,
    step,
    task,
)
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, Store


async def _await(call: Any) -> Any:  # noqa: ANN401  # any awaitable
    return await call


class TestOutside:
    """Outside a run."""

    def test_a_step_is_just_its_function(self) -> None:
        """api.md: outside a run a step is just its function: no retries, no storage, the same objects."""
        ran: list[str] = []
        held = object()

        @step(attempts=5, at_most_once=True, timeout=5)
        def effect(what: object) -> object:
            ran.append("effect")
            return what

        @step
        async def async_effect(what: object) -> object:
            ran.append("async")
            return what

        @step(attempts=5)
        def fail() -> None:
            ran.append("fail")
            raise OSError("no")

        assert effect(held) is held
        assert effect.options(key="k")(held) is held
        assert asyncio.run(_await(async_effect(held))) is held
        assert asyncio.run(_await(effect.aio(held))) is held
        assert step.run("inline", lambda: held) is held
        with pytest.raises(OSError, match="no") as caught:
            fail()
        assert not getattr(caught.value, "__notes__", [])
        assert ran == ["effect", "effect", "async", "effect", "fail"]

    def test_facts_are_real(self) -> None:
        """api.md: outside a run `now`, `uuid4` and `rng` are real, and `current_run` is a stand-in."""
        before = datetime.now(UTC)  # noqa: TID251  # what the real one is held against
        assert before - timedelta(seconds=1) <= flowkit.now() <= before + timedelta(minutes=5)
        assert flowkit.now().tzinfo is not None
        made = [flowkit.uuid4() for _ in range(3)]
        assert len(set(made)) == 3
        assert all(isinstance(each, uuid.UUID) for each in made)
        assert isinstance(flowkit.rng(), random.Random)
        assert flowkit.rng().random() != flowkit.rng().random()
        assert len({current_run().idempotency_key for _ in range(3)}) == 3
        assert current_run().attempt == 1
        assert flowkit.patched("new") is True

    @pytest.mark.parametrize("name", ["sleep", "sleep_until"])
    def test_timers_say_that_they_need_a_run(self, name: str) -> None:
        """api.md: outside a run a timer raises an error that says so, in both colours."""
        argument: Any = 1 if name == "sleep" else datetime(2030, 1, 1, tzinfo=UTC)

        with pytest.raises(OutsideRun, match=name):
            getattr(flowkit, name)(argument)
        with pytest.raises(OutsideRun, match=name):
            asyncio.run(_await(getattr(flowkit.aio, name)(argument)))

    def test_a_step_between_runs_is_outside(self, flow: Flow, colour: Colour) -> None:
        """api.md: when a run is over, the code after it is outside again."""

        @colour.step
        def effect() -> str:
            return current_run().id

        @colour.task
        def body() -> Body[str]:
            return str((yield effect()))

        assert flow.run(body.options(run_id="r")) == "r"
        with pytest.raises(OutsideRun):
            flowkit.sleep(0)


class TestColours:
    """The wrong colour."""

    def test_the_error_names_the_right_form(self, flow: Flow) -> None:
        """api.md: a timer that would block an async task is refused, with the form to use."""
        blocking: dict[str, Callable[[], object]] = {
            "flowkit.aio.sleep": lambda: flowkit.sleep(1),
            "flowkit.aio.sleep_until": lambda: flowkit.sleep_until(flowkit.now()),
        }
        for right, call in blocking.items():

            @task
            async def body(call: Callable[[], object] = call) -> None:
                call()

            with pytest.raises(WrongColour, match=right.removesuffix("_until").replace(".", r"\.")):
                flow.run(body)

    def test_an_async_call_in_a_sync_task(self, flow: Flow) -> None:
        """api.md: an async step called in a sync task is refused, rather than a coroutine that nobody awaits."""

        @step
        async def effect() -> int:
            return 1

        @task
        async def child() -> int:
            return 1

        @task
        def calls_step() -> object:
            return effect()

        @task
        def calls_child() -> object:
            return child()

        @task
        def calls_sleep() -> object:
            return flowkit.aio.sleep(1)

        for body in (calls_step, calls_child, calls_sleep):
            with pytest.raises(WrongColour):
                flow.run(body)

    def test_run_refuses_to_block_an_event_loop_or_works(self, store: Store) -> None:
        """api.md: inside a running event loop `await flow.aio.run(...)` runs tasks of both colours."""
        flow = store.flow()

        @task
        def plain(number: int) -> int:
            return number

        @task
        async def awaited(number: int) -> int:
            return number

        async def main() -> list[int]:
            return [
                await flow.aio.run(plain, 1),
                await flow.aio.run(awaited, 2),
                *await asyncio.gather(*(flow.aio.run(awaited, number) for number in (3, 4))),
                await awaited(5),
                await plain.aio(6),
            ]

        assert asyncio.run(main()) == [1, 2, 3, 4, 5, 6]

    def test_a_sync_step_plainly_in_an_async_task(self, flow: Flow) -> None:
        """api.md: a sync step called plainly in an async task runs on its thread, through `.aio` on another."""
        threads: list[threading.Thread] = []

        @step
        def effect() -> None:
            threads.append(threading.current_thread())

        @task
        async def body() -> threading.Thread | None:
            effect()
            await effect.aio()
            threads.append(threading.current_thread())
            return None

        flow.run(body)

        assert threads[0] is threads[2]
        assert threads[1] is not threads[0]

    def test_sync_steps_side_by_side(self, flow: Flow) -> None:
        """api.md: sync steps through `.aio` run at the same time, on threads."""
        barrier = threading.Barrier(3, timeout=PATIENCE_S)

        @step
        def effect(number: int) -> int:
            barrier.wait()
            return number

        @task
        async def body() -> list[int]:
            return list(await asyncio.gather(*(effect.aio(number) for number in range(3))))

        assert flow.run(body) == [0, 1, 2]

    def test_a_sync_task_with_an_event_loop_of_its_own(self, flow: Flow) -> None:
        """api.md: a sync step may use asyncio inside itself."""

        @step
        def effect() -> int:
            return int(asyncio.run(_await(asyncio.sleep(0, 5))))

        @task
        def body() -> int:
            return effect()

        assert flow.run(body) == 5
