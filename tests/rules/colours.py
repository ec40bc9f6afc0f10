"""Steps and tasks that are written once and made in both colours, synchronous and asynchronous."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Generator
from datetime import datetime
from typing import Any, ParamSpec, TypeVar, cast, get_args, overload

import flowkit
from flowkit import Step, Task, step, task
from flowkit.durations import Duration

P = ParamSpec("P")
R = TypeVar("R")
Body = Generator[Any, Any, R]  # what a body in both colours is written as


class Colour:
    """Makes the same steps and tasks synchronous or asynchronous. A body yields the calls that it would await."""

    def __init__(self, *, awaits: bool) -> None:
        self.awaits = awaits

    @overload
    def step(self, fn: Callable[P, R], /) -> Step[P, Any]: ...
    @overload
    def step(self, /, **options: Any) -> Callable[[Callable[P, R]], Step[P, Any]]: ...  # noqa: ANN401  # as `flowkit.step`
    def step(self, fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Like `@step`, around a plain function."""
        make = step(**options)
        if fn is None:
            return lambda function: make(_awaited(function) if self.awaits else function)
        return make(_awaited(fn) if self.awaits else fn)

    @overload
    def task(self, fn: Callable[P, Body[R]], /) -> Task[P, R]: ...
    @overload
    def task(self, /, **options: Any) -> Callable[[Callable[P, Body[R]]], Task[P, R]]: ...  # noqa: ANN401  # as `flowkit.task`
    def task(self, fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Like `@task`, around a generator that yields its calls."""
        make = task(**options)
        if fn is None:
            return lambda body: make(_awaiting(body) if self.awaits else _calling(body))
        return make(_awaiting(fn) if self.awaits else _calling(fn))

    def sleep(self, duration: Duration) -> Any:  # noqa: ANN401  # a coroutine, or nothing
        """`flowkit.sleep`, in this colour."""
        if self.awaits:
            return flowkit.aio.sleep(duration)
        flowkit.sleep(duration)
        return None

    def sleep_until(self, when: datetime) -> Any:  # noqa: ANN401  # a coroutine, or nothing
        """`flowkit.sleep_until`, in this colour."""
        if self.awaits:
            return flowkit.aio.sleep_until(when)
        flowkit.sleep_until(when)
        return None

    def wait_for_event(self, name: str, *, timeout: Duration | None = None, type: type[Any] = object) -> Any:  # noqa: ANN401  # a coroutine, or the payload
        """`flowkit.wait_for_event`, in this colour."""
        waits = flowkit.aio.wait_for_event if self.awaits else flowkit.wait_for_event
        return waits(name, timeout=timeout, type=type)

    def wait_for_work(self, **options: Any) -> Any:  # noqa: ANN401  # a coroutine, or the outcomes
        """`flowkit.wait_for_work`, in this colour."""
        waits = flowkit.aio.wait_for_work if self.awaits else flowkit.wait_for_work
        return waits(**options)

    def start(self, body: Any) -> Any:  # noqa: ANN401  # a coroutine, or a handle
        """`trigger`, in this colour."""
        return self.form(body).trigger()

    def form(self, thing: Any) -> Any:  # noqa: ANN401  # a task, a handle or a batch
        """The form of it that a body of this colour uses."""
        return thing.aio if self.awaits else thing

    @property
    def cancelled(self) -> type[BaseException]:
        """What a cancelled body sees."""
        return asyncio.CancelledError if self.awaits else BaseException


def _dress(body: Callable[..., Any], fn: Callable[..., Any]) -> Callable[..., Any]:
    """Give a wrapper the name and signature of what it wraps, without the generator."""
    signature = inspect.signature(fn)
    result = signature.return_annotation
    if inspect.isgeneratorfunction(fn):
        result = get_args(result)[2]
    setattr(body, "__signature__", signature.replace(return_annotation=result))  # noqa: B010  # mypy knows no such name
    body.__annotations__ = {**fn.__annotations__, "return": result}
    body.__name__, body.__qualname__, body.__module__ = fn.__name__, fn.__qualname__, fn.__module__
    body.__doc__ = fn.__doc__
    return body


def _awaited(fn: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """An async function that does the same."""

    async def body(*args: P.args, **kwargs: P.kwargs) -> R:
        return fn(*args, **kwargs)

    return _dress(body, fn)


def _calling(fn: Callable[P, Body[R]]) -> Callable[P, R]:
    """A plain body: a call that is yielded has been made already."""

    def body(*args: P.args, **kwargs: P.kwargs) -> R:
        generator = fn(*args, **kwargs)
        value: Any = None
        while True:
            try:
                value = generator.send(value)
            except StopIteration as stop:
                return cast("R", stop.value)

    return _dress(body, fn)


def _awaiting(fn: Callable[P, Body[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """An async body: a call that is yielded is awaited where it stands, errors included."""

    async def body(*args: P.args, **kwargs: P.kwargs) -> R:
        generator = fn(*args, **kwargs)
        resume: Callable[[], Any] = lambda: next(generator)  # noqa: E731  # one of three ways to go on
        while True:
            try:
                call = resume()
            except StopIteration as stop:
                return cast("R", stop.value)
            try:
                value = await call if inspect.isawaitable(call) else call
            except BaseException as error:  # noqa: BLE001  # the body decides what to do about it
                resume = _partial(generator.throw, error)
            else:
                resume = _partial(generator.send, value)

    return _dress(body, fn)


def _partial(fn: Callable[[Any], Any], argument: object) -> Callable[[], Any]:
    return lambda: fn(argument)
