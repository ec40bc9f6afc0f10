"""Steps that the workflows of the corpus are made of."""

from __future__ import annotations

import asyncio

from flowkit import NonRetryable, Retry, current_run, step

TWICE = 2
QUICK = Retry(attempts=3, delay=0.1, jitter=0)
SLOW = Retry(attempts=3, delay=60, jitter=0)


@step
def add(left: int, right: int) -> int:
    """Add."""
    return left + right


@step
async def add_later(left: int, right: int) -> int:
    """Add, awaited."""
    await asyncio.sleep(0)
    return left + right


@step
async def slowly(number: int, wait_s: float) -> int:
    """Give the number back after a while."""
    await asyncio.sleep(wait_s)
    return number


@step
def listed(*numbers: int) -> list[int]:
    """The numbers as a list."""
    return list(numbers)


@step(retry=QUICK)
def flaky(number: int) -> int:
    """Fail twice."""
    if current_run().attempt <= TWICE:
        raise ConnectionError(f"attempt {current_run().attempt}")
    return number


@step(retry=SLOW)
async def flaky_slowly(number: int) -> int:
    """Fail twice, with a minute between."""
    if current_run().attempt <= TWICE:
        raise ConnectionError(f"attempt {current_run().attempt}")
    return number


@step
def broken(number: int) -> int:
    """Fail for good."""
    raise NonRetryable(f"no {number}")


@step(attempts=1)
async def broken_later(number: int) -> int:
    """Fail for good, awaited."""
    await asyncio.sleep(0)
    raise ValueError(number)


@step(at_most_once=True)
def once(number: int) -> int:
    """Run at most once."""
    return number * 10


@step
def key_of() -> str:
    """The idempotency key that the step is given."""
    return current_run().idempotency_key
