"""One thing after another."""

from __future__ import annotations

from datetime import UTC, datetime

from flowkit import NonRetryable, current_run, now, patched, rng, sleep, sleep_until, step, task, uuid4
from flowkit_testing.corpus.case import Case
from flowkit_testing.corpus.steps import (
    TWICE,
    add,
    add_later,
    broken,
    broken_later,
    flaky,
    flaky_slowly,
    key_of,
    listed,
    once,
    slowly,
)

ENOUGH = 10


@task(id="corpus-chain")
def chain(length: int) -> int:
    """Sync steps in a row."""
    total = 0
    for number in range(length):
        total = add(total, number)
    return total


@task(id="corpus-async-chain")
async def async_chain(length: int) -> int:
    """Async steps in a row."""
    total = 0
    for number in range(length):
        total = await add_later(total, number)
    return total


@task(id="corpus-mixed-chain")
async def mixed_chain(number: int) -> int:
    """Sync steps in an async task: plain, and on a thread."""
    number = add(number, 1)
    number = await add.aio(number, 2)
    number = await add_later(number, 3)
    return add(number, 4)


@task(id="corpus-retries")
def retries(number: int) -> list[int]:
    """Steps that fail twice."""
    return listed(flaky(number), add(number, 1), flaky(number + 1))


@task(id="corpus-long-retries")
async def long_retries(number: int) -> int:
    """A step that waits a minute between its attempts."""
    return add(await flaky_slowly(number), 1)


@task(id="corpus-nothing")
def nothing() -> None:
    """No steps at all."""


@task(id="corpus-fails")
def fails(number: int) -> int:
    """A step that fails for good."""
    return broken(add(number, 1))


@task(id="corpus-rescued")
def rescued(number: int) -> list[int]:
    """A failing step, and steps in the handler."""
    try:
        number = broken(number)
    except NonRetryable:
        number = add(number, 100)
    return listed(number, add(number, 1))


@task(id="corpus-rescued-async")
async def rescued_async(number: int) -> list[int]:
    """A failing async step, and steps in the handler."""
    try:
        number = await broken_later(number)
    except ValueError as error:
        number = await add_later(error.args[0], 100)
    return [number, await add_later(number, 1)]


@task(id="corpus-finally")
def with_finally(number: int) -> int:
    """A `finally` that calls a step while an error passes."""
    try:
        number = add(number, 1)
        return broken(number)
    finally:
        add(number, 10)


@task(id="corpus-finally-async")
async def with_finally_async(number: int) -> int:
    """An async `finally` that calls steps, and returns."""
    try:
        return await add_later(number, 1)
    finally:
        await add_later(number, 10)
        add(number, 20)


@task(id="corpus-body-error")
def body_error(number: int) -> int:
    """Code between the steps that fails twice, so that the task starts over (rule R1)."""
    number = add(number, 1)
    if current_run().attempt <= TWICE:
        raise RuntimeError(f"attempt {current_run().attempt}")
    return add(number, 2)


@task(id="corpus-body-error-async")
async def body_error_async(number: int) -> int:
    """As body_error, async."""
    number = await add_later(number, 1)
    if current_run().attempt == 1:
        raise RuntimeError(f"attempt {current_run().attempt}")
    return await add_later(number, 2)


@task(id="corpus-sleeps")
def sleeps(number: int) -> int:
    """Timers, short and long."""
    sleep(0.2)
    number = add(number, 1)
    sleep("3d")
    number = add(number, 1)
    sleep_until(datetime(2030, 1, 1, tzinfo=UTC))
    return add(number, 1)


@task(id="corpus-facts")
def facts(number: int) -> list[str]:
    """What is the same on every replay."""
    first, second = uuid4(), uuid4()
    drawn = rng().randint(0, 10**9)
    add(number, drawn)
    third = uuid4()
    at = now()
    add(number, 1)
    return [str(first), str(second), str(third), str(drawn), str(at < now() or at == now())]


@task(id="corpus-patched")
def with_patch(number: int) -> int:
    """A patched line."""
    number = add(number, 1)
    if patched("new-tax"):
        number = add(number, 1000)
    return add(number, 2)


@task(id="corpus-once")
def at_most_once(number: int) -> list[int]:
    """A step that never runs twice."""
    return listed(add(number, 1), once(number), add(number, 2))


@task(id="corpus-keys")
def keys(number: int) -> list[int]:
    """Calls with keys of their own."""
    return [add.options(key=f"order-{item}")(number, item) for item in range(3)]


@task(id="corpus-idempotency")
def idempotency() -> list[str]:
    """Keys that services are given."""
    return [key_of(), key_of(), key_of.options(key="mine")()]


def _double(number: int) -> int:
    return 2 * number


@task(id="corpus-inline")
def inline(number: int) -> int:
    """Inline steps around plain functions."""
    total = step.run("total", sum, [number, 1, 2])
    return step.run("double", _double, total)


@task(id="corpus-loop")
async def loop(number: int) -> int:
    """A loop that a result ends."""
    while (number := await add_later(number, 3)) < ENOUGH:
        await slowly(number, 5)
    return number


CASES = (
    Case(chain, (5,)),
    Case(async_chain, (5,)),
    Case(mixed_chain, (1,)),
    Case(retries, (1,)),
    Case(long_retries, (1,)),
    Case(nothing),
    Case(fails, (1,), fails=Exception),
    Case(rescued, (1,)),
    Case(rescued_async, (1,)),
    Case(with_finally, (1,), fails=Exception),
    Case(with_finally_async, (1,)),
    Case(body_error, (1,)),
    Case(body_error_async, (1,)),
    Case(sleeps, (1,)),
    Case(facts, (1,)),
    Case(with_patch, (1,)),
    Case(at_most_once, (1,)),
    Case(keys, (1,)),
    Case(idempotency),
    Case(inline, (1,)),
    Case(loop, (1,)),
)
