"""I5 and I6: what a step may do inside, and what the code between the steps may ask."""

import asyncio
import random
import uuid
from collections.abc import Callable

import pytest

import flowkit
from flowkit import (
    Flow,
    NotAllowedInStep,
    Task,
    current_run,
    now,
    patched,
    rng,
    step,
    task,
    uuid4,
)
from tests.rules.colours import Body, Colour
from tests.rules.conftest import Crash, FakeClock, Store, Wire, crash_once


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
