"""I2: calls in asyncio tasks and threads: which belong to the run, and which are refused."""

import asyncio
import contextvars
import threading

import pytest

from flowkit import AmbiguousOrder, NotDurableWarning, step, task
from flowkit_testing import Harness
from tests.promises.pages import load, two_pages


def test_a_foreign_asyncio_task_is_refused(harness: Harness) -> None:
    """I2: where the order would be ambiguous; the error says what to use."""

    @task
    async def reads() -> list[str]:
        async with asyncio.TaskGroup() as group:
            pages = [group.create_task(two_pages(book)) for book in "xy"]
        return [page for both in pages for page in both.result()]

    run = harness.run(reads)
    assert isinstance(run.error, ExceptionGroup)
    assert run.error.subgroup(AmbiguousOrder) is not None
    assert "aio.gather" in str(run.error.exceptions[0])
    run.assert_calls(load=0)


def test_asyncio_over_steps_is_fine(harness: Harness) -> None:
    """I2: `asyncio.gather(a(x), b(y))` and `TaskGroup.create_task(a(x))` have their numbers already."""

    @task
    async def reads() -> list[str]:
        first = await asyncio.gather(load("a"), load("b"))
        async with asyncio.TaskGroup() as group:
            pages = [group.create_task(load(page)) for page in "cd"]
        return [*first, *(page.result() for page in pages)]

    harness.explore(reads).assert_safe()
    harness.crash("load#4")
    run = harness.run(reads)
    assert run.output == ["page a", "page b", "page c", "page d"]


def test_a_call_is_a_coroutine(harness: Harness) -> None:
    """I2: a real one, whose number is taken already."""
    seen: list[bool] = []

    @task
    async def reads() -> str:
        call = load("a")
        seen.append(asyncio.iscoroutine(call))
        return await call

    assert harness.run(reads).ok
    assert set(seen) == {True}


def test_a_bare_thread_is_warned_of(harness: Harness) -> None:
    """I2: a step called there while a task of its module runs is a plain function, and says that it is not durable."""
    warned: list[type[Warning]] = []

    @step
    def keep(page: str) -> str:
        return f"kept {page}"

    def aside() -> None:
        with pytest.warns(NotDurableWarning, match="keep") as caught:
            keep("a")
        warned.extend(each.category for each in caught)

    @task
    def reads() -> None:
        thread = threading.Thread(target=contextvars.Context().run, args=(aside,))
        thread.start()
        thread.join()

    run = harness.run(reads)
    assert run.ok
    assert warned == [NotDurableWarning]
    assert run.journal == ()
