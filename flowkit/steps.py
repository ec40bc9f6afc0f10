"""`@step`: the decorator and the frozen objects it makes. Making one starts nothing."""

from __future__ import annotations

import functools
import types
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast, overload

from attrs import evolve

from flowkit.binding import Bound
from flowkit.calls import call_step, call_step_async, spec_of
from flowkit.durations import seconds
from flowkit.errors import ConfigurationError
from flowkit.functions import function_name, is_async_function, require_function
from flowkit.operations import StepSpec
from flowkit.retry import RetryPolicy, policy_from
from flowkit.saga import undo_spec

P = ParamSpec("P")
Q = ParamSpec("Q")  # the arguments of a method, without the instance
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., object])
Duration = float | int | timedelta | str


class _StepBase(Generic[P, R]):
    """What sync and async steps share."""

    def __init__(self, spec: StepSpec) -> None:
        functools.update_wrapper(cast("Callable[..., object]", self), spec.fn)
        self.spec = spec  # after it, since what is wrapped may have a `spec` too

    @property
    def name(self) -> str:
        """The name under which its calls are recorded."""
        return self.spec.name

    def options(
        self,
        *,
        key: str | None = None,
        name: str | None = None,
        attempts: int | None = None,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
        at_most_once: bool | None = None,
    ) -> Self:
        """The same step with other options; what is not given stays as it is.

        Args:
            key: names the call within its scope, instead of its ordinal; unique there.
            name: the name under which it is recorded.
            attempts: tries in all.
            retry: a `Retry`, or a function `(error, attempt) -> seconds | None`.
            timeout: how long one attempt may take: seconds, `timedelta`, or text such as "1m30s".
            at_most_once: record its start first, and never run it again after a crash (rule D3).
        """
        spec = _with_options(self.spec, name, attempts, retry, timeout, at_most_once)
        if key is not None:
            if not key or not isinstance(key, str):
                raise ConfigurationError(f"step {spec.name!r}: key={key!r} must be a text that is not empty")
            spec = evolve(spec, key=key)
        return type(self)(spec)

    def compensate(self, undo: F) -> F:
        """Say how to undo this step: the function gets its result, and its arguments if it takes them by name.

        The undo runs when the task (or the `saga` scope) around a completed call is left by an error (rule G1).
        """
        require_function(undo, f"@{self.spec.name}.compensate")
        self.spec = evolve(self.spec, undo=undo_spec(undo, self.spec.fn, self.spec.policy))
        return undo

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.spec.name}>"


class Step(_StepBase[P, R]):
    """A durable step around a plain function. Call it as the function itself."""

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(self: Step[Concatenate[Any, Q], R], instance: object, owner: type | None = None) -> Callable[Q, R]: ...

    def __get__(self, instance: object, owner: type | None = None) -> object:
        """The step itself, or bound to an instance as any function in a class is."""
        return self if instance is None else types.MethodType(self, instance)

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> Bound[R]:
        """The call with these arguments, not made yet: for `gather`."""
        return Bound(self.spec.name, self, False, args, kwargs, self, self.aio)  # noqa: FBT003  # its colour

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it, or answer from the journal if it was completed before (rule D2)."""
        return call_step(self.spec, args, kwargs)  # type: ignore[return-value]  # R; a cast is a call

    @property
    def aio(self) -> Callable[P, Coroutine[Any, Any, R]]:
        """The same step, awaitable: its function runs on a thread."""
        return cast("Callable[P, Coroutine[Any, Any, R]]", functools.partial(_call_async, self.spec))


class AsyncStep(_StepBase[P, R]):
    """A durable step around an async function. Await it as the function itself."""

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: AsyncStep[Concatenate[Any, Q], R], instance: object, owner: type | None = None
    ) -> Callable[Q, Coroutine[Any, Any, R]]: ...

    def __get__(self, instance: object, owner: type | None = None) -> object:
        """The step itself, or bound to an instance as any function in a class is."""
        return self if instance is None else types.MethodType(self, instance)

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> Bound[R]:
        """The call with these arguments, not made yet: for `aio.gather`."""
        return Bound(self.spec.name, self, True, args, kwargs, self, self)  # noqa: FBT003  # its colour

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run it, or answer from the journal if it was completed before (rule D2)."""
        return call_step_async(self.spec, args, kwargs)  # type: ignore[return-value]  # R; a cast is a call

    @property
    def aio(self) -> Callable[P, Coroutine[Any, Any, R]]:
        """The step itself, which is awaitable already."""
        return self.__call__


