"""Events and timers: what is sent early, late, twice and never, by a step of the run itself or of another one."""

from __future__ import annotations

from typing import cast

from flowkit import EventTimeout, Flow, aio, current_run, gather, step, task, wait_for_event
from flowkit.active import active_flow
from flowkit_testing.corpus.case import Case
from flowkit_testing.corpus.steps import add, add_later


@step
def send(run_id: str, name: str, number: int) -> int:
    """Send an event; sent again after a crash it has the same id, so that it arrives once."""
    flow = cast("Flow", active_flow())
    flow.send_event(run_id, name, number, id=f"{name}-{number}")
    return number


@task(id="corpus-sender")
def sender(run_id: str, name: str, number: int) -> int:
    """A run that sends another one an event."""
    add(number, 1)
    send(run_id, name, number)
    return number


@task(id="corpus-event-early")
def early(number: int) -> list[int]:
    """Sent before they are awaited: received in order, one wait each."""
    me = current_run().id
    send(me, "go", number)
    send(me, "go", number + 1)
    add(number, 1)
    return [wait_for_event("go", type=int), wait_for_event("go", type=int)]


@task(id="corpus-event-late")
async def late(number: int) -> int:
    """Sent by another run while this one waits."""
    sender.options(delay="1h").trigger(current_run().id, "go", number)
    received = await aio.wait_for_event("go", type=int)
    return await add_later(received, 1)


@task(id="corpus-event-never")
def never(number: int) -> int:
    """The time is up, and what comes too late is for the next wait."""
    try:
        return wait_for_event("go", timeout="1h", type=int)
    except EventTimeout:
        add(number, 100)
    send(current_run().id, "go", number)
    return wait_for_event("go", timeout="1h", type=int)


@task(id="corpus-event-beside")
async def beside(number: int) -> list[int]:
    """Waits for two names, a timer and a step side by side."""
    me = current_run().id
    sender.options(delay="2h").trigger(me, "first", number)
    sender.options(delay="1h").trigger(me, "second", number + 1)

    async def line(name: str) -> int:
        received = cast("int", await aio.wait_for_event(name, type=int))
        return await add_later(received, 1)

    first, second, third = await aio.gather(line("first"), line("second"), add_later(number, 5))
    await aio.sleep("90m")
    return [first, second, third]


@task(id="corpus-event-lines")
def in_lines(number: int) -> tuple[int, ...]:
    """Lines on threads, one behind the other, that wait for children who were sent events."""
    return gather(waiter.bind(number), waiter.bind(number + 1), max_concurrency=1)


@task(id="corpus-event-waiter")
def waiter(number: int) -> int:
    """A child that waits for what another run sends it."""
    sender.options(delay="1h").trigger(current_run().id, "go", number)
    return wait_for_event("go", type=int)


CASES = (
    Case(early, (1,)),
    Case(late, (1,)),
    Case(never, (1,)),
    Case(beside, (1,), racing=True),
    Case(in_lines, (1,)),
)
