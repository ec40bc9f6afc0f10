"""A chain of nodes, looked at once when it is built, and what it does with a value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from attrs import field, frozen

from flowkit.conformance import assignable, text_of
from flowkit.cron import Cron
from flowkit.retry import RetryPolicy
from flowkit.scopes import InnerScope, handling
from flowkit.sequencer.blocks import Block
from flowkit.sequencer.ends import Check, ExitIf, Rescue, check
from flowkit.sequencer.loops import LoopBack
from flowkit.sequencer.nodes import Node, call
from flowkit.sequencer.requests import Call, Meaning
from flowkit.sequencer.side import Work
from flowkit.sequencer.straight import Map, Tap, TapIf, Then

_ASIDE = (Tap, TapIf, Work)  # whose blocks do not give the value


@frozen(eq=False, slots=False)
class Chain:
    """Everything that a sequencer knows. Frozen: sequencers share it."""

    name: str
    nodes: tuple[Node, ...] = ()
    before: tuple[Map, ...] = ()  # reshape what comes in, before it is looked at
    input: object = Any  # declared
    output: object = Any  # declared
    policy: RetryPolicy | None = None
    timeout_s: float | None = None
    cron: Cron | None = None  # when a run of its own accord is due
    origin: tuple[str, str] = field(default=("", ""), repr=False)  # where its name was given

    # ---- what it does -------------------------------------------------------------------------------------------

    def run(self, value: object) -> Meaning[object]:
        """What it does with a value: as a run of its own and as a block, sync and async."""
        for connector in self.before:
            value = yield from connector.run(value)
        if self.input is not Any:
            check(value, self.input, lambda: f"the input of sequencer {self.name!r}")
        turns = _Turns()
        try:
            value, at = yield from self._follow(value, turns)
        finally:
            turns.leave()
        if self.gives is not Any:
            check(value, self.gives, lambda: f"the output of sequencer {self.name!r}, from {self._last_block(at)}")
        return value

    def _follow(self, value: Any, turns: _Turns) -> Meaning[tuple[object, int]]:  # noqa: ANN401  # any value at all
        """Follow the chain to its end; returns the value and the place where it ended."""
        at, nodes, direct, end = 0, self.nodes, self._direct, len(self.nodes)
        recovery: tuple[Block, BaseException] | None = None
        while at < end or recovery is not None:
            try:
                if recovery is not None:
                    (block, error), recovery = recovery, None
                    handling()
                    value = yield from call(block, error)
                    continue
                step, at = direct[at], at + 1
                if step is not None:
                    value = yield Call(step, value)
                    continue
                node = nodes[at - 1]
                if isinstance(node, ExitIf):
                    if (yield from node.run(value)):
                        break
                elif isinstance(node, LoopBack):
                    if turns.left(node) and (yield from node.run(value)):
                        turns.begin(node)
                        at = node.target
                else:
                    value = yield from node.run(value)
            except Exception as error:
                at, rescuer = self._rescuer(at, error)
                if rescuer is None:
                    raise
                recovery = rescuer, error
        return value, at

    def _rescuer(self, at: int, error: BaseException) -> tuple[int, Block | None]:
        """The block that takes an error raised above a place, and where the chain goes on after it."""
        for place in range(at, len(self.nodes)):
            node = self.nodes[place]
            if isinstance(node, Rescue) and (block := node.pick(error)) is not None:
                return place + 1, block
        return at, None

    def _last_block(self, at: int) -> str:
        named = (node.name for node in reversed(self.nodes[:at]) if node.name and not isinstance(node, _ASIDE))
        last = next(named, "")
        return f"block {last!r}" if last else "its input"

    @cached_property
    def _direct(self) -> tuple[Block | None, ...]:
        """The nodes that are nothing but a call: these need no generator of their own."""
        return tuple(_call_alone(node) for node in self.nodes)

    # ---- what it is ---------------------------------------------------------------------------------------------

    @cached_property
    def is_async(self) -> bool:
        """True as soon as one block, condition or connector is."""
        nodes = (*self.before, *self.nodes)
        return any(block.is_async for node in nodes for block in node.blocks()) or any(
            pure.is_async for node in nodes for pure in node.pures()
        )

    @cached_property
    def takes(self) -> object:
        """The annotation of what comes in, declared or that of whoever gets it first."""
        if self.before:
            return self.before[0].fn.takes
        if self.input is not Any or not self.nodes:
            return self.input
        asked: list[object] = []
        self.nodes[0].types(_START, lambda _who, takes, given: asked.append(takes) if given is _START else None)
        return next(iter(asked), Any)

    @cached_property
    def gives(self) -> object:
        """The type that the outcome is held to, however the chain ends; `Any` if none was declared."""
        if self.output is not Any:
            return self.output
        last = self.nodes[-1] if self.nodes else None
        return last.hint if isinstance(last, Check) else Any

    @cached_property
    def result_hint(self) -> object:
        """The annotation of the outcome: as declared, or as the chain comes to it."""
        return self.gives if self.gives is not Any else self._types(self.input, lambda *_: None)

    def _types(self, value: object, complain: Any) -> object:  # noqa: ANN401  # `Complain`
        exits = []
        for node in self.nodes:
            value = node.types(value, complain)
            if isinstance(node, ExitIf):
                exits.append(value)
        return Any if exits else value

    def mismatches(self) -> Iterator[str]:
        """Where one block gives what the next one does not take, as far as annotations tell."""
        found: list[str] = []

        def complain(who: str, takes: object, given: object) -> None:
            if not assignable(given, takes):
                found.append(f"{who!r} takes {text_of(takes)}, but gets {text_of(given)}")

        value: object = self.input
        for node in self.nodes:
            if isinstance(node, ExitIf) and self.gives is not Any:
                complain("the output of an exit_if", self.gives, value)
            value = node.types(value, complain)
        complain("the output", self.gives, value)
        yield from dict.fromkeys(found)

    def places(self, name: str) -> Sequence[int]:
        """The nodes of that name."""
        return [place for place, node in enumerate(self.nodes) if node.name == name]


class _Start:
    """Stands for a type that is not known yet."""


_START = _Start


def _call_alone(node: Node) -> Block | None:
    if type(node) is Then and node.part.connector is None and node.part.block.pipeline is None:
        return node.part.block
    return None


class _Turns:
    """How often each `loop_back` has gone back, and the scope of the present turn (rule I1)."""

    def __init__(self) -> None:
        self._taken: dict[int, int] = {}
        self._scope: InnerScope | None = None

    def left(self, node: LoopBack) -> bool:
        """Whether it may go back once more."""
        return self._taken.get(id(node), 0) < node.max_iterations

    def begin(self, node: LoopBack) -> None:
        """Go back: the calls from here on are those of another turn."""
        self._taken[id(node)] = self._taken.get(id(node), 0) + 1
        self.leave()
        self._scope = InnerScope(node.target_name)
        self._scope.__enter__()

    def leave(self) -> None:
        """The turn is over."""
        if self._scope is not None:
            self._scope.__exit__(None, None, None)
            self._scope = None
