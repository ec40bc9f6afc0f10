"""What all methods of a sequencer have in common once they are nodes of a chain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from flowkit.frozen import frozen
from flowkit.scopes import InnerScope
from flowkit.sequencer.blocks import Block, Pure
from flowkit.sequencer.requests import Await, Call, Meaning

Complain = Callable[[str, object, object], None]
"""Takes a mismatch: whose it is, what it takes, what it would get."""


@frozen
class Node:
    """One link of the chain. Frozen: chains share them."""

    def run(self, value: object) -> Meaning[object]:
        """What it does with a value; the value from there on."""
        raise NotImplementedError  # each kind of link says it; nothing makes a bare one

    def blocks(self) -> Iterator[Block]:
        """The blocks in it."""
        yield from ()

    def pures(self) -> Iterator[Pure]:
        """The connectors and conditions in it."""
        yield from ()

    def types(self, value: object, complain: Complain) -> object:
        """The annotation of the value after it, from that before it; tells what does not fit."""
        del complain
        return value

    @property
    def kind(self) -> str:
        """The name of the method."""
        return type(self).__name__

    @property
    def name(self) -> str:
        """How `loop_back` can refer to it; empty if it cannot."""
        return ""

    @property
    def label(self) -> str:
        """What it is called in errors and pictures."""
        return self.name or self.kind


@frozen
class Part:
    """A block, and the connector before it if there is one."""

    block: Block
    connector: Pure | None = None

    def run(self, value: object) -> Meaning[object]:
        """Call the block with the value, reshaped."""
        if self.connector is not None:
            value = yield from ask(self.connector, value)
        return (yield from call(self.block, value))

    def pures(self) -> Iterator[Pure]:
        """Its connector."""
        if self.connector is not None:
            yield self.connector

    def types(self, value: object, complain: Complain) -> object:
        """What the block gives."""
        if self.connector is not None:
            complain(self.connector.name, self.connector.takes, value)
            value = self.connector.gives
        complain(self.block.name, self.block.takes, value)
        return self.block.gives


@frozen
class PartNode(Node):
    """A node around one part."""

    part: Part

    def blocks(self) -> Iterator[Block]:
        """Its block."""
        yield self.part.block

    def pures(self) -> Iterator[Pure]:
        """Its connector."""
        yield from self.part.pures()

    @property
    def name(self) -> str:
        """The name of its block."""
        return self.part.block.name


def ask(pure: Pure, value: object) -> Meaning[Any]:
    """Call a pure function, and await it if it is async."""
    answer = pure(value)
    if pure.is_async:
        answer = yield Await(answer)
    return answer


def call(block: Block, value: object) -> Meaning[object]:
    """Call a block; a sequencer is a scope of its own inside this one, with side work of its own (rules W3, W4)."""
    if block.pipeline is None:
        return (yield Call(block, value))
    with InnerScope(block.name, key=block.key, own_work=True):
        value = yield from block.pipeline.run(value)
    return value
