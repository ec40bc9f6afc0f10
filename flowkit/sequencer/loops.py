"""Again and again: `do_until`, `do_while`, `loop_back`. The block runs, then comes the test."""

from __future__ import annotations

from collections.abc import Iterator

from flowkit.frozen import frozen
from flowkit.scopes import InnerScope
from flowkit.sequencer.blocks import Pure
from flowkit.sequencer.nodes import Complain, Node, PartNode, ask
from flowkit.sequencer.requests import Meaning


@frozen
class Do(PartNode):
    """The block runs, its result is tested, and it runs again with that."""

    condition: Pure
    until: bool  # what the condition has to say for the loop to end

    def run(self, value: object) -> Meaning[object]:
        """Each turn is a scope of its own, so that a replay finds its calls again (rule I1)."""
        while True:
            with InnerScope(self.name):
                value = yield from self.part.run(value)
            if bool((yield from ask(self.condition, value))) is self.until:
                return value

    def pures(self) -> Iterator[Pure]:
        """The condition."""
        yield self.condition

    def types(self, value: object, complain: Complain) -> object:
        """What the block gives, which it has to take as well."""
        result = self.part.types(value, complain)
        complain(self.condition.name, self.condition.takes, result)
        complain(self.part.block.name, self.part.block.takes, result)
        return result

    @property
    def kind(self) -> str:
        """The name of the method."""
        return "do_until" if self.until else "do_while"


@frozen
class LoopBack(Node):
    """The chain goes back to an earlier block while a condition holds. The chain itself does the going back."""

    target: int  # the node to go on with
    target_name: str
    condition: Pure
    max_iterations: int

    def run(self, value: object) -> Meaning[object]:
        """Whether to go back."""
        return bool((yield from ask(self.condition, value)))

    def pures(self) -> Iterator[Pure]:
        """The condition."""
        yield self.condition

    def types(self, value: object, complain: Complain) -> object:
        """The value."""
        complain(self.condition.name, self.condition.takes, value)
        return value
