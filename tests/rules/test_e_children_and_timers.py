"""E3 and E4: nested tasks and timers."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import flowkit
from flowkit import Flow, NonRetryable, RunStatus, UsageError, step, task
from flowkit.durations import Duration
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, Crash, FakeClock, Store, crash_once, eventually
from tests.rules.effects import in_a_row, noting, refusing


class TestChildren:
    """E3."""

    def test_a_child_is_a_run_of_its_own(self, flow: Flow, colour: Colour) -> None:
        """E3: a task called in a task runs as a child: listed, with its parent, an id of its own and its result."""

        @colour.task
        def child(number: int) -> Body[int]:
            yield from ()
            return number + 1

        @colour.task
        def parent() -> Body[int]:
            first: int = yield child(1)
            second: int = yield child(first)
            return second

        assert flow.run(parent.options(run_id="p")) == 3

        headers = flow.runs(task=child).runs
        assert len({header.run_id for header in headers}) == 2
        assert {header.parent for header in headers} == {"p"}
        assert {header.status for header in headers} == {RunStatus.SUCCEEDED}
        assert sorted(flow.handle(header.run_id).result() for header in headers) == [2, 3]

    def test_too_deep_is_told(self, working: Flow) -> None:
        """E3: before Python's recursion limit ends it anywhere; triggered, tasks go as deep as they like."""

        @task
        def called(more: int) -> int:
            return 1 + called(more - 1) if more else 0

        @task
        def triggered(more: int) -> int:
            return 1 + triggered.trigger_and_wait(more - 1).unwrap() if more else 0

        assert working.run(called, 30) == 30
        with pytest.raises(UsageError, match=r"recursion limit.*trigger_and_wait"):
            working.run(called.options(run_id="deep"), 300)
        assert working.handle("deep").status() is RunStatus.FAILED
        assert working.run(triggered, 100) == 100

    def test_ids_follow_from_the_parent(self, memory: Store, disk: Store, colour: Colour) -> None:
        """E3: a child's id follows from its parent's run and the call, so two machines agree on it."""

        @colour.task
        def child() -> Body[None]:
            yield from ()

        @colour.task
        def parent() -> Body[None]:
            yield child()
            yield child.options(key="named")()

        ids: list[set[str]] = []
        for flow in (memory.flow(), disk.flow()):
            flow.run(parent.options(run_id="p"))
            ids.append({header.run_id for header in flow.runs(task=child).runs})

        assert ids[0] == ids[1]
        assert len(ids[0]) == 2

    def test_a_child_exists_once(self, store: Store, colour: Colour) -> None:
        """E3: a parent that is replayed finds its completed child done, and goes on with one that was in flight."""
        ran: list[str] = []
        crashes = [Crash(), Crash()]
        effect = noting(colour, ran)

        @colour.task
        def child(name: str, *, dies: bool) -> Body[str]:
            first: str = yield effect(f"{name}1")
            if dies and crashes:
                raise crashes.pop()
            second: str = yield effect(f"{name}2")
            return first + second

        @colour.task
        def parent() -> Body[str]:
            a: str = yield child("a", dies=False)
            b: str = yield child("b", dies=True)
            return a + b

        for _ in range(2):
            crash_once(store, parent, run_id="p")
        flow = store.flow()

        assert flow.run(parent.options(run_id="p")) == "a1a2b1b2"
        assert ran == ["a1", "a2", "b1", "b2"]
        assert len(flow.runs(task=child).runs) == 2

    def test_a_failed_child_raises_in_its_parent(self, store: Store, colour: Colour) -> None:
        """E3: a child's error arrives in its parent as itself, live and on replay, and the child's run has failed."""
        seen: list[tuple[object, ...]] = []
        ran: list[str] = []
        crashes = [Crash()]

        @colour.task(attempts=1)
        def child() -> Body[None]:
            yield from ()
            ran.append("child")
            raise ValueError("child", 5)

        @colour.task
        def parent() -> Body[str]:
            try:
                yield child()
            except ValueError as error:
                seen.append((type(error), error.args, getattr(error, "__notes__", None)))
            if crashes:
                raise crashes.pop()
            return "handled"

        crash_once(store, parent, run_id="p")
        flow = store.flow()

        assert flow.run(parent.options(run_id="p")) == "handled"
        assert ran == ["child"]
        assert seen[0][:2] == (ValueError, ("child", 5))
        assert seen[0] == seen[1]
        assert [header.status for header in flow.runs(task=child).runs] == [RunStatus.FAILED]

    def test_one_slot_is_enough(self, store: Store, colour: Colour) -> None:
        """E3: a worker with one slot runs parents whose children have children."""

        @colour.task
        def leaf(number: int) -> Body[int]:
            yield colour.sleep(0.001)
            return number

        @colour.task
        def middle(number: int) -> Body[int]:
            return int((yield leaf(number))) + 1

        @colour.task
        def root(number: int) -> Body[int]:
            return int((yield middle(number))) + 1

        with Flow(store.storage(), concurrency=1) as flow:
            handles = [flow.start(root, number) for number in range(5)]
            assert [handle.result(timeout=PATIENCE_S) for handle in handles] == [2, 3, 4, 5, 6]

    def test_children_side_by_side(self, store: Store) -> None:
        """E3: children under `asyncio.gather` run side by side, and each once, whatever crashes."""
        ran: list[int] = []
        crashes = [Crash()]

        @step
        async def effect(number: int) -> int:
            ran.append(number)
            return number

        @task
        async def child(number: int) -> int:
            return await effect(number) + await effect(number + 100)

        @task
        async def parent() -> int:
            total = sum(await asyncio.gather(*(child(number) for number in range(5))))
            if crashes:
                raise crashes.pop()
            return total

        crash_once(store, parent, run_id="p")

        assert store.flow().run(parent.options(run_id="p")) == 520
        assert sorted(ran) == [0, 1, 2, 3, 4, 100, 101, 102, 103, 104]

    def test_colours_of_children_mix(self, flow: Flow) -> None:
        """E3: an async parent may have a sync child, called plainly or through `.aio`."""

        @task
        def sync_child(number: int) -> int:
            return number + 1

        @task
        async def async_child(number: int) -> int:
            return number + 2

        @task
        async def parent() -> list[int]:
            return [sync_child(1), await sync_child.aio(1), await async_child(1), await async_child.aio(1)]

        assert flow.run(parent) == [2, 2, 3, 3]

    def test_retry_of_the_parent_goes_on_in_the_child(self, flow: Flow, colour: Colour) -> None:
        """E3: after `flow.retry` of the parent the failed child goes on, and its completed steps do not run again."""
        ran: list[str] = []
        broken = {"b"}
        effect = noting(colour, ran, refusing(broken), attempts=1)
        child = in_a_row(colour, effect, "a", "b")

        @colour.task
        def parent() -> Body[str]:
            before: str = yield effect("0")
            after: str = yield child()
            return before + after

        with pytest.raises(NonRetryable, match="b"):
            flow.run(parent.options(run_id="p"))
        broken.clear()
        flow.retry("p")

        assert flow.run(parent.options(run_id="p")) == "0ab"
        assert ran == ["0", "a", "b", "b"]


