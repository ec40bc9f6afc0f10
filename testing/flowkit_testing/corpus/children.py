"""Tasks inside tasks."""

from __future__ import annotations

import asyncio

from flowkit import NonRetryable, aio, sleep, task
from flowkit_testing.corpus.case import Case
from flowkit_testing.corpus.steps import add, add_later, broken, flaky


@task(id="corpus-child")
def child(number: int) -> int:
    """Two steps."""
    return add(add(number, 1), 1)


@task(id="corpus-napping-child")
def napping_child(number: int) -> int:
    """A step, a day, a step."""
    number = add(number, 1)
    sleep("1d")
    return add(number, 1)


@task(id="corpus-failing-child")
def failing_child(number: int) -> int:
    """Fails after a step."""
    return broken(add(number, 1))


@task(id="corpus-async-child")
async def async_child(number: int) -> int:
    """Two async steps."""
    return await add_later(await add_later(number, 1), 1)


@task(id="corpus-async-napping-child")
async def async_napping_child(number: int, nap: str) -> int:
    """An async step, a while, a step."""
    number = await add_later(number, 1)
    await aio.sleep(nap)
    return add(number, 1)


@task(id="corpus-parent")
def parent(number: int) -> int:
    """Children in a row."""
    return add(child(number), child(number + 10))


@task(id="corpus-grandparent")
def grandparent(number: int) -> int:
    """Children of children."""
    return add(parent(number), parent(number))


@task(id="corpus-waiting-parent")
def waiting_parent(number: int) -> int:
    """A child that waits for a day."""
    return add(napping_child(number), flaky(number))


@task(id="corpus-rescuing-parent")
def rescuing_parent(number: int) -> int:
    """A child that fails."""
    try:
        return failing_child(number)
    except NonRetryable:
        return add(number, 100)


@task(id="corpus-failing-parent")
def failing_parent(number: int) -> int:
    """A child that fails, and its parent with it."""
    return failing_child(add(number, 1))


@task(id="corpus-async-parent")
async def async_parent(number: int) -> int:
    """Sync and async children of an async parent."""
    number = await async_child(number)
    number = await child.aio(number)
    return child(number)


@task(id="corpus-gathering-parent")
async def gathering_parent(number: int) -> list[int]:
    """Children side by side."""
    return list(await asyncio.gather(async_child(number), async_child(number + 10), add_later(number, 5)))


@task(id="corpus-napping-parent")
async def napping_parent(number: int) -> list[int]:
    """Children side by side that wait for days, beside a timer of the parent's own."""
    return list(
        await asyncio.gather(
            async_napping_child(number, "2d"),
            async_napping_child(number + 1, "1d"),
            add_later(number, 5),
            _nap(),
        )
    )


async def _nap() -> int:
    return 0


@task(id="corpus-triggering-parent")
def triggering_parent(number: int) -> int:
    """A run that is left to itself."""
    child.trigger(number)
    return add(number, 1)


CASES = (
    Case(parent, (1,)),
    Case(grandparent, (1,)),
    Case(waiting_parent, (1,)),
    Case(rescuing_parent, (1,)),
    Case(failing_parent, (1,), fails=Exception),
    Case(async_parent, (1,)),
    Case(gathering_parent, (1,)),
    Case(napping_parent, (1,)),
    Case(triggering_parent, (1,)),
)
