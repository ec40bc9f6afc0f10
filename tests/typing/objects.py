"""The types of what the decorators make, held by mypy and pyright alike; nothing here is run."""

from collections.abc import Callable, Sequence
from typing import Any, assert_type

import flowkit
from flowkit import AsyncStep, AsyncTask, Flow, Retry, RunHandle, RunInfo, RunStatus, Step, Task, step, task
from flowkit.records import RunHeader


@step
def plain(number: int, *, word: str = "") -> str:
    """A plain step."""
    return word * number


@step
async def awaited(number: int, /) -> list[str]:
    """An async step."""
    return [str(number)]


@step(name="named", attempts=2, at_most_once=True, timeout=1.5)
def plain_with_options(number: int, /) -> float:
    """A plain step with options."""
    return float(number)


@step(retry=Retry(delay=0))
async def awaited_with_options() -> None:
    """An async step with options."""


@task
def plain_task(number: int, word: str = "") -> bytes:
    """A plain task."""
    return (word * number).encode()


@task(id="typed", queue="slow", tags=["a"], timeout="1h")
async def awaited_task(words: Sequence[str], /) -> set[str]:
    """An async task with options."""
    return set(words)


class Shop:
    """A class with a durable method."""

    @step
    def price(self, item: str) -> int:
        """What something costs."""
        return len(item)

    @step
    async def order(self, item: str, *, count: int = 1) -> bytes:
        """Order something."""
        return count * item.encode()


def kinds() -> None:
    """A decorator makes one of four kinds, whether it has options or not, and `options` keeps the kind."""
    assert_type(awaited, AsyncStep[[int], list[str]])
    assert_type(plain_with_options, Step[[int], float])
    assert_type(awaited_with_options, AsyncStep[[], None])
    assert_type(awaited_task, AsyncTask[[Sequence[str]], set[str]])
    assert_type(plain_with_options.options(key="k", attempts=3), Step[[int], float])
    assert_type(awaited.options(timeout="1s"), AsyncStep[[int], list[str]])
    assert_type(awaited_task.options(run_id="r", delay=3, tags=("a",)), AsyncTask[[Sequence[str]], set[str]])
    assert_type(plain.name, str)
    assert_type(plain_task.id, str)


async def calls(shop: Shop) -> None:
    """A plain call gives the result, an async one is awaited for it, and so is `.aio` of either."""
    assert_type(plain(1, word="a"), str)
    assert_type(plain_with_options(1), float)
    assert_type(await awaited(1), list[str])
    assert_type(await plain.aio(1), str)
    assert_type(await awaited.aio(1), list[str])
    assert_type(plain_task(1), bytes)
    assert_type(await awaited_task(["a"]), set[str])
    assert_type(await plain_task.aio(1, "a"), bytes)
    assert_type(step.run("inline", lambda: 5), int)
    assert_type(step.run("inline", plain_with_options, 1), float)
    assert_type(await step.aio.run("inline", len, "a"), int)
    assert_type(step(name="in place", attempts=1)(len)("a"), int)
    assert_type(shop.price("book"), int)
    assert_type(await shop.order("book", count=2), bytes)
    assert_type(Shop.price(shop, "book"), int)


def either(any_step: Step[[int], str], any_task: Task[[int], str], flow: Flow) -> Callable[[int], str]:
    """The kinds can be named in annotations, and a plain one is a callable of its signature."""
    assert_type(any_step.options(key="k")(1), str)
    assert_type(any_task.trigger(1), RunHandle[str])
    assert_type(flow.start(any_task, 1).result(timeout="1s"), str)
    return any_step


async def handles(flow: Flow) -> None:
    """A handle knows what its run returns, in both colours."""
    handle = await plain_task.aio.trigger(1)
    assert_type(handle, RunHandle[bytes])
    assert_type(await handle.aio.result(timeout=1), bytes)
    assert_type((await handle.aio.wait_for_completion()).output, bytes | None)
    assert_type(await handle.aio.status(), RunStatus)
    assert_type(await handle.aio.cancel(), bool)
    assert_type(handle.id, str)
    assert_type(await (await flow.aio.start(awaited_task, ["a"])).aio.result(), set[str])
    assert_type(flow.handle("r"), RunHandle[Any])
    assert_type(flow.retry("r"), RunHandle[Any])
    assert_type(flow.fork("r", from_step="charge"), RunHandle[Any])
    assert_type(flow.cancel("r"), bool)
    assert_type(flow.prune(older_than="30d"), int)
    assert_type(flow.runs(task=plain_task).runs, tuple[RunHeader, ...])
    assert_type(flowkit.current_run(), RunInfo)
    assert_type(await flow.aio.run(plain_task, 1, word="a"), bytes)


def refused(flow: Flow, shop: Shop) -> None:
    """What both checkers must complain of: an ignore that is not needed is an error of its own."""
    plain.options(key=5)  # type: ignore[arg-type]  # a key is a text
    shop.price(1)  # type: ignore[arg-type]  # it takes a text
    plain.options(run_id="r")  # type: ignore[call-arg]  # a step is no run
    awaited_task(["a"], 5)  # type: ignore[call-arg, unused-coroutine]  # one argument too many
    flow.run(plain_task, "a")  # type: ignore[arg-type]  # no number
    flow.run(plain, 1)  # type: ignore[arg-type]  # a step is no task
    step.run("inline", plain_with_options)  # type: ignore[call-overload]  # the number is missing
    task(attempts="three")  # type: ignore[call-overload]  # no number
