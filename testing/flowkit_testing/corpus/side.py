"""Lines of calls side by side: gather, each, and side work."""

from __future__ import annotations

from flowkit import NonRetryable, aio, current_run, each, emit, gather, saga, sleep, step, task, wait_for_work, work
from flowkit_testing.corpus.case import Case
from flowkit_testing.corpus.sagas import book
from flowkit_testing.corpus.steps import add, add_later, broken, flaky


@task(id="corpus-nap-then-add")
def nap_then_add(number: int) -> int:
    """A child that waits longer than its parent stays in memory."""
    sleep("1h")
    return add(number, 1)


def twice(number: int) -> int:
    """A helper that calls two steps."""
    return add(add(number, 1), 1)


async def twice_later(number: int) -> int:
    """An async helper that calls two steps."""
    return await add_later(await add_later(number, 1), 1)


@step
def note(text: str) -> str:
    """Side work that succeeds."""
    return text


@task(id="corpus-gathered")
def gathered(number: int) -> tuple[int, ...]:
    """Steps and a failure side by side."""
    sums = gather(add.bind(number, 1), add.bind(number, 2), max_concurrency=1)
    mixed = gather(add.bind(number, 3), broken.bind(number), max_concurrency=1, return_exceptions=True)
    return (*sums, len(mixed))


@task(id="corpus-each")
def for_each(number: int) -> list[int]:
    """A helper for each item."""
    return each([number, number + 1], twice, max_concurrency=1)


@task(id="corpus-gathered-naps")
def gathered_naps(number: int) -> tuple[int, ...]:
    """Lines that wait long, one behind the other."""
    return gather(nap_then_add.bind(number), add.bind(number, 1), max_concurrency=1)


@task(id="corpus-gathered-async")
async def gathered_async(number: int) -> tuple[int, ...]:
    """Bound calls and coroutines of helpers side by side."""
    return await aio.gather(add_later.bind(number, 1), twice_later(number), aio_naps(number))


async def aio_naps(number: int) -> int:
    """A helper that waits long."""
    await aio.sleep("2h")
    return await add_later(number, 5)


@task(id="corpus-gather-undone")
def gather_undone(number: int) -> int:
    """What a failed line leaves behind is undone with the rest."""
    with saga("trip"):
        gather(book.bind("flight"), book.bind("hotel"), broken.bind(number), max_concurrency=1)
    return number


@task(id="corpus-work")
def side_work(number: int) -> int:
    """Work that succeeds, work that fails, and one convergence."""
    work(note, "begun")
    total = add(number, 1)
    wait_for_work()
    work(broken, number)
    return total


@task(id="corpus-work-async")
async def side_work_async(number: int) -> int:
    """Async work beside async steps."""
    work(add_later, number, 1)
    total = await add_later(number, 2)
    await aio.wait_for_work()
    return total


@task(id="corpus-work-must")
def work_must(number: int) -> int:
    """Work that must succeed, and does not."""
    work(broken, number)
    wait_for_work(fail_on_error=True)
    return number


@step
def emitting(number: int) -> int:
    """A step that emits while it is tried, and fails at first."""
    emit("trying", current_run().attempt)
    return flaky(number)


@task(id="corpus-items")
def items(number: int) -> int:
    """Items of the task, of a step that is tried twice, and of side work."""
    emit("begun", {"number": number})
    number = emitting(number)
    emit("half way")
    work(emitting, number)
    wait_for_work()
    emit("done")
    return number


@task(id="corpus-items-async")
async def items_async(number: int) -> int:
    """Items beside a timer, and in a `finally`."""
    try:
        emit("begun", number)
        await aio.sleep("1h")
        return await add_later(number, 1)
    finally:
        emit("left")


CASES = (
    Case(items, (1,), racing=True),
    Case(items_async, (1,)),
    Case(gathered, (1,)),
    Case(for_each, (1,)),
    Case(gathered_naps, (1,)),
    Case(gathered_async, (1,), racing=True),
    Case(gather_undone, (1,), fails=NonRetryable),
    Case(side_work, (1,), racing=True),
    Case(side_work_async, (1,), racing=True),
    Case(work_must, (1,), fails=NonRetryable),
)
