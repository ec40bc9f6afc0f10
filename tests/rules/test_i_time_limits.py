"""I4: asyncio's own time limits around steps pass on a replay where they passed the first time."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from flowkit import RunStatus, aio, replayed_limits, step, task
from flowkit_testing import Harness


@step
async def slowly(number: int, wait_s: float = 1000) -> int:
    """Give the number back after a while."""
    await asyncio.sleep(wait_s)
    return number


@step
async def note(number: int) -> int:
    """A step that is recorded after a time limit has passed."""
    return number


@step
async def last(number: int) -> int:
    """The step at which the process dies."""
    return number


@task
async def by_wait_for() -> list[int]:
    """`asyncio.wait_for` around a step."""
    try:
        await asyncio.wait_for(slowly(1), 100)
    except TimeoutError:
        return [await note(2), await last(3)]
    return []


@task
async def by_timeout() -> list[int]:
    """`asyncio.timeout` around steps, the first of which is in time."""
    try:
        async with asyncio.timeout(100):
            await note(1)
            await slowly(1)
    except TimeoutError:
        return [await note(2), await last(3)]
    return []


@task
async def by_wait() -> list[int]:
    """`asyncio.wait` with a time limit."""
    calls = [asyncio.ensure_future(slowly(1)), asyncio.ensure_future(note(1))]
    done, pending = await asyncio.wait(calls, timeout=100)
    found = [await note(len(done))]
    for call in pending:
        call.cancel()
    await asyncio.wait(pending)
    return [*found, await last(3)]


@task
async def by_the_inner() -> list[int]:
    """One time limit in another, which does not pass."""
    async with asyncio.timeout(500):
        try:
            await asyncio.wait_for(asyncio.gather(slowly(1), slowly(2)), 100)
        except TimeoutError:
            return [await note(2), await last(3)]
    return []


@task
async def side_by_side() -> list[int]:
    """Time limits in lines beside each other; the order in which these go on is part of the result."""
    order: list[int] = []

    async def within(limit_s: int) -> None:
        try:
            await asyncio.wait_for(slowly(limit_s), limit_s)
        except TimeoutError:
            order.append(await note(limit_s))

    async def beside() -> None:
        order.append(await slowly(300, 300))

    await aio.gather(within(200), beside(), within(100))
    return [*order, await last(3)]


TASKS = [by_wait_for, by_timeout, by_wait, by_the_inner, side_by_side]


@pytest.mark.parametrize("body", TASKS, ids=lambda body: body.id.rpartition(".")[2])
class TestAfterACrash:
    """I4: once something later is recorded, what a time limit has ended is not begun again."""

    def test_goes_the_same_way(self, body: Any, harness: Harness) -> None:  # noqa: ANN401  # a task
        """I4: the result is that of a run without a crash, and the step that was too slow runs once."""
        without = harness.run(body)
        harness.crash("last", at="before_effect")
        run = harness.run(body)
        assert run.output == without.output
        assert run.calls("last") == 2
        assert run.calls("slowly") == without.calls("slowly")

    def test_takes_no_time(self, body: Any, harness: Harness) -> None:  # noqa: ANN401  # a task
        """I4: a replay does not wait for a time limit that has passed the first time."""
        before_ms = harness.clock.now_ms()
        harness.run(body)
        took_ms = harness.clock.now_ms() - before_ms
        harness.crash("last", at="before_effect")
        before_ms = harness.clock.now_ms()
        harness.run(body)
        assert harness.clock.now_ms() - before_ms < took_ms + 90_000  # it waits for the lease of the process that died


class TestWhatIsNotOver:
    """D3 and X2: what has to run again does."""

    def test_in_flight(self, harness: Harness) -> None:
        """D3: a step within its time limit at a crash runs again."""

        @task
        async def body() -> int:
            async with asyncio.timeout(100):
                return await slowly(await note(1), 1)

        harness.crash("slowly", at="before_commit")
        run = harness.run(body)
        assert run.output == 1
        assert run.calls("slowly") == 2

    def test_made_to_run_again(self, harness: Harness) -> None:
        """X2: a step that a retry of the run has reopened runs again, although a time limit is around it."""
        broken = [True]

        @step
        async def mended() -> str:
            if broken:
                raise ValueError("broken")
            return "mended"

        @task(attempts=1)
        async def body() -> str:
            async def within() -> str:
                async with asyncio.timeout(100):
                    return await mended()

            async def beside() -> None:
                _ = await slowly(1, 10)
                _ = await note(2)

            found, _ = await aio.gather(within(), beside())
            return found

        run = harness.run(body)
        assert run.status is RunStatus.FAILED
        broken.clear()
        harness.flow.retry(run.run_id)
        harness.clock.advance("1s")
        assert run.output == "mended"

    def test_in_another_line(self, harness: Harness) -> None:
        """D3: a step in flight is begun again, although its time limit comes before the one that passed beside it."""

        @task
        async def body() -> list[int]:
            async def in_time() -> int:
                _ = await slowly(1, 30)
                return await asyncio.wait_for(slowly(2, 15), 25)

            async def late() -> int:
                try:
                    return await asyncio.wait_for(slowly(3), 40)
                except TimeoutError:
                    return await note(4) + await last(5)

            return list(await aio.gather(in_time(), late()))

        harness.crash("last", at="before_effect")
        run = harness.run(body)
        assert run.output == [2, 9]
        assert run.calls("slowly") == 4

    def test_code_that_goes_another_way(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        """I3: a body that goes from one time limit to the next and never comes to what is recorded is blocked."""
        monkeypatch.setattr(replayed_limits, "MOST_LIMITS", 20)
        changed = list[bool]()

        @step
        async def change() -> None:
            changed.append(True)

        @task
        async def body() -> int:
            while changed:
                with suppress(TimeoutError):
                    return await asyncio.wait_for(slowly(1, 1), 5)
            await change.options(key="changed")()
            return await last(3)

        harness.crash("last", at="before_effect")
        run = harness.run(body)
        assert run.status is RunStatus.BLOCKED
        assert run.calls("slowly") == 1

    @pytest.mark.parametrize("limit", [asyncio.timeout, None], ids=["timeout", "wait_for"])
    def test_around_a_long_wait(self, limit: Callable[[float], Any] | None, harness: Harness) -> None:
        """E1: a time limit that is about to pass does, around an operation that would let go of the run."""

        @task
        async def body() -> str:
            nap: Coroutine[Any, Any, None] = aio.sleep("1d")
            try:
                if limit is None:
                    await asyncio.wait_for(nap, 5)
                else:
                    async with limit(5):
                        await nap
            except TimeoutError:
                return "timed out"
            return "slept"

        assert harness.run(body).output == "timed out"
