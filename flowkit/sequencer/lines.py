"""Several lines at a time, or one after the other: `parallel`, `then_all`, `for_each`, `race`, `then_any`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from flowkit.choices import Choice
from flowkit.conformance import either, item_of
from flowkit.errors import AllFailed
from flowkit.frozen import frozen
from flowkit.scopes import InnerScope, task_frame
from flowkit.sequencer.blocks import Block, Pure
from flowkit.sequencer.nodes import Complain, Node, Part, PartNode, ask, call
from flowkit.sequencer.requests import Decide, First, Line, Meaning, Together


@frozen
class _Lines(Node):
    """A node of several parts, which all get the value."""

    parts: tuple[Part, ...]
    max_concurrency: int | None = None

    def lines(self, value: object) -> Meaning[tuple[Line, ...]]:
        """One line for each part; connectors are called here, in the order of the parts."""
        lines = []
        for part in self.parts:
            given = value if part.connector is None else (yield from ask(part.connector, value))
            lines.append(Line(part.block.name, partial(call, part.block, given)))
        return tuple(lines)

    def blocks(self) -> Iterator[Block]:
        """The block of each part."""
        for part in self.parts:
            yield part.block

    def pures(self) -> Iterator[Pure]:
        """The connector of each part."""
        for part in self.parts:
            yield from part.pures()


@frozen
class ThenAll(_Lines):
    """The value becomes the list of all results."""

    def run(self, value: object) -> Meaning[object]:
        """Run all; the first error is raised after the others have settled."""
        return (yield Together((yield from self.lines(value)), self.max_concurrency))

    def types(self, value: object, complain: Complain) -> object:
        """A list of what any of the blocks gives."""
        result: Any = either([part.types(value, complain) for part in self.parts])
        return list[result]


@frozen
class Parallel(_Lines):
    """The value becomes the dict of all results, or what `into` makes of it."""

    names: tuple[str, ...] = ()
    into: Callable[..., object] | None = None

    def run(self, value: object) -> Meaning[object]:
        """Run all; the first error is raised after the others have settled."""
        results = yield Together((yield from self.lines(value)), self.max_concurrency)
        named = dict(zip(self.names, results, strict=True))
        return named if self.into is None else self.into(**named)

    def types(self, value: object, complain: Complain) -> object:
        """A dict of what any of the blocks gives, or what it is put into."""
        result: Any = either([part.types(value, complain) for part in self.parts])
        return dict[str, result] if self.into is None else self.into


@frozen
class Race(_Lines):
    """The value becomes the result of the first that succeeds; the others are cancelled where they can be."""

    title: str = "race"

    def run(self, value: object) -> Meaning[object]:
        """Run all; the winner is recorded (rule G6)."""
        return (yield First(self.title, (yield from self.lines(value)), self.max_concurrency))

    def types(self, value: object, complain: Complain) -> object:
        """What any of the blocks gives."""
        return either([part.types(value, complain) for part in self.parts])


@frozen
class ThenAny(_Lines):
    """The blocks are tried in order; the value becomes the result of the first that succeeds."""

    where: str = ""
    title: str = "then_any"

    def run(self, value: object) -> Meaning[object]:
        """Try one after the other, each in a scope of its own; which one it was is recorded."""
        choice, errors = Choice(task_frame(self.title), self.title), list[Exception]()
        for index, part in enumerate(self.parts):
            try:
                with InnerScope(part.block.name, branch_of=(choice.key, index)):
                    result = yield from part.run(value)
            except Exception as error:  # noqa: BLE001  # the next one may do
                errors.append(error)
                continue
            if choice.recorded in {None, index}:
                yield Decide(choice, index)
                return result
        raise AllFailed(f"{self.where}: none of the {len(self.parts)} blocks has succeeded", errors)

    def types(self, value: object, complain: Complain) -> object:
        """What any of the blocks gives."""
        return either([part.types(value, complain) for part in self.parts])


@frozen
class ForEach(PartNode):
    """The value becomes the list of the block's results for each item, in order. A connector gives the items."""

    max_concurrency: int | None

    def run(self, value: object) -> Meaning[object]:
        """Call the block with each item, side by side."""
        items: Any = value
        if self.part.connector is not None:
            items = yield from ask(self.part.connector, value)
        block = self.part.block
        lines = tuple(Line(block.name, partial(call, block, item)) for item in items)
        return (yield Together(lines, self.max_concurrency))

    def types(self, value: object, complain: Complain) -> object:
        """A list of what the block gives."""
        if self.part.connector is not None:
            complain(self.part.connector.name, self.part.connector.takes, value)
            value = self.part.connector.gives
        complain(self.part.block.name, self.part.block.takes, item_of(value))
        result: Any = self.part.block.gives
        return list[result]
