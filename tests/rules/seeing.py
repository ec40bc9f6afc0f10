"""What a body sees of a step: live, and when it is replayed."""

from collections.abc import Callable, Iterable
from typing import Any

from tests.rules.colours import Body, Colour
from tests.rules.conftest import Crash, Store, crash_once


def numbered(values: Iterable[object]) -> list[str]:
    """Ids for parameters: their types, and numbers since several have one type."""
    return [f"{type(value).__name__}-{number}" for number, value in enumerate(values, 1)]


def see(store: Store, colour: Colour, make: Callable[[], object], returns: object = object) -> list[Any]:
    """What a body gets from a step with this annotation: live, then in two processes that replay it."""
    seen: list[Any] = []
    crashes = [Crash(), Crash()]

    def made() -> object:
        return make()

    made.__annotations__["return"] = returns
    fn = colour.step(name="make", attempts=1)(made)

    @colour.task
    def body() -> Body[None]:
        try:
            seen.append((yield fn()))
        except Exception as error:  # noqa: BLE001  # whatever it is, it is what this is about
            seen.append(error)
        if crashes:
            raise crashes.pop()

    for _ in range(2):
        crash_once(store, body)
    store.flow().run(body.options(run_id="r"))
    return seen
