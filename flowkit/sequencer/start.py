"""`sequencer(name, ...)`: where a chain begins. Without `input=`, the first block says what it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from flowkit.sequencer.building import Coro, Sequencer
from flowkit.sequencer.chain import Chain
from flowkit.sequencer.forms import caller, first_form, origin_of
from flowkit.sequencer.parts import hint_given
from flowkit.sequencer.running import require_name

I = TypeVar("I")  # noqa: E741  # the sequencer's input, as it is written everywhere
R = TypeVar("R")
C = TypeVar("C")


class Start(Sequencer[Any, Any]):
    """A sequencer that does not know yet what it takes: its first method says so. Else it is as any other."""

    @overload  # type: ignore[override]  # narrower than the base: the input is no longer any
    def then(self, block: Callable[[I], Coro[R]], /) -> Sequencer[I, R]: ...
    @overload
    def then(self, block: Callable[[I], R], /) -> Sequencer[I, R]: ...
    @overload
    def then(self, conn: Callable[[I], C], block: Callable[[C], Coro[R]], /) -> Sequencer[I, R]: ...
    @overload
    def then(self, conn: Callable[[I], C], block: Callable[[C], R], /) -> Sequencer[I, R]: ...

    def then(self, *given: Any) -> Sequencer[Any, Any]:
        """Run a block; its result is the value from there on."""
        return super().then(*given)

    @overload
    def map(self, fn: Callable[[I], Coro[R]], /) -> Sequencer[I, R]: ...
    @overload
    def map(self, fn: Callable[[I], R], /) -> Sequencer[I, R]: ...

    def map(self, fn: Callable[[Any], Any], /) -> Sequencer[Any, Any]:
        """Make something else of the value by a pure function; nothing is recorded."""
        return super().map(fn)

    @overload  # type: ignore[override]  # as `then`
    def tap(self, block: Callable[[I], object], /) -> Sequencer[I, I]: ...
    @overload
    def tap(self, conn: Callable[[I], C], block: Callable[[C], object], /) -> Sequencer[I, I]: ...

    def tap(self, *given: Any) -> Sequencer[Any, Any]:
        """Run a block for its side effect: inline, it must succeed, and the value stays (rule W5)."""
        return super().tap(*given)

    @overload  # type: ignore[override]  # as `then`
    def work(self, block: Callable[[I], object], /) -> Sequencer[I, I]: ...
    @overload
    def work(self, conn: Callable[[I], C], block: Callable[[C], object], /) -> Sequencer[I, I]: ...

    def work(self, *given: Any) -> Sequencer[Any, Any]:
        """Run a block beside the chain, which goes on at once; its failure never aborts the chain."""
        return super().work(*given)


@overload
def sequencer(name: str, *, input: type[I], output: object = Any) -> Sequencer[I, I]: ...
@overload
def sequencer(name: str, *, output: object = Any) -> Start: ...


def sequencer(name: str, *, input: Any = Any, output: Any = Any) -> Sequencer[Any, Any]:
    """Begin a pipeline: a chain of durable blocks, built by methods, immutable, run like a task.

    It is async as soon as one block, condition or connector in it is: `await seq.aio(value)`; `flow.run(seq, value)`
    runs either.

    Args:
        name: of the sequencer, and its id when it runs: unique among sequencers and tasks. Stored runs find it by that.
        input: the type that it takes; checked when it runs.
        output: the type that it gives; checked when it runs, however it ends.

    Raises:
        ConfigurationError: the name is taken.

    Example:
        >>> from flowkit import Flow, sequencer, step
        >>> @step
        ... def double(number: int) -> int:
        ...     return 2 * number
        >>> pipeline = sequencer("docs-pipeline", input=int).then(double).map(lambda number: f"it is {number}")
        >>> with Flow("memory:") as flow:
        ...     flow.run(pipeline, 21)
        'it is 42'
    """
    require_name(name, "sequencer")
    where = f"sequencer({name!r})"
    chain = Chain(
        name,
        input=hint_given(input, f"{where}: input"),
        output=hint_given(output, f"{where}: output"),
        origin=origin_of(caller(1)),
    )
    return (Start if input is Any else Sequencer[Any, Any])(first_form(chain))
