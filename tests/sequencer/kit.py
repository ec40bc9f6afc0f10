"""A harness, and blocks of one colour, to try the methods of the sequencer on."""

from collections.abc import Callable
from typing import Any

from flowkit import Sequencer, sequencer
from flowkit_testing import Harness, RunReport
from tests.rules.colours import Colour


class Kit:
    """A harness, and blocks of one colour."""

    def __init__(self, colour: Colour, harness: Harness) -> None:
        self.colour, self.harness = colour, harness
        self.seen: list[object] = []

        @colour.step
        def double(number: int) -> int:
            self.seen.append(number)
            return 2 * number

        @colour.step(attempts=1)
        def fail(number: int) -> int:
            raise ValueError(number)

        self.double, self.fail = double, fail

    def begin(self) -> Sequencer[int, int]:
        """Where a chain begins."""
        return sequencer(f"meaning-{self.colour.awaits}", input=int)

    def run(self, chain: Sequencer[int, Any], value: int = 4) -> RunReport[Any]:
        """Run it."""
        return self.harness.run(chain, value)

    def pure(self, fn: Callable[[Any], Any]) -> Any:  # noqa: ANN401  # of either colour
        """A pure function of this colour."""
        if not self.colour.awaits:
            return fn

        async def awaited(value: object) -> object:
            return fn(value)

        return awaited
