"""Workflows made of data: every small program over the durable operations, run by one task in each colour.

A program is a list of operations, each a list of its name and what it takes; a block is a program inside another one.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

from flowkit import (
    NonRetryable,
    aio,
    current_run,
    emit,
    on_rollback,
    rng,
    saga,
    sleep,
    task,
    uuid4,
    wait_for_event,
    wait_for_work,
    work,
)
from flowkit_testing.corpus.arrivals import send
from flowkit_testing.corpus.children import async_child, child, failing_child
from flowkit_testing.corpus.sagas import book, pay
from flowkit_testing.corpus.steps import add, add_later, broken, broken_later, flaky, once, slowly

Program = list[Any]  # of operations; JSON, so that it can be a task's argument
Trail = list[str]  # what the program has seen, which every replay must see too

PLAIN: tuple[Program, ...] = (
    ["add"],
    ["book"],
    ["flaky"],
    ["nap"],
    ["child"],
    ["draw"],
    ["undo"],
    ["once"],
    ["work"],
    ["wait"],
    ["event"],
    ["emit"],
)
FAILING: tuple[Program, ...] = (["broken"], ["broken child"], ["raise"])
BLOCKS = ("saga", "try", "finally")
PARALLEL = ("gather", "group")
CALLS: tuple[Program, ...] = (["slow", 2], ["add"], ["thread"], ["pay"], ["child"], ["nap"], ["broken"])
LONGEST = 3  # operations of a program that is explored; there are thousands of these


def programs(length: int, blocks: tuple[str, ...] = BLOCKS) -> Iterator[Program]:
    """Every program of that many operations, blocks counted."""
    if length == 0:
        yield []
        return
    for first in itertools.chain(PLAIN, FAILING):
        for rest in programs(length - 1, blocks):
            yield [first, *rest]
    for block in blocks:
        for inside in range(1, length):
            for inner in programs(inside, blocks):
                for rest in programs(length - 1 - inside, blocks):
                    yield [[block, inner], *rest]


def ends_early(program: Program) -> bool:
    """True if something in it is never come to, since what is before it fails: a shorter program does the same."""
    fails = [_fails(operation) for operation in program]
    return any(fails[:-1]) or any(ends_early(rest[0]) for name, *rest in program if name in BLOCKS)


def _fails(operation: Program) -> bool:
    match operation:
        case [("saga" | "finally"), inner]:
            return any(map(_fails, inner))
        case _:
            return operation in FAILING


def parallel_programs() -> Iterator[Program]:
    """Every block of one or two calls side by side, for async code.

    Left out are groups in which one call fails beside another one. A group cancels the others then, and one that has
    had its effect but is not recorded stays so after a crash: a race that no engine can decide the same way twice.
    """
    for block in PARALLEL:
        for count in (1, 2):
            for inner in itertools.product(CALLS, repeat=count):
                if block == "gather" or ["broken"] not in inner:
                    yield [[block, list(inner)]]


def up_to(length: int) -> Iterator[Program]:
    """Every program of so many operations at the most, the short ones first."""
    for exactly in range(1, length + 1):
        yield from programs(exactly)


@task(id="corpus-program", attempts=2)
def program(operations: Program) -> Trail:
    """Run a program; its result is what it has seen."""
    trail: Trail = []
    for operation in operations:
        _perform(operation, trail)
    return trail


@task(id="corpus-program-async", attempts=2)
async def program_async(operations: Program) -> Trail:
    """Run a program in async code."""
    trail: Trail = []
    for operation in operations:
        await _perform_async(operation, trail)
    return trail


def _block(inner: Program, trail: Trail) -> None:
    for operation in inner:
        _perform(operation, trail)


def _perform(operation: Program, trail: Trail) -> None:  # noqa: C901, PLR0912  # one line for each operation
    match operation:
        case ["add"]:
            trail.append(str(add(len(trail), 1)))
        case ["book"]:
            trail.append(book(f"{len(trail)}"))
        case ["flaky"]:
            trail.append(str(flaky(len(trail))))
        case ["once"]:
            trail.append(str(once(len(trail))))
        case ["nap"]:
            sleep("1h")
        case ["child"]:
            trail.append(str(child(len(trail))))
        case ["draw"]:
            trail.append(f"{uuid4()} {rng().random()}")
        case ["undo"]:
            on_rollback(add, 1, len(trail))
        case ["work"]:
            work(add, 1, len(trail))
        case ["wait"]:
            trail += [str(outcome.value) for outcome in wait_for_work()]
        case ["event"]:
            send(current_run().id, "event", len(trail))
            trail.append(str(wait_for_event("event")))
        case ["emit"]:
            emit("emitted", len(trail))
        case ["broken"]:
            broken(len(trail))
        case ["broken child"]:
            failing_child(len(trail))
        case ["raise"]:
            raise RuntimeError(f"{len(trail)}")
        case ["saga", inner]:
            with saga():
                _block(inner, trail)
        case ["try", inner]:
            try:
                _block(inner, trail)
            except (NonRetryable, RuntimeError) as error:
                trail.append(f"{error} {add(len(trail), 100)}")
        case ["finally", inner]:
            try:
                _block(inner, trail)
            finally:
                trail.append(str(add(len(trail), 1000)))
        case _:
            raise NonRetryable(f"no such operation: {operation}")


async def _block_async(inner: Program, trail: Trail) -> None:
    for operation in inner:
        await _perform_async(operation, trail)


async def _perform_async(operation: Program, trail: Trail) -> None:  # noqa: C901, PLR0912, PLR0915  # as _perform
    match operation:
        case ["add"]:
            trail.append(str(await add_later(len(trail), 1)))
        case ["book"]:
            trail.append(str(await pay(len(trail))))
        case ["flaky"]:
            trail.append(str(flaky(len(trail))))
        case ["once"]:
            trail.append(str(await once.aio(len(trail))))
        case ["nap"]:
            await aio.sleep("1h")
        case ["child"]:
            trail.append(str(await async_child(len(trail))))
        case ["draw"]:
            trail.append(f"{uuid4()} {rng().random()}")
        case ["undo"]:
            on_rollback(add_later, 1, len(trail))
        case ["work"]:
            work(add_later, 1, len(trail))
        case ["wait"]:
            trail += [str(outcome.value) for outcome in await aio.wait_for_work()]
        case ["event"]:
            send(current_run().id, "event", len(trail))
            trail.append(str(await aio.wait_for_event("event")))
        case ["emit"]:
            emit("emitted", len(trail))
        case ["broken"]:
            broken(len(trail))
        case ["broken child"]:
            failing_child(len(trail))
        case ["raise"]:
            raise RuntimeError(f"{len(trail)}")
        case ["saga", inner]:
            async with saga():
                await _block_async(inner, trail)
        case ["try", inner]:
            try:
                await _block_async(inner, trail)
            except (NonRetryable, RuntimeError) as error:
                trail.append(f"{error} {await add_later(len(trail), 100)}")
        case ["finally", inner]:
            try:
                await _block_async(inner, trail)
            finally:
                trail.append(str(await add_later(len(trail), 1000)))
        case ["gather", inner]:
            trail += map(str, await asyncio.gather(*map(_call, inner)))
        case ["group", inner]:
            async with asyncio.TaskGroup() as group:
                made = [group.create_task(_call(call)) for call in inner]
            trail += [str(call.result()) for call in made]
        case _:
            raise NonRetryable(f"no such operation: {operation}")


def _call(operation: Program) -> Any:  # noqa: ANN401  # a coroutine of any step
    match operation:
        case ["slow", seconds]:
            return slowly(1, seconds)
        case ["add"]:
            return add_later(1, 1)
        case ["thread"]:
            return add.aio(1, 1)
        case ["pay"]:
            return pay(5)
        case ["child"]:
            return async_child(1)
        case ["nap"]:
            return aio.sleep("1h")
        case ["broken"]:
            return broken_later(1)
        case _:
            raise NonRetryable(f"no such call: {operation}")
