"""One thing after the other: `then`, `then_if`, `map`, `tap`, `tap_if`, `branch`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flowkit.conformance import either
from flowkit.errors import NoBranch
from flowkit.frozen import frozen
from flowkit.scopes import final
from flowkit.sequencer.blocks import LAMBDA, Block, Pure
from flowkit.sequencer.nodes import Complain, Node, Part, PartNode, ask
from flowkit.sequencer.requests import Meaning


@frozen
class Then(PartNode):
    """The value becomes the block's result."""

    def run(self, value: object) -> Meaning[object]:
        """Call the block."""
        return (yield from self.part.run(value))

    def types(self, value: object, complain: Complain) -> object:
        """What the block gives."""
        return self.part.types(value, complain)


@frozen
class ThenIf(PartNode):
    """The same if a condition holds; else the value stays."""

    condition: Pure

    def run(self, value: object) -> Meaning[object]:
        """Test, then call the block or not."""
        if (yield from ask(self.condition, value)):
            value = yield from self.part.run(value)
        return value

    def pures(self) -> Iterator[Pure]:
        """The condition and the connector."""
        yield self.condition
        yield from self.part.pures()

    def types(self, value: object, complain: Complain) -> object:
        """The value, or what the block gives."""
        complain(self.condition.name, self.condition.takes, value)
        return either([value, self.part.types(value, complain)])


@frozen
class Map(Node):
    """The value becomes what a pure function makes of it; nothing is recorded."""

    fn: Pure

    def run(self, value: object) -> Meaning[object]:
        """Call the function."""
        return (yield from ask(self.fn, value))

    def pures(self) -> Iterator[Pure]:
        """The function."""
        yield self.fn

    def types(self, value: object, complain: Complain) -> object:
        """What the function gives."""
        complain(self.fn.name, self.fn.takes, value)
        return self.fn.gives

    @property
    def name(self) -> str:
        """The function's name, if it has one."""
        return "" if self.fn.name == LAMBDA else self.fn.name


@frozen
class Tap(PartNode):
    """The block runs inline and must succeed; the value stays (rule W5)."""

    def run(self, value: object) -> Meaning[object]:
        """Call the block and forget its result."""
        yield from self.part.run(value)
        return value  # W5

    def types(self, value: object, complain: Complain) -> object:
        """The value."""
        self.part.types(value, complain)
        return value


@frozen
class TapIf(PartNode):
    """The same if a condition holds."""

    condition: Pure

    def run(self, value: object) -> Meaning[object]:
        """Test, then call the block or not."""
        if (yield from ask(self.condition, value)):
            yield from self.part.run(value)
        return value  # W5

    def pures(self) -> Iterator[Pure]:
        """The condition and the connector."""
        yield self.condition
        yield from self.part.pures()

    def types(self, value: object, complain: Complain) -> object:
        """The value."""
        complain(self.condition.name, self.condition.takes, value)
        self.part.types(value, complain)
        return value


@frozen
class Case:
    """One way of a `branch`. Its connector comes first: the condition sees what the block would get."""

    name: str
    condition: Pure
    block: Block
    connector: Pure | None


@frozen
class Branch(Node):
    """The first case whose condition holds gives the value."""

    where: str
    cases: tuple[Case, ...]

    def run(self, value: object) -> Meaning[object]:
        """Test one after the other."""
        for case in self.cases:
            given: Any = value
            if case.connector is not None:
                given = yield from ask(case.connector, value)
            if (yield from ask(case.condition, given)):
                return (yield from Part(case.block).run(given))
        final()
        raise NoBranch(
            f"{self.where}: no condition of {', '.join(repr(case.name) for case in self.cases)} held; "
            "add a last case whose condition is always true if that may be"
        )

    def blocks(self) -> Iterator[Block]:
        """The block of each case."""
        for case in self.cases:
            yield case.block

    def pures(self) -> Iterator[Pure]:
        """The conditions and connectors."""
        for case in self.cases:
            if case.connector is not None:
                yield case.connector
            yield case.condition

    def types(self, value: object, complain: Complain) -> object:
        """What any of the blocks gives."""
        results = []
        for case in self.cases:
            given = value
            if case.connector is not None:
                complain(case.connector.name, case.connector.takes, value)
                given = case.connector.gives
            complain(case.condition.name, case.condition.takes, given)
            results.append(Part(case.block).types(given, complain))
        return either(results)
