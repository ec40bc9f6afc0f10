"""Perform what a sequencer asks for: on this thread, or on an event loop. Nothing else knows of colours."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar, assert_never

from flowkit.binding import Bound
from flowkit.converging import wait_for_work, wait_for_work_async
from flowkit.errors import WrongColour
from flowkit.fan_out import gather, gather_async
from flowkit.racing import race, race_async
from flowkit.sequencer.requests import Await, Call, Converge, Decide, First, Line, Meaning, Request, Together

_T = TypeVar("_T")


def perform(meaning: Meaning[_T]) -> _T:
    """Follow it on this thread; returns its value or raises its error."""
    answer: object = None
    try:
        request = next(meaning)
        while True:
            failure = None
            try:
                # nearly all are calls
                answer = request.block.plain(request.value) if type(request) is Call else _answer(request)
            except BaseException as error:  # noqa: BLE001  # the meaning decides what an error is to it
                failure = error
            # R3: outside of `except`, so that going on does not count as handling the error, unless the meaning says so
            request = meaning.send(answer) if failure is None else meaning.throw(failure)
    except StopIteration as stop:
        value: _T = stop.value
        return value


def _answer(request: Request) -> object:
    match request:
        case Call(block=block, value=value):
            return block.plain(value)
        case Together(lines=lines, max_concurrency=most):
            return list(gather(*_bound(lines), max_concurrency=most))
        case First(name=name, lines=lines, max_concurrency=most):
            return race(*_bound(lines), name=name, max_concurrency=most)
        case Decide(choice=choice, index=index):
            choice.make(index)
            return None
        case Converge(fail_on_error=fail_on_error, timeout_s=timeout_s):
            return wait_for_work(fail_on_error=fail_on_error, timeout=timeout_s)
        case Await(awaitable=awaitable):
            if isinstance(awaitable, Coroutine):
                awaitable.close()
            raise WrongColour("a sequencer with something async in it cannot be called plainly")
        case _:
            assert_never(request)


async def perform_async(meaning: Meaning[_T]) -> _T:
    """Follow it on the running event loop; returns its value or raises its error."""
    answer: object = None
    try:
        request = next(meaning)
        while True:
            failure = None
            try:
                if type(request) is Call:  # nearly all are
                    answer = await request.block.awaitable(request.value)
                else:
                    answer = await _answer_async(request)
            except BaseException as error:  # noqa: BLE001  # the meaning decides what an error is to it
                failure = error
            request = meaning.send(answer) if failure is None else meaning.throw(failure)  # R3: as above
    except StopIteration as stop:
        value: _T = stop.value
        return value


async def _answer_async(request: Request) -> object:
    match request:
        case Call(block=block, value=value):
            return await block.awaitable(value)
        case Together(lines=lines, max_concurrency=most):
            return list(await gather_async(*_bound(lines), max_concurrency=most))
        case First(name=name, lines=lines, max_concurrency=most):
            return await race_async(*_bound(lines), name=name, max_concurrency=most)
        case Decide(choice=choice, index=index):
            await choice.make_async(index)
            return None
        case Converge(fail_on_error=fail_on_error, timeout_s=timeout_s):
            return await wait_for_work_async(fail_on_error=fail_on_error, timeout=timeout_s)
        case Await(awaitable=awaitable):
            return await awaitable
        case _:
            assert_never(request)


def _bound(lines: tuple[Line, ...]) -> list[Bound[Any]]:
    return [
        Bound(line.name, line, False, (), {}, partial(_line, line), partial(_line_async, line))  # noqa: FBT003  # either colour will do
        for line in lines
    ]


def _line(line: Line) -> object:
    return perform(line.start())


async def _line_async(line: Line) -> object:
    return await perform_async(line.start())
