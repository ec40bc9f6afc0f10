"""Virtual time: the clock, the event loop, and runs that wait."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from datetime import UTC, datetime

import pytest

from flowkit import Flow, aio, sleep, step, task, work
from flowkit.errors import ResultTimeout
from flowkit.records import RunStatus
from flowkit_testing import FakeClock, Harness
from flowkit_testing.virtual_loop import VirtualLoop


@step
def note(text: str) -> str:
    """A step."""
    return text


@task
def later(text: str) -> str:
    """Waits for ten days on the way."""
    note("before")
    sleep("10d")
    return note(text)


class TestFakeClock:
    """`FakeClock` by itself."""

    def test_sleeping_takes_no_time(self) -> None:
        """It is there at once."""
        clock, began = FakeClock(), time.monotonic()
        before_ms = clock.now_ms()
        clock.sleep(86_400)
        assert clock.now_ms() - before_ms == 86_400_000
        assert time.monotonic() - began < 60

    def test_tiny_sleeps_add_up(self) -> None:
        """Time below a millisecond is not lost."""
        clock = FakeClock()
        before_ms = clock.now_ms()
        for _ in range(1000):
            clock.sleep(0.0001)
        assert clock.now_ms() - before_ms == 100

    def test_advance_and_read(self) -> None:
        """Durations are given as everywhere; time never goes back."""
        clock = FakeClock(0)
        clock.advance("1d")
        assert clock.now() == datetime(1970, 1, 2, tzinfo=UTC)
        clock.move_to(0)
        assert clock.now_ms() == 86_400_000
        assert "1970-01-02" in repr(clock)

    async def test_sleepers_on_any_loop_wake_in_order(self) -> None:
        """Also on an ordinary event loop, deadlines are met in their order."""
        clock, woken = FakeClock(), list[int]()

        async def nap(seconds: int) -> None:
            await clock.sleep_async(seconds)
            woken.append(seconds)

        before_ms = clock.now_ms()
        await asyncio.gather(nap(300), nap(100), nap(200))
        assert woken == [100, 200, 300]
        assert clock.now_ms() - before_ms == 300_000

    async def test_a_cancelled_sleeper_is_passed_over(self) -> None:
        """Others do not wait for one that is gone."""
        clock = FakeClock()
        before_ms = clock.now_ms()
        gone = asyncio.ensure_future(clock.sleep_async(50))
        await asyncio.sleep(0)
        gone.cancel()
        await clock.sleep_async(100)
        assert clock.now_ms() - before_ms == 100_000


class TestVirtualLoop:
    """The event loop whose time is virtual."""

    def test_asyncio_sleeps_are_virtual(self) -> None:
        """`asyncio.sleep` and `asyncio.timeout` share the clock with `clock.sleep_async`."""
        clock, order = FakeClock(), list[str]()

        async def nap(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            order.append(name)

        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(nap("b", 7200))
                group.create_task(nap("a", 3600))
                await clock.sleep_async(5000)
                order.append("clock")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(60):
                    await asyncio.Event().wait()

        before_ms = clock.now_ms()
        _run(clock, main)
        assert order == ["a", "clock", "b"]
        assert clock.now_ms() - before_ms == 7_260_000

    def test_threads_are_waited_for(self) -> None:
        """While a thread is at work for the loop, time stands still."""
        clock, release = FakeClock(), threading.Event()

        async def main() -> str:
            at_work = asyncio.ensure_future(asyncio.to_thread(release.wait, 60))
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(release.set)
            done, _ = await asyncio.wait(
                {at_work, asyncio.ensure_future(asyncio.sleep(30))}, return_when="FIRST_COMPLETED"
            )
            return "thread" if at_work in done else "timer"

        before_ms = clock.now_ms()
        assert _run(clock, main) == "thread"
        assert clock.now_ms() == before_ms

    def test_the_network_is_waited_for(self) -> None:
        """So is a socket that may still answer."""
        clock = FakeClock()

        async def main() -> bytes:
            here, there = socket.socketpair()
            reader, writer = await asyncio.open_connection(sock=here)
            threading.Thread(target=there.sendall, args=(b"answer",)).start()
            try:
                async with asyncio.timeout(30):
                    return await reader.read(6)
            finally:
                writer.close()
                there.close()

        assert _run(clock, main) == b"answer"


def _run(clock: FakeClock, main: object) -> object:
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        return runner.run(main())  # type: ignore[operator]  # an async function


class TestWaitingRuns:
    """Runs that wait, in a test that moves the clock."""

    def test_run_waits_as_long_as_it_takes(self, harness: Harness) -> None:
        """`harness.run` lets all the time pass that the run needs."""
        before_ms = harness.clock.now_ms()
        run = harness.run(later, "after")
        assert run.output == "after"
        assert harness.clock.now_ms() - before_ms == 10 * 86_400_000

    def test_start_lets_no_time_pass(self, harness: Harness) -> None:
        """A run that was started goes on when the test moves the clock, and not before."""
        run = harness.start(later, "after")
        assert run.status is RunStatus.WAITING
        assert run.calls("note") == 1
        harness.clock.advance("9d")
        assert run.status is RunStatus.WAITING
        harness.clock.advance("2d")
        assert run.output == "after"

    def test_handles_wait_in_virtual_time(self, harness: Harness) -> None:
        """Whoever waits for a result lets the runs go on meanwhile."""
        handle = later.trigger("after")
        with pytest.raises(ResultTimeout):
            handle.result(timeout="1d")
        assert handle.result(timeout="30d") == "after"
        assert harness.report(handle.id).ok

    def test_a_task_called_by_the_test(self, harness: Harness) -> None:
        """Calling a task runs it in the harness's flow."""
        assert later("after") == "after"
        assert isinstance(harness.flow, Flow)
        [header] = harness.flow.runs()
        assert harness.report(header.run_id).calls("note") == 2

    def test_parallel_timers(self, harness: Harness) -> None:
        """Timers side by side take as long as the longest."""

        @task
        async def naps() -> None:
            await asyncio.gather(aio.sleep("3d"), aio.sleep("1d"), aio.sleep("2d"))

        before_ms = harness.clock.now_ms()
        assert harness.run(naps).ok
        assert harness.clock.now_ms() - before_ms == 3 * 86_400_000

    def test_side_work_of_a_month(self, harness: Harness) -> None:
        """Side work that outlasts its task by a month takes no time either."""

        @step
        async def archive() -> str:
            return "archived"

        @task
        async def lets_go() -> str:
            work(archive)
            return "done"

        harness.delay(archive, "30d")
        run = harness.run(lets_go)
        assert run.output == "done"
        run.assert_calls(archive=1)
