"""Ways out of the chain and back into it: `exit_if`, `raise_if`, `rescue`; and the checks of its value."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from flowkit.conformance import either, mismatch
from flowkit.errors import ValueMismatch
from flowkit.frozen import frozen
from flowkit.scopes import final
from flowkit.sequencer.blocks import Block, Pure
from flowkit.sequencer.nodes import Complain, Node, ask
from flowkit.sequencer.requests import Meaning


@frozen
class ExitIf(Node):
    """The chain ends here with the value so far if a condition holds. The chain itself does the ending."""

    condition: Pure

    def run(self, value: object) -> Meaning[object]:
        """Whether to end."""
        return bool((yield from ask(self.condition, value)))

    def pures(self) -> Iterator[Pure]:
        """The condition."""
        yield self.condition

    def types(self, value: object, complain: Complain) -> object:
        """The value."""
        complain(self.condition.name, self.condition.takes, value)
        return value


@frozen
class RaiseIf(Node):
    """An error is raised here if a condition holds. It is final: the chain is not run again because of it."""

    condition: Pure
    error: BaseException | Pure

    def run(self, value: object) -> Meaning[object]:
        """Test, and raise."""
        if not (yield from ask(self.condition, value)):
            return value
        error: object = self.error
        if isinstance(self.error, Pure):
            error = yield from ask(self.error, value)
        elif isinstance(error, BaseException):
            error = _afresh(error)
        if not isinstance(error, Exception):
            raise TypeError(f"raise_if(...): its factory has made {error!r}, which is no Exception")
        final()
        raise error

    def pures(self) -> Iterator[Pure]:
        """The condition, and the factory of the error."""
        yield self.condition
        if isinstance(self.error, Pure):
            yield self.error

    def types(self, value: object, complain: Complain) -> object:
        """The value."""
        complain(self.condition.name, self.condition.takes, value)
        return value


def _afresh(error: BaseException) -> BaseException:
    """The same error without a history: one object is raised by many runs."""
    copy = type(error).__new__(type(error), *error.args)
    copy.args = error.args
    copy.__dict__.update({name: value for name, value in vars(error).items() if name != "__notes__"})
    return copy


@frozen
class Rescue(Node):
    """Errors from above go to a block, which gives the value instead. The chain itself does the catching."""

    cases: tuple[tuple[type[BaseException], Block], ...]
    default: Block | None

    def run(self, value: object) -> Meaning[object]:
        """Nothing: there was no error."""
        yield from ()
        return value

    def pick(self, error: BaseException) -> Block | None:
        """The block for an error: that of the first type that matches."""
        return next((block for cls, block in self.cases if isinstance(error, cls)), self.default)

    def blocks(self) -> Iterator[Block]:
        """All that may be called."""
        for _, block in self.cases:
            yield block
        if self.default is not None:
            yield self.default

    def types(self, value: object, complain: Complain) -> object:
        """The value, or what any of the blocks gives."""
        for cls, block in self.cases:
            complain(block.name, block.takes, cls)
        return either([value, *(block.gives for block in self.blocks())])


@frozen
class Check(Node):
    """The value is to be of a type."""

    hint: object
    what: Callable[[], str]  # says whose value it is

    def run(self, value: object) -> Meaning[object]:
        """Look at it, all through."""
        yield from ()
        check(value, self.hint, self.what)
        return value

    def types(self, value: object, complain: Complain) -> object:
        """What it is to be."""
        complain("returns", self.hint, value)
        return self.hint

    @property
    def kind(self) -> str:
        """The name of the method."""
        return "returns"


def check(value: object, hint: object, what: Callable[[], str]) -> None:
    """Refuse a value that is not of a type.

    Raises:
        ValueMismatch: it is not, and this says where in it.
    """
    wrong = mismatch(value, hint)
    if wrong is not None:
        final()
        raise ValueMismatch(f"{what()}: {wrong}")
