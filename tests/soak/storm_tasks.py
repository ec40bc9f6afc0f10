"""What runs in the storm: sagas of which some fail, side work, children, timers, in both colours and under a limit."""

import asyncio
import os
from pathlib import Path

from flowkit import Concurrency, aio, gather, saga, sleep, step, task, wait_for_work, work
from flowkit_testing.auditor import EffectLog

LOG = EffectLog(Path(os.environ.get("FLOWKIT_STORM", ".")) / "effects")  # a client notes nothing


@step
def reserve(number: int) -> str:
    """Has an undo."""
    return LOG.note(f"reserve {number}")


@reserve.compensate
def release(token: str) -> None:
    """Undoes it."""
    LOG.note(f"release {token}")


@step
async def areserve(number: int) -> str:
    """Has an undo, too."""
    await asyncio.sleep(0.001)
    return LOG.note(f"reserve {number}")


@areserve.compensate
async def arelease(token: str) -> None:
    """Undoes it."""
    LOG.note(f"release {token}")


@step(attempts=1)
def ship(*, fails: bool) -> str:
    """The step that may fail for good."""
    token = LOG.note("ship")
    if fails:
        raise ValueError("no carrier")
    return token


@step
def use(*tokens: str) -> str:
    """Takes what others have given."""
    LOG.note("use")
    return tokens[0]


@task(id="storm-saga")
def saga_run(*, fails: bool) -> str:
    """Reserves, some of it in a saga of its own, and undoes it all if it cannot ship."""
    first = reserve(1)
    with saga("inner"):
        second = reserve(2)
    ship(fails=fails)
    return use(first, second)


@task(id="storm-async-saga")
async def async_saga_run(*, fails: bool) -> str:
    """The same, with three reservations at once."""
    tokens = await asyncio.gather(*(areserve(number) for number in range(3)))
    await ship.aio(fails=fails)
    return await use.aio(*tokens)


@task(id="storm-side")
def side_run(count: int) -> int:
    """Queues side work, some of which fails, and waits for it."""
    for number in range(count):
        work(ship, fails=number == 1)
    return sum(outcome.ok for outcome in wait_for_work())


@task(id="storm-child", concurrency=Concurrency(2, key=lambda number, *_: number % 2))
def child(number: int, whose: str = "parent") -> str:
    """A child, two at a time of each kind."""
    return use(reserve(number), whose)


@task(id="storm-parent")
def parent(count: int) -> int:
    """Children in its own place, and others that it leaves to the workers."""
    for number in range(count):
        child.trigger(number)
    return len(gather(*(child.bind(number) for number in range(count))))


@task(id="storm-batch")
def batch_run(count: int) -> int:
    """A batch of children that the workers share, and a wait for all of them."""
    return len(child.batch_trigger([child.bind(number, "batch") for number in range(count)]).results())


@task(id="storm-async-batch")
async def async_batch_run(count: int) -> int:
    """The same, awaited."""
    batch = await child.aio.batch_trigger([child.bind(number, "batch") for number in range(count)])
    return len(await batch.aio.results())


@task(id="storm-timer")
def timer_run() -> str:
    """Waits in place, and lets go to wait."""
    token = reserve(1)
    sleep(0.05)
    second = reserve(2)
    sleep(1.2)
    return use(token, second)


@task(id="storm-async-timer")
async def async_timer_run() -> str:
    """Waits for two timers at once."""
    await asyncio.gather(aio.sleep(0.05), aio.sleep(1.1))
    return await areserve(1)
