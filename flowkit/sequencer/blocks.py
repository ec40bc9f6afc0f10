"""Blocks, and the pure functions between them: what a user hands to a sequencer, looked at once, when it is built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any, Protocol

from attrs import field, frozen

from flowkit.errors import ConfigurationError, WrongColour
from flowkit.functions import function_name, is_async_function, require_function
from flowkit.hints import call_hints
from flowkit.operations import StepSpec
from flowkit.registry import TaskSpec
from flowkit.steps import AsyncStep, Step, step
from flowkit.tasks import Runnable

LAMBDA = "<lambda>"


class Pipeline(Protocol):
    """A sequencer, as the one around it sees it."""

    name: str
    is_async: bool

    @property
    def takes(self) -> object:
        """The annotation of its value."""

    @property
    def gives(self) -> object:
        """The annotation of its result."""

    def run(self, value: object) -> Any:  # noqa: ANN401  # a `Meaning`, which is made of blocks
        """What it does with a value."""


@frozen(eq=False)
class Block:
    """A step, a task or a sequencer that gets one value."""

    name: str
    target: Callable[..., Any] = field(repr=False)  # what `work` is to be given
    is_async: bool
    plain: Callable[[Any], Any] = field(repr=False)
    awaitable: Callable[[Any], Coroutine[Any, Any, Any]] = field(repr=False)
    takes: object = Any  # the annotation of its value
    gives: object = Any  # the annotation of its result
    pipeline: Pipeline | None = None  # a sequencer is a scope inside the one around it, not a call
    key: str | None = None  # of that scope, if the user has given one


def block_of(given: object, where: str) -> Block:
    """What may be a block.

    Args:
        given: a step, a task, a sequencer or a plain function, which becomes a durable step under its name.
        where: the sequencer and the method, for error messages.

    Raises:
        ConfigurationError: it is none of these, or cannot be called with one value.
    """
    if isinstance(given, Block):
        return given
    spec: object = getattr(given, "spec", None)
    if isinstance(spec, StepSpec):
        return _of_step(given, spec, where)
    if isinstance(given, Runnable):
        return _of_runnable(given, given.spec, where)
    if not callable(given):
        raise ConfigurationError(f"{where}: {given!r} is no block: write a step, a task, a sequencer or a function")
    fn = require_function(given, where)
    if function_name(fn) == LAMBDA:
        raise ConfigurationError(
            f"{where}: a lambda has no name under which its result could be recorded. Use `def`, or "
            'step(name="...")(lambda ...); for a pure function that need not be recorded there is .map(...)'
        )
    made: object = step(fn)
    assert isinstance(made, Step | AsyncStep)  # as `step` makes it of a function
    return _of_step(made, made.spec, where)


def _of_step(given: Any, spec: StepSpec, where: str) -> Block:  # noqa: ANN401  # a step of any signature
    require_one_value(spec.fn, f"{where}: block {spec.name!r}")
    takes = _first_hint(spec.fn, call_hints(spec.fn)[0])
    return Block(spec.name, given, spec.is_async, given, given.aio, takes, spec.hint)


def _of_runnable(given: Any, spec: TaskSpec, where: str) -> Block:  # noqa: ANN401  # a task of any signature
    pipeline: Pipeline | None = getattr(given, "pipeline", None)
    if pipeline is not None:
        require_no_run_options(spec, f"{where}: block {pipeline.name!r}")
        takes, gives = pipeline.takes, pipeline.gives
        return Block(pipeline.name, given, pipeline.is_async, given, given.aio, takes, gives, pipeline, spec.key)
    require_one_value(spec.fn, f"{where}: block {spec.id!r}")
    takes = _first_hint(spec.fn, spec.parameters)
    return Block(spec.id, given, spec.is_async, given, given.aio, takes, spec.hint)


def require_no_run_options(spec: TaskSpec, where: str) -> None:
    """Refuse options that only a run of its own could heed.

    Raises:
        ConfigurationError: one was given.
    """
    names = {"run_id": spec.run_id, "delay": spec.delay_s, "expires": spec.expires_s, "timeout": spec.timeout_s}
    given = [name for name, value in names.items() if value is not None]
    if given:
        raise ConfigurationError(
            f"{where} is part of the run around it, which cannot heed options({given[0]}=...); trigger it to give it "
            "a run of its own"
        )


def require_one_value(fn: Callable[..., object], where: str) -> None:
    """Refuse what cannot be called with one argument by position.

    Raises:
        ConfigurationError: it takes another number.
    """
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # some builtins do not tell
        return
    try:
        signature.bind(None)
    except TypeError:
        raise ConfigurationError(
            f"{where} takes ({', '.join(map(str, signature.parameters.values()))}), but it is called with one value"
        ) from None


def _first_hint(fn: Callable[..., object], hints: Any) -> object:  # noqa: ANN401  # a mapping of annotations
    try:
        first = next(iter(inspect.signature(fn).parameters))
    except (TypeError, ValueError, StopIteration):
        return Any
    return hints.get(first, Any)


@frozen(eq=False)
class Pure:
    """A connector, a condition or a `map` function: no step, so it runs again on every replay."""

    fn: Callable[[Any], Any]
    is_async: bool
    name: str
    takes: object = Any
    gives: object = Any

    def __call__(self, value: object) -> Any:  # noqa: ANN401  # whatever it returns, to be awaited if it is async
        """Call it.

        Raises:
            WrongColour: it has returned a coroutine that nobody would await.
        """
        answer = self.fn(value)
        if type(answer) is CoroutineType and not self.is_async:
            answer.close()
            raise WrongColour(f"{self.name!r} has returned a coroutine; make it `async def`, so that it is awaited")
        return answer


def pure(given: object, where: str) -> Pure:
    """A pure function of one value.

    Raises:
        ConfigurationError: it is no function, or takes another number of values.
    """
    if not callable(given):
        raise ConfigurationError(f"{where}: {given!r} is no function")
    require_one_value(given, f"{where}: {function_name(given)!r}")
    hints, gives = call_hints(given)
    return Pure(given, is_async_function(given), function_name(given), _first_hint(given, hints), gives)
