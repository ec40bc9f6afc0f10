"""The harness at work on small tasks."""

from __future__ import annotations

import asyncio

from flowkit import sleep, step, task
from flowkit_testing import Harness


@step
def reserve(order: str) -> str:
    return f"r-{order}"


@step
async def charge(order: str, reservation: str) -> str:
    await asyncio.sleep(3600)
    return f"p-{order}-{reservation}"


@step
def ship(order: str) -> str:
    return f"s-{order}"


@task
async def checkout(order: str) -> str:
    reservation = reserve(order)
    payment = await charge(order, reservation)
    return payment + ship(order)


@task
def plain(order: str) -> str:
    a = reserve(order)
    sleep("3d")
    b = ship(order)
    return a + b


def test_checkout_survives(harness: Harness) -> None:
    """Failing attempts are retried and a crash repeats only what was not recorded."""
    harness.fail("charge", error=TimeoutError("slow"), times=2)
    harness.crash("ship", at="after_effect")
    run = harness.run(checkout, "7")
    assert run.ok
    assert run.output == "p-7-r-7s-7"
    run.assert_calls(charge=3, ship=2, reserve=1)
    assert run.skips("reserve") == 1


def test_plain(harness: Harness) -> None:
    """A sync task sleeps for days in no time."""
    run = harness.run(plain, "7")
    assert run.ok, run.describe()
    run.assert_calls(reserve=1, ship=1)
    run.assert_skipped(reserve)


def test_fails(harness: Harness) -> None:
    """A failed run is reported, not raised."""
    harness.fail("ship", error=OSError("no carrier"))
    run = harness.run(plain, "7")
    assert isinstance(run.error, OSError)
    assert run.calls("ship") == 3
    assert run.calls("plain") == 0


def test_explore(harness: Harness) -> None:
    """A plain chain is safe at every point."""
    found = harness.explore(plain, "7")
    print(found)
    found.assert_safe()


def test_explore_async(harness: Harness) -> None:
    """A plain chain is safe at every point."""
    found = harness.explore(checkout, "7")
    print(found)
    found.assert_safe()
