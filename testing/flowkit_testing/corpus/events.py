"""Runs that wait to be told something."""

from __future__ import annotations

import asyncio
from typing import cast

from flowkit import EventTimeout, Flow, aio, current_run, each, sleep, step, task, wait_for_event
from flowkit.active import active_flow
from flowkit_testing.corpus.case import Case
from flowkit_testing.corpus.steps import add, add_later


@step
def tell(run_id: str, name: str, payload: int) -> None:
    """Send an event from a step."""
    cast("Flow", active_flow()).send_event(run_id, name, payload)


@task(id="corpus-teller")
def teller(run_id: str, numbers: list[int]) -> None:
    """Sends events, one after an hour."""
    for number in numbers:
        tell(run_id, "number", number)
    sleep("1h")
    tell(run_id, "last", 0)


@task(id="corpus-told")
def told(number: int) -> list[int]:
    """Waits that are answered, before and after they begin, and one that is not."""
    teller.trigger(current_run().id, [number, number + 1])
    got = [wait_for_event("number", type=int)]
    try:
        wait_for_event("nothing", timeout="2h")
    except EventTimeout:
        got.append(add(number, 10))
    return [*got, wait_for_event("number", type=int), wait_for_event("last", type=int)]


@task(id="corpus-told-async")
async def told_async(number: int) -> list[int]:
    """Waits side by side, beside a timer and a step."""
    teller.trigger(current_run().id, [number])
    one, two, three, _ = await asyncio.gather(
        aio.wait_for_event("last", type=int),
        aio.wait_for_event("number", type=int),
        add_later(number, 1),
        aio.sleep("30m"),
    )
    return [one, two, three]


@task(id="corpus-told-lines")
def told_lines(number: int) -> list[int]:
    """Waits in lines of their own."""
    teller.trigger(current_run().id, [number])
    return each(["last", "number"], lambda name: wait_for_event(name, type=int), max_concurrency=1)


CASES = (
    Case(told, (1,)),
    Case(told_async, (1,)),
    Case(told_lines, (1,)),
)