class TestTimers:
    """E4."""

    @pytest.mark.parametrize("hours", [1, 24 * 400])
    def test_a_timer_does_not_start_over(self, store: Store, clock: FakeClock, colour: Colour, hours: int) -> None:
        """E4: a process that takes over a run that sleeps waits for the rest of the time only."""
        woke: list[int] = []

        @colour.task
        def body() -> Body[str]:
            yield colour.sleep(timedelta(hours=hours))
            woke.append(clock.ms)
            return "awake"

        start = clock.ms
        for _ in range(2):
            with Flow(store.storage(), clock=clock) as flow:
                handle = flow.start(body.options(run_id="r"))
                eventually(lambda handle=handle: handle.status() is RunStatus.WAITING)  # type: ignore[misc]  # bound now
            clock.advance(hours=hours / 4)

        assert store.flow(clock=clock).run(body.options(run_id="r")) == "awake"
        assert woke == [start + hours * 3_600_000]

    def test_a_timer_that_came_due_meanwhile_does_not_wait(
        self, store: Store, clock: FakeClock, colour: Colour
    ) -> None:
        """E4: when nothing was running as the timer came due, whoever opens the storage next goes on at once."""

        @colour.task
        def body() -> Body[str]:
            yield colour.sleep("1h")
            return "awake"

        with Flow(store.storage(), clock=clock) as flow:
            handle = flow.start(body.options(run_id="r"))
            eventually(lambda: handle.status() is RunStatus.WAITING)
        clock.advance(hours=5)
        slept = list(clock.slept)

        with Flow(store.storage(), clock=clock) as flow:
            assert flow.handle("r").result(timeout=PATIENCE_S) == "awake"
        assert clock.slept == slept

    @pytest.mark.parametrize("duration", [7200, 7200.0, timedelta(hours=2), "2h", "1h60m"], ids=str)
    def test_durations(self, store: Store, clock: FakeClock, colour: Colour, duration: Duration) -> None:
        """E4: a duration is seconds, a `timedelta` or text."""

        @colour.task
        def body() -> Body[None]:
            yield colour.sleep(duration)

        start = clock.ms
        store.flow(clock=clock).run(body)

        assert clock.ms - start == 7_200_000

    def test_sleep_until(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """E4: `sleep_until` wakes at the time it names, in whatever zone; a time that has passed does not wait."""
        when = datetime.fromtimestamp(clock.ms / 1000, UTC) + timedelta(days=3)
        until: Callable[[datetime], Any] = flowkit.aio.sleep_until if colour.awaits else flowkit.sleep_until
        woke: list[int] = []

        @colour.task
        def body() -> Body[None]:
            yield until(when)
            woke.append(clock.ms)
            yield until(when - timedelta(days=1))
            woke.append(clock.ms)

        start = clock.ms
        store.flow(clock=clock).run(body)

        assert woke == [start + 3 * 86_400_000] * 2

    def test_a_time_without_a_zone_is_refused(self, flow: Flow, colour: Colour) -> None:
        """E4: `sleep_until` asks for a time zone, since a bare time means something else on each machine."""
        until: Callable[[datetime], Any] = flowkit.aio.sleep_until if colour.awaits else flowkit.sleep_until

        @colour.task
        def body() -> Body[None]:
            yield until(datetime(2030, 1, 1))  # noqa: DTZ001  # what is refused

        with pytest.raises((flowkit.FlowkitError, ValueError), match="zone"):
            flow.run(body)

    def test_short_sleeps_resume_too(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """E4: a sleep of less than a second that was cut short by a crash does not start over."""
        woke: list[int] = []

        @colour.task
        def body() -> Body[None]:
            yield colour.sleep(0.8)
            woke.append(clock.ms)

        def die(_seconds: float) -> None:
            raise Crash

        start = clock.ms
        clock.on_sleep = die
        flow = store.flow(clock=clock)
        with pytest.raises(Crash):
            flow.run(body.options(run_id="r"))
        flow.close()
        clock.on_sleep = None
        clock.advance(milliseconds=500)
        store.flow(clock=clock).run(body.options(run_id="r"))

        assert woke == [start + 800]

    def test_timers_side_by_side(self, store: Store, clock: FakeClock) -> None:
        """E4: timers that run side by side come due each at its own time, the first one first."""
        woke: dict[str, int] = {}

        @task
        async def body() -> None:
            async def nap(name: str, call: Any) -> None:  # noqa: ANN401  # a coroutine
                await call
                woke.setdefault(name, clock.ms)

            await asyncio.gather(
                nap("two", flowkit.aio.sleep("2h")),
                nap("one", flowkit.aio.sleep("1h")),
            )

        start = clock.ms
        store.flow(clock=clock).run(body)

        assert list(woke.items()) == [("one", start + 3_600_000), ("two", start + 7_200_000)]
