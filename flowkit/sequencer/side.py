"""Side chains: `work`, `work_if`, `for_each_background`, `wait_for_work` (rules W1 to W4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from flowkit.background import work_each
from flowkit.conformance import item_of
from flowkit.errors import WrongColour
from flowkit.frozen import frozen
from flowkit.scopes import task_frame
from flowkit.sequencer.blocks import Block, Pure, block_of
from flowkit.sequencer.nodes import Complain, Node, PartNode, ask
from flowkit.sequencer.requests import Converge, Meaning
from flowkit.side_work import work


@frozen
class Work(PartNode):
    """The block runs beside the chain and never aborts it; the value stays. A connector is called in the chain."""

    condition: Pure | None = None

    def run(self, value: object) -> Meaning[object]:
        """Queue the block."""
        if self.condition is not None and not (yield from ask(self.condition, value)):
            return value
        given = value
        if self.part.connector is not None:
            given = yield from ask(self.part.connector, value)
        work(self.part.block.target, given)
        return value

    def pures(self) -> Iterator[Pure]:
        """The condition and the connector."""
        if self.condition is not None:
            yield self.condition
        yield from self.part.pures()

    def types(self, value: object, complain: Complain) -> object:
        """The value."""
        if self.condition is not None:
            complain(self.condition.name, self.condition.takes, value)
        self.part.types(value, complain)
        return value

    @property
    def kind(self) -> str:
        """The name of the method."""
        return "work" if self.condition is None else "work_if"


@frozen
class Nothing(Node):
    """`work_if(False, ...)`: the block is there to be seen and does nothing."""

    block: Block

    def run(self, value: object) -> Meaning[object]:
        """Nothing."""
        yield from ()
        return value

    @property
    def name(self) -> str:
        """The name of the block that does nothing."""
        return self.block.name


@frozen
class Background(Node):
    """The block runs beside the chain once for each item, so many at a time; one that fails stops no other."""

    where: str
    block: Block | None
    factory: Pure | None  # chooses the block for a pair of item and index
    connector: Pure | None
    max_concurrency: int

    def run(self, value: object) -> Meaning[object]:
        """Queue the block once for each item."""
        items: Any = value
        if self.connector is not None:
            items = yield from ask(self.connector, value)
        calls: list[tuple[Callable[..., Any], object]] = []
        for index, item in enumerate(items):
            block = self.block or (yield from self._chosen(item, index))
            calls.append((block.target, item))
        work_each(calls, max_concurrency=self.max_concurrency)
        return value

    def _chosen(self, item: object, index: int) -> Meaning[Block]:
        assert self.factory is not None  # one of the two is given
        block = block_of((yield from ask(self.factory, (item, index))), f"{self.where}, item {index}")
        frame = task_frame(block.name)
        if block.is_async and frame is not None and not frame.run.is_async:
            raise WrongColour(
                f"{self.where}: {self.factory.name!r} has chosen {block.name!r}, which is async, in a sequencer that "
                f"is not; make {self.factory.name!r} `async def`, so that the sequencer is async too"
            )
        return block

    def blocks(self) -> Iterator[Block]:
        """Its block, if it is known before it runs."""
        if self.block is not None:
            yield self.block

    def pures(self) -> Iterator[Pure]:
        """The connector and the factory."""
        if self.connector is not None:
            yield self.connector
        if self.factory is not None:
            yield self.factory

    def types(self, value: object, complain: Complain) -> object:
        """The value."""
        items = value
        if self.connector is not None:
            complain(self.connector.name, self.connector.takes, value)
            items = self.connector.gives
        if self.block is not None:
            complain(self.block.name, self.block.takes, item_of(items))
        return value

    @property
    def kind(self) -> str:
        """The name of the method."""
        return "for_each_background"

    @property
    def name(self) -> str:
        """The name of its block, if it is known before it runs."""
        return "" if self.block is None else self.block.name


@frozen
class WaitForWork(Node):
    """The chain waits for the side work of this sequencer; the value stays."""

    fail_on_error: bool
    timeout_s: float | None

    def run(self, value: object) -> Meaning[object]:
        """Wait."""
        yield Converge(self.fail_on_error, self.timeout_s)
        return value

    @property
    def kind(self) -> str:
        """The name of the method."""
        return "wait_for_work"
