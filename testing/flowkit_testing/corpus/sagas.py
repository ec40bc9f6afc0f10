"""What is undone when something fails."""

from __future__ import annotations

import asyncio

from flowkit import CompensationFailed, NonRetryable, current_run, on_rollback, saga, step, task
from flowkit_testing.corpus.case import Case
from flowkit_testing.corpus.steps import TWICE, add, add_later, broken, broken_later, slowly


@step
def book(what: str) -> str:
    """Has an undo."""
    return f"booked {what}"


@book.compensate
def unbook(booking: str) -> None:
    """Undoes it."""
    assert booking.startswith("booked")


@step
async def pay(amount: int) -> int:
    """Has an async undo."""
    await asyncio.sleep(0)
    return amount


@pay.compensate
async def refund(amount: int) -> None:
    """Undoes it."""
    await asyncio.sleep(0 * amount)


@step
def lend(what: str) -> str:
    """Has an undo that fails twice."""
    return what


@lend.compensate
def take_back(what: str) -> None:
    """Fails twice."""
    if current_run().attempt <= TWICE:
        raise ConnectionError(what)


@step
def send(what: str) -> str:
    """Has an undo that never succeeds."""
    return what


@send.compensate
def unsend(what: str) -> None:
    """Never succeeds."""
    raise NonRetryable(f"{what} cannot be unsent")


@task(id="corpus-saga")
def undone(number: int) -> int:
    """Three steps are undone, one has no undo."""
    book("flight")
    add(number, 1)
    book("hotel")
    book("car")
    return broken(number)


@task(id="corpus-saga-scope")
def scoped(number: int) -> list[str]:
    """A scope fails, what was before it stays, and the task goes on."""
    kept = book("flight")
    try:
        with saga("stay"):
            book("hotel")
            book("car")
            broken(number)
    except NonRetryable:
        return [kept, book("hostel")]
    return []


@task(id="corpus-saga-nested")
def nested(number: int) -> int:
    """An inner scope succeeds and hands its undos to the outer one, which fails."""
    with saga("trip"):
        book("flight")
        with saga("stay"):
            book("hotel")
        with saga("fun"):
            book("show")
            add(number, 1)
        return broken(number)


@task(id="corpus-saga-nested-failing")
def nested_failing(number: int) -> list[str]:
    """An inner scope fails and is handled; then the outer one fails as well."""
    done = []
    try:
        with saga("trip"):
            done.append(book("flight"))
            try:
                with saga("stay"):
                    done.append(book("hotel"))
                    broken(number)
            except NonRetryable:
                done.append(book("hostel"))
            broken(number + 1)
    except NonRetryable as error:
        done.append(str(error))
    return done


@task(id="corpus-saga-undo-retries")
def undo_retries(number: int) -> int:
    """An undo that fails twice."""
    book("flight")
    lend("a book")
    return broken(number)


@task(id="corpus-saga-undo-fails")
def undo_fails(number: int) -> int:
    """An undo that fails for good does not stop the others."""
    book("flight")
    send("a letter")
    book("hotel")
    return broken(number)


@task(id="corpus-saga-closures")
def closures(number: int) -> int:
    """Undos that are registered before what they undo."""
    notes: list[str] = []
    on_rollback(notes.append, "first")
    add(number, 1)
    on_rollback(notes.append, "second")
    book("flight")
    return broken(number)


@task(id="corpus-saga-async")
async def undone_async(number: int) -> int:
    """Sync and async undos."""
    await pay(number)
    book("flight")
    await pay(number + 1)
    return await broken_later(number)


@task(id="corpus-saga-async-scope")
async def scoped_async(number: int) -> int:
    """An async scope that fails and is handled."""
    await pay(number)
    try:
        async with saga("more"):
            await pay(number + 1)
            await broken_later(number)
    except ValueError:
        return await add_later(number, 100)
    return number


@task(id="corpus-saga-parallel")
async def parallel(number: int) -> list[int]:
    """Steps side by side, one of which fails: what was completed is undone."""
    await pay(0)
    return list(await asyncio.gather(pay(number), broken_later(number), slowly(number, 1), pay(number + 1)))


@task(id="corpus-saga-body-error", attempts=1)
def body_error(number: int) -> int:
    """The task's own code fails."""
    book("flight")
    raise RuntimeError(str(add(number, 1)))


CASES = (
    Case(undone, (1,), fails=NonRetryable),
    Case(scoped, (1,)),
    Case(nested, (1,), fails=NonRetryable),
    Case(nested_failing, (1,)),
    Case(undo_retries, (1,), fails=NonRetryable),
    Case(undo_fails, (1,), fails=CompensationFailed),
    Case(closures, (1,), fails=NonRetryable),
    Case(undone_async, (1,), fails=ValueError),
    Case(scoped_async, (1,)),
    Case(parallel, (1,), fails=ValueError, racing=True),
    Case(body_error, (1,), fails=RuntimeError),
)
