"""Several things at once."""

from __future__ import annotations

import asyncio

from flowkit import aio, task
from flowkit_testing.corpus.case import Case
from flowkit_testing.corpus.steps import add, add_later, broken_later, flaky_slowly, slowly


@task(id="corpus-gather")
async def gathered(number: int) -> list[int]:
    """`asyncio.gather` over steps."""
    return list(await asyncio.gather(*(add_later(number, item) for item in range(4))))


@task(id="corpus-gather-mixed")
async def gathered_mixed(number: int) -> list[int]:
    """Fast, slow, retried and threaded steps at once, and steps after them."""
    results = await asyncio.gather(
        slowly(number, 5), add_later(number, 1), flaky_slowly(number), add.aio(number, 2), slowly(number, 0.5)
    )
    return [*results, await add_later(number, 10)]


@task(id="corpus-gather-errors")
async def gathered_errors(number: int) -> list[str]:
    """Failures as results."""
    results = await asyncio.gather(broken_later(1), add_later(number, 1), broken_later(2), return_exceptions=True)
    return [repr(result) for result in results]


@task(id="corpus-gather-fails")
async def gathered_fails(number: int) -> list[int]:
    """One failure among others that take longer."""
    return list(await asyncio.gather(slowly(number, 5), broken_later(number), slowly(number, 0.1)))


@task(id="corpus-group")
async def grouped(number: int) -> list[int]:
    """A TaskGroup over steps."""
    async with asyncio.TaskGroup() as group:
        made = [group.create_task(slowly(number + item, item / 10)) for item in range(3)]
    return [task.result() for task in made]


@task(id="corpus-group-fails")
async def grouped_fails(number: int) -> str:
    """A TaskGroup one of whose steps fails."""
    message = ""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(slowly(number, 5))
            group.create_task(broken_later(number))
    except* ValueError as errors:
        message = str(len(errors.exceptions))
    return message + str(await add_later(number, 1))


@task(id="corpus-as-completed")
async def completed(number: int) -> list[int]:
    """`as_completed`: the order is that of the record."""
    return [
        await result
        for result in asyncio.as_completed([slowly(number, 3), slowly(number + 1, 1), slowly(number + 2, 2)])
    ]


@task(id="corpus-first")
async def first_completed(number: int) -> int:
    """`wait(FIRST_COMPLETED)`, then the next step depends on who won; the loser is awaited after that."""
    calls = [asyncio.ensure_future(slowly(number, 2)), asyncio.ensure_future(slowly(number + 1, 1))]
    done, pending = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    winner = await add_later(done.pop().result(), 100)
    for call in pending:
        winner += await call
    return winner


@task(id="corpus-cancels-loser")
async def cancels_loser(number: int) -> int:
    """The loser is cancelled."""
    calls = [asyncio.ensure_future(slowly(number, 20)), asyncio.ensure_future(slowly(number + 1, 1))]
    done, pending = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    for call in pending:
        call.cancel()
    await asyncio.wait(pending)
    return await add_later(done.pop().result(), 100)


@task(id="corpus-wait-for")
async def waited_for(number: int) -> list[int]:
    """`wait_for` that is in time, and one that is not."""
    found = [await asyncio.wait_for(slowly(number, 1), 10)]
    try:
        found.append(await asyncio.wait_for(slowly(number, 100), 10))
    except TimeoutError:
        found.append(await add_later(number, -1))
    return found


@task(id="corpus-time-limit")
async def limited(number: int) -> list[int]:
    """A long time limit around steps, the second of which does not make it; then one around what is in time."""
    found: list[int] = []
    try:
        async with asyncio.timeout(100):
            found.append(await slowly(number, 1))
            found.append(await slowly(number, 1000))
    except TimeoutError:
        found.append(await add_later(number, -1))
    async with asyncio.timeout(100):
        found.append(await slowly(number, 1))
    return found


@task(id="corpus-naps")
async def naps(number: int) -> int:
    """Long timers side by side."""
    await asyncio.gather(aio.sleep("3d"), aio.sleep("1d"), aio.sleep("2d"))
    return await add_later(number, 1)


@task(id="corpus-nap-and-work")
async def nap_and_work(number: int) -> list[int]:
    """A long timer beside steps, one of which is slow."""
    _, slow, quick = await asyncio.gather(aio.sleep("1h"), slowly(number, 30), add_later(number, 1))
    return [slow, quick, await add_later(quick, 1)]


CASES = (
    Case(gathered, (1,)),
    Case(gathered_mixed, (1,)),
    Case(gathered_errors, (1,)),
    Case(gathered_fails, (1,), fails=ValueError),
    Case(grouped, (1,)),
    Case(grouped_fails, (1,)),
    Case(completed, (1,), racing=True),
    Case(first_completed, (1,), racing=True),
    Case(cancels_loser, (1,), racing=True),
    Case(waited_for, (1,), racing=True),
    Case(limited, (1,), racing=True),
    Case(naps, (1,)),
    Case(nap_and_work, (1,)),
)
