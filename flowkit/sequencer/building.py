"""The methods that build a sequencer. What each does is in the module of its node; here are its types."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Protocol, Self, TypeVar, overload

from attrs import evolve

from flowkit.conformance import text_of
from flowkit.cron import Cron, cron_from
from flowkit.durations import Duration
from flowkit.errors import ConfigurationError
from flowkit.sequencer import parts
from flowkit.sequencer.blocks import pure
from flowkit.sequencer.chain import Chain
from flowkit.sequencer.ends import Check, ExitIf
from flowkit.sequencer.forms import next_form
from flowkit.sequencer.lines import ForEach, Race, ThenAll, ThenAny
from flowkit.sequencer.loops import Do
from flowkit.sequencer.nodes import Node
from flowkit.sequencer.picture import mermaid
from flowkit.sequencer.running import RunnableChain
from flowkit.sequencer.side import Work
from flowkit.sequencer.straight import Map, Tap, TapIf, Then, ThenIf

I = TypeVar("I")  # noqa: E741  # the sequencer's input, as it is written everywhere
V = TypeVar("V")  # the value at the end of the chain so far
R = TypeVar("R")
C = TypeVar("C")
T = TypeVar("T")
J = TypeVar("J")

Coro = Coroutine[Any, Any, R]
Test = Callable[[T], object]
"""A condition: pure, sync or async; what it returns counts as true or false."""

Switch = Callable[[T], object] | bool
"""A condition, or one that is decided when the sequencer is built."""

J_contra = TypeVar("J_contra", contravariant=True)
C_co = TypeVar("C_co", covariant=True)


class GivesItems(Protocol[J_contra, C_co]):
    """A sequencer whose value can be looped over."""

    def __call__(self, value: J_contra, /) -> Iterable[C_co]:
        """Run it."""


class Sequencer(RunnableChain[I, V]):
    """A pipeline of blocks that takes an `I` and gives a `V`. Immutable: every method returns another one.

    Blocks are steps, tasks, sequencers and plain functions; a plain function is a durable step under its name.
    Connectors, conditions and the functions of `map` are no steps: they run again on replay, so they must be pure.
    """

    def _add(self, node: Node) -> Sequencer[Any, Any]:
        return self._next(evolve(self._chain, nodes=(*self._chain.nodes, node)))

    def _next(self, chain: Chain) -> Sequencer[Any, Any]:
        return Sequencer(next_form(chain), self._options)  # also of a `Start`: it has begun

    # ---- one thing after the other ------------------------------------------------------------------------------

    @overload
    def then(self, block: Callable[[V], Coro[R]], /) -> Sequencer[I, R]: ...
    @overload
    def then(self, block: Callable[[V], R], /) -> Sequencer[I, R]: ...
    @overload
    def then(self, conn: Callable[[V], Coro[C]], block: Callable[[C], Coro[R]], /) -> Sequencer[I, R]: ...
    @overload
    def then(self, conn: Callable[[V], Coro[C]], block: Callable[[C], R], /) -> Sequencer[I, R]: ...
    @overload
    def then(self, conn: Callable[[V], C], block: Callable[[C], Coro[R]], /) -> Sequencer[I, R]: ...
    @overload
    def then(self, conn: Callable[[V], C], block: Callable[[C], R], /) -> Sequencer[I, R]: ...

    def then(self, *given: Any) -> Sequencer[Any, Any]:
        """Run a block; its result is the value from there on.

        Args:
            *given: `block`, or `conn, block`: a connector reshapes the value before the block.
        """
        return self._add(Then(parts.part_of(given, self._where("then"))))

    @overload
    def then_if(self, cond: Test[V], block: Callable[[V], Coro[R]], /) -> Sequencer[I, V | R]: ...
    @overload
    def then_if(self, cond: Test[V], block: Callable[[V], R], /) -> Sequencer[I, V | R]: ...
    @overload
    def then_if(
        self, cond: Test[V], conn: Callable[[V], C], block: Callable[[C], Coro[R]], /
    ) -> Sequencer[I, V | R]: ...
    @overload
    def then_if(self, cond: Test[V], conn: Callable[[V], C], block: Callable[[C], R], /) -> Sequencer[I, V | R]: ...

    def then_if(self, cond: Any, *given: Any) -> Sequencer[Any, Any]:
        """Run a block if a condition holds; else the value stays.

        Args:
            cond: gets the value.
            *given: `block`, or `conn, block`.
        """
        where = self._where("then_if")
        return self._add(ThenIf(parts.part_of(given, where), parts.condition_of(cond, where)))

    @overload
    def map(self, fn: Callable[[V], Coro[R]], /) -> Sequencer[I, R]: ...
    @overload
    def map(self, fn: Callable[[V], R], /) -> Sequencer[I, R]: ...

    def map(self, fn: Callable[[Any], Any], /) -> Sequencer[Any, Any]:
        """Make something else of the value by a pure function; nothing is recorded.

        Args:
            fn: gets the value; also a lambda, a class or a builtin.
        """
        return self._add(Map(pure(fn, self._where("map"))))

    @overload
    def tap(self, block: Callable[[V], object], /) -> Sequencer[I, V]: ...
    @overload
    def tap(self, conn: Callable[[V], Coro[C]], block: Callable[[C], object], /) -> Sequencer[I, V]: ...
    @overload
    def tap(self, conn: Callable[[V], C], block: Callable[[C], object], /) -> Sequencer[I, V]: ...

    def tap(self, *given: Any) -> Sequencer[Any, Any]:
        """Run a block for its side effect: inline, it must succeed, and the value stays (rule W5).

        Args:
            *given: `block`, or `conn, block`.
        """
        return self._add(Tap(parts.part_of(given, self._where("tap"))))

    @overload
    def tap_if(self, cond: Test[V], block: Callable[[V], object], /) -> Sequencer[I, V]: ...
    @overload
    def tap_if(self, cond: Test[V], conn: Callable[[V], C], block: Callable[[C], object], /) -> Sequencer[I, V]: ...

    def tap_if(self, cond: Any, *given: Any) -> Sequencer[Any, Any]:
        """`tap` if a condition holds.

        Args:
            cond: gets the value.
            *given: `block`, or `conn, block`.
        """
        where = self._where("tap_if")
        return self._add(TapIf(parts.part_of(given, where), parts.condition_of(cond, where)))

    @overload
    def branch(self, cases: Mapping[str, tuple[Test[V], Callable[[V], Coro[R]]]], /) -> Sequencer[I, R]: ...
    @overload
    def branch(self, cases: Mapping[str, tuple[Test[V], Callable[[V], R]]], /) -> Sequencer[I, R]: ...
    @overload
    def branch(self, cases: Mapping[str, _Case[V]], /) -> Sequencer[I, Any]: ...

    def branch(self, cases: Mapping[str, Any], /) -> Sequencer[Any, Any]:
        """Take the first case whose condition holds; its block gives the value.

        Args:
            cases: `(cond, block)` or `(conn, cond, block)` by name; with a connector, the condition sees
                what that gives.

        Raises:
            NoBranch: (when it runs) no condition holds.
        """
        return self._add(parts.branch(cases, self._where("branch")))

    # ---- side by side -------------------------------------------------------------------------------------------

    @overload
    def parallel(
        self, blocks: Mapping[str, _Item[V]], /, *, max_concurrency: int | None = None, into: type[T]
    ) -> Sequencer[I, T]: ...
    @overload
    def parallel(
        self, blocks: Mapping[str, Callable[[V], Coro[R]]], /, *, max_concurrency: int | None = None
    ) -> Sequencer[I, dict[str, R]]: ...
    @overload
    def parallel(
        self, blocks: Mapping[str, Callable[[V], R]], /, *, max_concurrency: int | None = None
    ) -> Sequencer[I, dict[str, R]]: ...
    @overload
    def parallel(
        self, blocks: Mapping[str, _Item[V]], /, *, max_concurrency: int | None = None
    ) -> Sequencer[I, dict[str, Any]]: ...

    def parallel(
        self, blocks: Mapping[str, Any], /, *, max_concurrency: int | None = None, into: Any = None
    ) -> Sequencer[Any, Any]:
        """Run blocks side by side; the value becomes the dict of their results.

        The first error is raised after the others have settled.

        Args:
            blocks: `block` or `(conn, block)` by name.
            max_concurrency: how many run at a time; as many as there are unless given.
            into: a TypedDict, an attrs class or a dataclass with those names, to put the results into.
        """
        return self._add(parts.parallel(blocks, max_concurrency, into, self._where("parallel")))

    @overload
    def then_all(
        self, blocks: Sequence[Callable[[V], Coro[R]]], /, *, max_concurrency: int | None = None
    ) -> Sequencer[I, list[R]]: ...
    @overload
    def then_all(
        self, blocks: Sequence[Callable[[V], R]], /, *, max_concurrency: int | None = None
    ) -> Sequencer[I, list[R]]: ...
    @overload
    def then_all(
        self, blocks: Sequence[_Item[V]], /, *, max_concurrency: int | None = None
    ) -> Sequencer[I, list[Any]]: ...

    def then_all(self, blocks: Sequence[Any], /, *, max_concurrency: int | None = None) -> Sequencer[Any, Any]:
        """Run blocks side by side; the value becomes the list of their results, in order.

        The first error is raised after the others have settled. An empty list gives an empty list.

        Args:
            blocks: `block` or `(conn, block)` each.
            max_concurrency: how many run at a time; as many as there are unless given.
        """
        where = self._where("then_all")
        return self._add(ThenAll(parts.parts_of(blocks, where), parts.concurrency(max_concurrency, where)))

    @overload
    def then_any(self, blocks: Sequence[Callable[[V], Coro[R]]], /) -> Sequencer[I, R]: ...
    @overload
    def then_any(self, blocks: Sequence[Callable[[V], R]], /) -> Sequencer[I, R]: ...
    @overload
    def then_any(self, blocks: Sequence[_Item[V]], /) -> Sequencer[I, Any]: ...

    def then_any(self, blocks: Sequence[Any], /) -> Sequencer[Any, Any]:
        """Try blocks in order; the value becomes the result of the first that succeeds. Which one is recorded.

        Args:
            blocks: `block` or `(conn, block)` each; at least one.

        Raises:
            AllFailed: (when it runs) none has succeeded.
        """
        where = self._where("then_any")
        return self._add(ThenAny(parts.parts_of(blocks, where, at_least=1), where=where))

    @overload
    def race(
        self, blocks: Sequence[Callable[[V], Coro[R]]], /, *, max_concurrency: int | None = None
    ) -> Sequencer[I, R]: ...
    @overload
    def race(self, blocks: Sequence[Callable[[V], R]], /, *, max_concurrency: int | None = None) -> Sequencer[I, R]: ...
    @overload
    def race(self, blocks: Sequence[_Item[V]], /, *, max_concurrency: int | None = None) -> Sequencer[I, Any]: ...

    def race(self, blocks: Sequence[Any], /, *, max_concurrency: int | None = None) -> Sequencer[Any, Any]:
        """Run blocks side by side; the value becomes the result of the first that succeeds, which is recorded.

        The others are cancelled where they can be: they begin nothing new, and async steps under way are cancelled.
        What they have completed, or complete all the same, is undone (rule G6).

        Args:
            blocks: `block` or `(conn, block)` each; at least one.
            max_concurrency: how many run at a time; as many as there are unless given.

        Raises:
            AllFailed: (when it runs) none has succeeded.
        """
        where = self._where("race")
        parts_ = parts.parts_of(blocks, where, at_least=1)
        return self._add(Race(parts_, parts.concurrency(max_concurrency, where)))

    @overload
    def for_each(
        self: GivesItems[J, C],
        block: Callable[[C], Coro[R]],
        /,
        *,
        max_concurrency: int | None = None,
    ) -> Sequencer[J, list[R]]: ...
    @overload
    def for_each(
        self: GivesItems[J, C], block: Callable[[C], R], /, *, max_concurrency: int | None = None
    ) -> Sequencer[J, list[R]]: ...
    @overload
    def for_each(
        self,
        conn: Callable[[V], Iterable[C]],
        block: Callable[[C], Coro[R]],
        /,
        *,
        max_concurrency: int | None = None,
    ) -> Sequencer[I, list[R]]: ...
    @overload
    def for_each(
        self, conn: Callable[[V], Iterable[C]], block: Callable[[C], R], /, *, max_concurrency: int | None = None
    ) -> Sequencer[I, list[R]]: ...

    def for_each(self, *given: Any, max_concurrency: int | None = None) -> Sequencer[Any, Any]:
        """Run a block for each item of the value, side by side; the value becomes the list of results, in order.

        Args:
            *given: `block`, or `conn, block`: the connector gives the items.
            max_concurrency: how many run at a time; as many as there are unless given.
        """
        where = self._where("for_each")
        return self._add(ForEach(parts.part_of(given, where), parts.concurrency(max_concurrency, where)))

    # ---- again and again ----------------------------------------------------------------------------------------

    @overload
    def do_until(self, cond: Test[V], block: Callable[[V], Coro[V]], /) -> Sequencer[I, V]: ...
    @overload
    def do_until(self, cond: Test[V], block: Callable[[V], V], /) -> Sequencer[I, V]: ...

    def do_until(self, cond: Any, block: Any, /) -> Sequencer[Any, Any]:
        """Run a block again and again, each time with its last result, until a condition holds of that.

        Args:
            cond: gets the block's result, after each turn.
            block: gets the value, then its own results.
        """
        where = self._where("do_until")
        return self._add(Do(parts.part_of([block], where), parts.condition_of(cond, where), until=True))

    @overload
    def do_while(self, cond: Test[V], block: Callable[[V], Coro[V]], /) -> Sequencer[I, V]: ...
    @overload
    def do_while(self, cond: Test[V], block: Callable[[V], V], /) -> Sequencer[I, V]: ...

    def do_while(self, cond: Any, block: Any, /) -> Sequencer[Any, Any]:
        """Run a block, and again with its last result as long as a condition holds of that: at least once.

        Args:
            cond: gets the block's result, after each turn.
            block: gets the value, then its own results.
        """
        where = self._where("do_while")
        return self._add(Do(parts.part_of([block], where), parts.condition_of(cond, where), until=False))

    def loop_back(self, target: str, *, when: Test[V], max_iterations: int) -> Sequencer[I, V]:
        """Go back to an earlier block with the present value, as long as a condition holds.

        Args:
            target: the name of the block to go on with.
            when: gets the value.
            max_iterations: how often it goes back at the most; then the chain goes on.
        """
        where = self._where("loop_back")
        return self._add(parts.loop_back(self._chain, target, when, max_iterations, where))

    # ---- side chains --------------------------------------------------------------------------------------------

    @overload
    def work(self, block: Callable[[V], object], /) -> Sequencer[I, V]: ...
    @overload
    def work(self, conn: Callable[[V], Coro[C]], block: Callable[[C], object], /) -> Sequencer[I, V]: ...
    @overload
    def work(self, conn: Callable[[V], C], block: Callable[[C], object], /) -> Sequencer[I, V]: ...

    def work(self, *given: Any) -> Sequencer[Any, Any]:
        """Run a block beside the chain, which goes on at once; its failure never aborts the chain (rules W1, W2).

        Args:
            *given: `block`, or `conn, block`: the connector runs in the chain.
        """
        return self._add(Work(parts.part_of(given, self._where("work"))))

    @overload
    def work_if(self, cond: Switch[V], block: Callable[[V], object], /) -> Sequencer[I, V]: ...
    @overload
    def work_if(self, cond: Switch[V], conn: Callable[[V], C], block: Callable[[C], object], /) -> Sequencer[I, V]: ...

    def work_if(self, cond: Any, *given: Any) -> Sequencer[Any, Any]:
        """`work` if a condition holds.

        Args:
            cond: gets the value; or a bool, decided when the sequencer is built.
            *given: `block`, or `conn, block`.
        """
        return self._add(parts.work_if(cond, given, self._where("work_if")))

    @overload
    def for_each_background(
        self: GivesItems[J, C], block: Callable[[C], object] | _Factory[C], /, *, max_concurrency: int = 16
    ) -> Sequencer[J, V]: ...
    @overload
    def for_each_background(
        self,
        conn: Callable[[V], Iterable[C]],
        block: Callable[[C], object] | _Factory[C],
        /,
        *,
        max_concurrency: int = 16,
    ) -> Sequencer[I, V]: ...

    def for_each_background(self, *given: Any, max_concurrency: int = 16) -> Sequencer[Any, Any]:
        """Run a block for each item of the value beside the chain; the value stays, and one failure stops no other.

        Args:
            *given: `block`, or `conn, block`: the connector gives the items. In place of the block, a function
                `(item, index) -> block` may choose one for each item.
            max_concurrency: how many run at a time.
        """
        return self._add(parts.background(given, max_concurrency, self._where("for_each_background")))

    def wait_for_work(self, *, fail_on_error: bool = False, timeout: Duration | None = None) -> Sequencer[I, V]:
        """Wait for the side work that this sequencer has queued so far, nobody else's (rule W3); the value stays.

        Args:
            fail_on_error: raise the error of the first queued that failed, after all have settled.
            timeout: go on after this long: seconds, `timedelta` or text.
        """
        return self._add(parts.wait_for_work(fail_on_error, timeout, self._where("wait_for_work")))

    # ---- ways out and back --------------------------------------------------------------------------------------

    @overload
    def rescue(self, block: Callable[[Any], Coro[R]], /) -> Sequencer[I, V | R]: ...
    @overload
    def rescue(
        self, blocks: Mapping[type[Exception], Callable[[Any], Coro[R]]], /, *, default: Callable[[Any], Coro[R]] = ...
    ) -> Sequencer[I, V | R]: ...
    @overload
    def rescue(
        self, blocks: Mapping[type[Exception], Callable[[Any], R]], /, *, default: Callable[[Any], R] = ...
    ) -> Sequencer[I, V | R]: ...
    @overload
    def rescue(self, block: Callable[[Any], R], /) -> Sequencer[I, V | R]: ...

    def rescue(self, block: Any, /, *, default: Any = None) -> Sequencer[Any, Any]:
        """Catch an error from above; the block that gets it gives the value instead.

        Args:
            block: for any error; or a dict of blocks by error type, of which the first that matches is taken.
            default: for errors of other types; without one they go on.
        """
        return self._add(parts.rescue(block, default, self._where("rescue")))

    def exit_if(self, cond: Test[V], /) -> Sequencer[I, V]:
        """End this sequencer with the value so far if a condition holds.

        Args:
            cond: gets the value.
        """
        return self._add(ExitIf(parts.condition_of(cond, self._where("exit_if"))))

    def raise_if(
        self, cond: Test[V], error: Exception | type[Exception] | Callable[[V], object] | Callable[[], object], /
    ) -> Sequencer[I, V]:
        """Raise an error if a condition holds. It is final, unless a `rescue` below takes it.

        Args:
            cond: gets the value.
            error: the error, its class, or a function that makes it of the value.
        """
        return self._add(parts.raise_if(cond, error, self._where("raise_if")))

    # ---- types --------------------------------------------------------------------------------------------------

    @overload
    def connect_input(self, fn: Callable[[J], Coro[I]], /) -> Sequencer[J, V]: ...
    @overload
    def connect_input(self, fn: Callable[[J], I], /) -> Sequencer[J, V]: ...

    def connect_input(self, fn: Any, /) -> Sequencer[Any, Any]:
        """The same sequencer for another input, which a pure function reshapes before anything else.

        Args:
            fn: gets what comes in, gives what this sequencer takes.
        """
        made = Map(pure(fn, self._where("connect_input")))
        return self._next(evolve(self._chain, before=(made, *self._chain.before)))

    def returns(self, output: type[T], /) -> Sequencer[I, T]:
        """Say what the value is from here on. It is checked when it runs; at the end, `exit_if` included.

        Args:
            output: a type.
        """
        hint = parts.hint_given(output, self._where("returns"))
        name = self._chain.name
        return self._add(Check(hint, lambda: f"the value of sequencer {name!r} at returns({text_of(hint)})"))

    def validate(self) -> Self:
        """Hold neighbouring blocks against each other, as far as annotations tell, before anything runs.

        Raises:
            ConfigurationError: one gives what the next does not take; the message names both, and all there are.
        """
        found = list(self._chain.mismatches())
        if found:
            raise ConfigurationError(f"sequencer {self._chain.name!r}: {'; '.join(found)}")
        return self

    def named(self, name: str) -> Self:
        """The same sequencer under another name, to run it beside others that were made of the same one.

        Args:
            name: unique among sequencers and tasks.
        """
        return self._renamed(name)

    def scheduled(self, cron: str | Cron, /) -> Sequencer[I, V]:
        """The same sequencer, which workers start of its own accord; its value is the tick, a datetime.

        Args:
            cron: when: `"30 4 * * MON-FRI"`, in UTC, or `Cron(expression, tz=...)`.
        """
        return self._next(evolve(self._chain, cron=cron_from(cron, self._where("scheduled"))))

    def to_mermaid(self) -> str:
        """A picture of it, as the text of a Mermaid flowchart."""
        return mermaid(self._chain)


_Item = Callable[[T], Any] | tuple[Callable[[T], Any], Callable[[Any], Any]]
_Case = (
    tuple[Callable[[T], object], Callable[[T], Any]]
    | tuple[Callable[[T], Any], Callable[[Any], object], Callable[[Any], Any]]
)
_Factory = Callable[[T, int], Callable[[T], object] | Coro[Callable[[T], object]]]
