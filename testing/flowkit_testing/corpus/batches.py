"""Children that are triggered, one by one and in batches, and waited for."""

from __future__ import annotations

from flowkit import NonRetryable, aio, gather, sleep, task
from flowkit_testing.corpus.case import Case
from flowkit_testing.corpus.children import child, failing_child, napping_child
from flowkit_testing.corpus.steps import add


@task(id="corpus-undoable-child")
def undoable_child(number: int) -> int:
    """Can be taken back."""
    return add(number, 1)


@undoable_child.compensate
def take_back(result: int, number: int) -> None:
    """Takes it back."""
    assert result == number + 1


@task(id="corpus-batch")
def batched(number: int) -> list[int]:
    """A batch, waited for twice."""
    batch = child.batch_trigger([number, number + 1, number + 2])
    results = batch.results()
    return [*results, *batch.results(), add(number, 1)]


@task(id="corpus-batch-settled")
def settled(number: int) -> list[str]:
    """A batch of which one fails and one waits for a day; all are told."""
    batch = napping_child.batch_trigger([number, number + 1])
    failed = failing_child.trigger_and_wait(number)
    return [str(result.status) for result in [*batch.wait_for_completion(), failed]]


@task(id="corpus-batch-fails", attempts=1)
def batch_fails(number: int) -> list[int]:
    """A batch whose results cannot be had."""
    return failing_child.batch_trigger([number]).results()


@task(id="corpus-batch-undone", attempts=1)
def batch_undone(number: int) -> int:
    """Triggered children that are taken back."""
    undoable_child.trigger(number).result()
    undoable_child.batch_trigger([number + 1, number + 2]).results()
    raise NonRetryable("no")


@task(id="corpus-batch-async")
async def batch_async(number: int) -> list[int]:
    """Batches and single children side by side."""
    batch = await child.aio.batch_trigger([number])
    results, one = await aio.gather(batch.aio.results(), child.aio.trigger_and_wait(number + 3))
    return [*results, one.unwrap()]


@task(id="corpus-batch-nested")
def nested(depth: int) -> int:
    """Children that have children."""
    return sum(nested.batch_trigger([depth - 1] * 2).results()) if depth else 1


@task(id="corpus-batch-lines")
def lines(number: int) -> list[int]:
    """Children that are waited for in lines of their own, and forgotten ones."""
    child.trigger(number)
    return list(gather(_later.bind(number), child.bind(number), max_concurrency=1))


@task(id="corpus-batch-timeout")
def timed(number: int) -> str:
    """A wait that is over before the child is."""
    handle = napping_child.trigger(number)
    try:
        handle.result(timeout="1h")
    except TimeoutError:
        sleep("2d")
    return str(handle.wait_for_completion().status)


@task(id="corpus-batch-later")
def _later(number: int) -> int:
    """A child that waits for its own."""
    return napping_child.trigger_and_wait(number).unwrap()


CASES = (
    Case(batched, (1,)),
    Case(settled, (1,)),
    Case(batch_fails, (1,), fails=NonRetryable),
    Case(batch_undone, (1,), fails=NonRetryable),
    Case(batch_async, (1,)),
    Case(nested, (1,)),
    Case(lines, (1,)),
    Case(timed, (1,)),
)