def _call_async(spec: StepSpec, /, *args: object, **kwargs: object) -> Coroutine[Any, Any, object]:
    return call_step_async(spec, args, kwargs)


def _with_options(
    spec: StepSpec,
    name: str | None,
    attempts: int | None,
    retry: RetryPolicy | None,
    timeout: Duration | None,
    at_most_once: bool | None,  # noqa: FBT001  # internal
) -> StepSpec:
    if name is not None and (not isinstance(name, str) or not name):
        raise ConfigurationError(f"step {spec.name!r}: name={name!r} must be a text that is not empty")
    where = f"step {name or spec.name!r}"
    policy = policy_from(attempts, retry, where)
    return evolve(
        spec,
        name=spec.name if name is None else name,
        policy=spec.policy if policy is None else policy,
        timeout_s=spec.timeout_s if timeout is None else seconds(timeout, f"{where}: timeout"),
        at_most_once=spec.at_most_once if at_most_once is None else at_most_once,
    )


class StepDecorator:
    """`step`: as a decorator with or without options, and `step.run` for an inline step."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncStep[P, R]: ...  # type: ignore[overload-overlap]  # coroutine first
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Step[P, R]: ...
    @overload
    def __call__(
        self,
        /,
        *,
        name: str | None = None,
        attempts: int | None = None,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
        at_most_once: bool = False,
    ) -> StepMaker: ...

    def __call__(
        self,
        fn: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        attempts: int | None = None,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
        at_most_once: bool = False,
    ) -> Any:  # the overloads say what
        """Make a durable step of a function.

        Args:
            fn: the function, sync or async.
            name: the name under which its calls are recorded; the function's own unless given.
            attempts: tries in all; its task's unless given.
            retry: a `Retry`, or a function `(error, attempt) -> seconds | None`.
            timeout: how long one attempt may take: seconds, `timedelta`, or text such as "1m30s".
            at_most_once: record its start first, and never run it again after a crash (rule D3).

        Example:
            >>> from flowkit import step
            >>> @step(attempts=5)
            ... def double(number: int) -> int:
            ...     return 2 * number
            >>> double(21)
            42
        """
        maker = StepMaker(name, attempts, retry, timeout, at_most_once)
        return maker if fn is None else maker(fn)

    @overload
    def run(
        self, name: str, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def run(self, name: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def run(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run any function as a durable step under a name.

        Example:
            >>> from flowkit import step
            >>> step.run("total", sum, [1, 2, 3])
            6
        """
        spec = _inline(name, fn)
        return call_step_async(spec, args, kwargs) if spec.is_async else call_step(spec, args, kwargs)

    @property
    def aio(self) -> AioStepDecorator:
        """`step.aio.run`: an inline step around a sync function, run on a thread and awaited."""
        return AioStepDecorator()


class AioStepDecorator:
    """The awaitable form of `step.run`."""

    def run(
        self, name: str, fn: Callable[P, R | Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]:
        """Run any function as a durable step under a name; a sync one runs on a thread."""
        return cast("Coroutine[Any, Any, R]", call_step_async(_inline(name, fn), args, kwargs))


class StepMaker:
    """A `@step(...)` that waits for its function."""

    def __init__(
        self,
        name: str | None,
        attempts: int | None,
        retry: RetryPolicy | None,
        timeout: Duration | None,
        at_most_once: bool,  # noqa: FBT001  # internal
    ) -> None:
        self._options = (name, attempts, retry, timeout, at_most_once)

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncStep[P, R]: ...  # type: ignore[overload-overlap]  # coroutine first
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Step[P, R]: ...

    def __call__(self, fn: Callable[..., Any], /) -> object:
        """Make a step of the function."""
        fn = require_function(fn, "@step")
        is_async = is_async_function(fn)
        spec = _with_options(spec_of(fn, function_name(fn), is_async=is_async), *self._options)
        return AsyncStep[..., Any](spec) if is_async else Step[..., Any](spec)


def _inline(name: str, fn: Callable[..., object]) -> StepSpec:
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"step.run: its first argument is the step's name, a text, not {name!r}")
    if isinstance(fn, _StepBase):
        fn = fn.spec.fn  # I5: the function alone
    fn = require_function(fn, f"step.run({name!r}, ...)")
    return _inline_spec(name, fn)


def _inline_spec(name: str, fn: Callable[..., object]) -> StepSpec:
    return spec_of(fn, name, is_async=is_async_function(fn))


step = StepDecorator()
