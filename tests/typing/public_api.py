"""The types that users of the public API see, held by mypy and pyright alike; nothing here is run."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import assert_type
from uuid import UUID

import flowkit
from flowkit import (
    Batch,
    Concurrency,
    Cron,
    Flow,
    Item,
    Retry,
    RunHandle,
    RunResult,
    RunStatus,
    current_run,
    emit,
    now,
    on_rollback,
    patched,
    rng,
    saga,
    step,
    task,
    uuid4,
    wait_for_event,
)


@dataclass
class Order:
    """What is ordered."""

    id: str


@step
def reserve(order: Order, *, count: int = 1) -> str:
    """A plain step."""
    return order.id * count


@reserve.compensate
def release(reservation: str, order: Order) -> None:
    """Undo the plain step."""
    assert_type(reservation + order.id, str)


@step(name="charge-card", retry=Retry(attempts=5, on=(ConnectionError,)), timeout="10s")
async def charge(order: Order, reservation: str) -> int:
    """An async step with options."""
    return len(order.id + reservation)


@step(retry=lambda error, attempt: attempt * 0.5 if isinstance(error, OSError) else None)
def ship(order: Order) -> None:
    """A step with a policy of its own."""
    assert order.id


@task
def prepare(order: Order) -> str:
    """A plain task."""
    assert_type(reserve(order, count=2), str)
    assert_type(step.run("note", reserve, order), str)
    assert_type(prepare(order), str)
    assert_type(current_run().idempotency_key, str)
    assert_type(now(), datetime)
    assert_type(uuid4(), UUID)
    assert_type(rng(), Random)
    assert_type(patched("new-rule"), bool)
    with saga("stock"):
        on_rollback(release, "r", order)
    flowkit.sleep("3d")
    flowkit.sleep(timedelta(minutes=2))
    return reserve(order)


@task(id="process-order", attempts=3)
async def process(order: Order) -> list[int]:
    """An async task."""
    reservation = await reserve.aio(order)
    assert_type(reservation, str)
    assert_type(await charge(order, reservation), int)
    assert_type(await charge.aio(order, reservation), int)
    assert_type(await charge.options(key=order.id, timeout=3)(order, reservation), int)
    assert_type(await step.run("charge", charge, order, reservation), int)
    assert_type(await step.aio.run("reserve", reserve, order), str)
    assert_type(await prepare.aio(order), str)
    async with saga("payment"):
        on_rollback(charge, order, "r")
    await flowkit.aio.sleep(5)
    return [1]


@task(concurrency=3, cron="30 4 * * *", queue="nightly", timeout="2h", tags=["nightly"])
def nightly(tick: datetime) -> int:
    """A scheduled task with a limit."""
    return tick.year


def customer_of(order: Order) -> str:
    """A key."""
    return order.id


@task(concurrency=Concurrency(1, key=customer_of), cron=None)
async def limited(order: Order) -> str:
    """An async task with a limit for each key."""
    return order.id


@task(concurrency=Concurrency(limit=2), cron=Cron("@daily", tz="Europe/Berlin"))
def daily(number: int = 0) -> int:
    """A schedule with a zone."""
    return number


def workers(flow: Flow) -> None:
    """A worker of a program's own."""
    worker = flow.worker(queues=["default", "mail"], concurrency=5, liveness="alive")
    assert_type(worker.run(grace="10s"), bool)
    assert_type(worker.stop(3.0), bool)
    assert_type(flow.run(nightly, now()), int)
    assert_type(limited.trigger(Order("a")), RunHandle[str])
    assert_type(flow.run(daily, 3), int)


def from_outside(flow: Flow, order: Order) -> None:
    """What a program does with tasks."""
    assert_type(flow.run(prepare, order), str)
    assert_type(flow.run(process, order), list[int])
    handle = flow.start(process.options(run_id="order-42", delay="1h", priority=5, tags=["vip"]), order)
    assert_type(handle, RunHandle[list[int]])
    assert_type(prepare.trigger(order), RunHandle[str])
    assert_type(handle.status(), RunStatus)
    assert_type(handle.result(timeout=30), list[int])
    result = handle.wait_for_completion(timeout="1m")
    assert_type(result, RunResult[list[int]])
    assert_type(result.unwrap(), list[int])
    assert_type(result.output, list[int] | None)


def batches(order: Order) -> None:
    """Runs of their own."""
    assert_type(prepare.trigger_and_wait(order), RunResult[str])
    batch = prepare.batch_trigger([order, order])
    assert_type(batch, Batch[str])
    assert_type(batch.handles, list[RunHandle[str]])
    assert_type(batch.results(), list[str])
    assert_type(batch.wait_for_completion(min_successful=1, tolerated_failures=0), list[RunResult[str]])
    assert_type(prepare.batch_trigger([prepare.bind(order)]), Batch[str])
    assert_type(process.batch_trigger([order]), Batch[list[int]])
    prepare.batch_trigger(["order"])  # type: ignore[list-item]  # no Order


async def batches_awaited(order: Order) -> None:
    """The same, awaited."""
    assert_type(await process.aio.trigger_and_wait(order), RunResult[list[int]])
    batch = await process.aio.batch_trigger([order])
    assert_type(batch, Batch[list[int]])
    assert_type(await batch.aio.results(), list[list[int]])
    assert_type(await batch.aio.wait_for_completion(timeout=5), list[RunResult[list[int]]])


def told(flow: Flow) -> None:
    """Events and items."""
    assert_type(wait_for_event("approval", timeout="7d", type=Order), Order)
    assert_type(wait_for_event("anything"), object)
    assert_type(flow.send_event("r", "approval", Order("a"), id="once"), bool)
    emit("progress", {"done": 1})
    for item in flow.handle("r").items(after=5, follow=True):
        assert_type(item, Item)
        assert_type(item.data, object)


async def told_awaited(flow: Flow) -> None:
    """The same, awaited."""
    assert_type(await flowkit.aio.wait_for_event("approval", type=Order), Order)
    assert_type(await flow.aio.send_event("r", "approval"), bool)
    async for item in flow.handle("r").aio.items():
        assert_type(item.at, datetime)


async def from_outside_awaited(flow: Flow, order: Order) -> None:
    """What an async program does with tasks."""
    assert_type(await flow.aio.run(prepare, order), str)
    assert_type(await process(order), list[int])
    assert_type(await process.aio.trigger(order), RunHandle[list[int]])
    assert_type(await (await flow.aio.start(prepare, order)).aio.result(), str)


def refused(flow: Flow, order: Order) -> None:
    """What the checkers must complain of: an ignore that is not needed is an error of its own."""
    reserve("order")  # type: ignore[arg-type]  # no Order
    reserve(order, 2)  # type: ignore[call-arg]  # keyword only
    flow.run(prepare)  # type: ignore[call-arg]  # the order is missing
    flow.start(process, 5)  # type: ignore[arg-type]  # no Order
    prepare.trigger()  # type: ignore[call-arg]  # the order is missing
    prepare.options(run_id=5)  # type: ignore[arg-type]  # an id is a text
