"""Steps that write down that they were run, and what makes steps and undos fail, or the process die in them."""

from collections.abc import Callable, Collection
from typing import Any

from flowkit import NonRetryable, Task
from tests.rules.colours import Body, Colour
from tests.rules.conftest import Crash


def noting(colour: Colour, ran: list[str], *then: Callable[[str], object], **options: Any) -> Any:  # noqa: ANN401  # a step's options; a step
    """A step that writes its name down, then does all these with it, and gives it back."""

    @colour.step(**options)
    def effect(name: str) -> str:
        ran.append(name)
        for each in then:
            each(name)
        return name

    return effect


def in_a_row(colour: Colour, effect: Any, *names: str) -> Task[[], str]:  # noqa: ANN401  # a step of either colour
    """A task of these steps, one after the other, which gives back all their names in one."""

    @colour.task
    def body() -> Body[str]:
        done = ""
        for name in names:
            done += yield effect(name)
        return done

    return body


def refusing(names: Collection[str]) -> Callable[[str], None]:
    """Steps and undos of these names fail for good, for as long as the names are in it."""

    def fails(name: str) -> None:
        if name in names:
            raise NonRetryable(f"{name}: no")

    return fails


def dying(at: str | None = None) -> Callable[[str], None]:
    """The process dies once: in the step or undo of this name, or in the first of any."""
    crashes = [Crash()]

    def fails(name: str) -> None:
        if crashes and at in {None, name}:
            raise crashes.pop()

    return fails
