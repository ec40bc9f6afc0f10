"""What is explored: a task with its arguments, what its steps change outside, and what is sent to it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

from attrs import Factory, evolve, field, frozen

from flowkit.codec import Codec
from flowkit.errors import NonRetryable
from flowkit.registry import TaskSpec
from flowkit.storage import Storage
from flowkit_testing.injector import Injector
from flowkit_testing.orders import latecomers
from flowkit_testing.points import Schedule
from flowkit_testing.states import StateReader

RUN_ID = "run-1"


class InjectedFailure(NonRetryable):
    """A step failed for good because an exploration wanted to see what follows."""


@frozen
class World:
    """What steps change outside of the storage, and how it is brought back to how it was before the run."""

    look: Callable[[], object]
    reset: Callable[[], object]

    def seen(self) -> Hashable:
        """What it is like now, so that two of them can be compared."""
        return _frozen(self.look())


@frozen
class Subject:
    """What is explored."""

    spec: TaskSpec
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    make_storage: Callable[[], Storage]  # an empty one for each trial
    injector: Injector  # the faults that belong to the test
    codec: Codec
    world: World | None = None
    events: tuple[tuple[str, object], ...] = ()  # sent to the run as soon as it exists
    states: StateReader = field(default=Factory(lambda self: StateReader(self.codec), takes_self=True), eq=False)


def in_scenario(subject: Subject, scenario: Schedule) -> Subject:
    """The same, where some steps fail or come late, or where the body is replayed after each step."""
    failing = [injury.point.what for injury in scenario if injury.fault == "fail"]
    injector = subject.injector.in_scenario(
        failing, lambda step: InjectedFailure(f"{step} was made to fail"), latecomers(scenario)
    )
    injector.always_replay = any(injury.fault == "replay" for injury in scenario)
    return evolve(subject, injector=injector)


def shown(frozen: Hashable) -> object:
    """What `World.seen` has made comparable, as it looked before."""
    match frozen:
        case ("dict", frozenset() as items):
            return {_shown_key(key): shown(value) for key, value in sorted(items, key=repr)}
        case ("set", frozenset() as items):
            return {_shown_key(item) for item in items}
        case ("list", *items):
            return [shown(item) for item in items]
        case ("tuple", *items):
            return tuple(shown(item) for item in items)
        case (str(), value):
            return value
        case _:
            return frozen


def _shown_key(frozen: Hashable) -> Hashable:
    key = shown(frozen)
    return key if isinstance(key, Hashable) else repr(key)


def _frozen(value: object) -> Hashable:
    """A value as something that can be held in a set; what cannot be compared goes by how it is shown."""
    match value:
        case dict():
            return ("dict", frozenset((_frozen(key), _frozen(item)) for key, item in value.items()))
        case list() | tuple():
            return (type(value).__name__, *map(_frozen, value))
        case set() | frozenset():
            return ("set", frozenset(map(_frozen, value)))
        case str() | bytes() | int() | float() | bool() | None:
            return (type(value).__name__, value)
        case _:
            return repr(value)
