"""D5, D6: what is seen the first time is what is seen on replay."""

import enum
import math
import sys
import threading
import types
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypedDict

import attrs
import pytest

from flowkit import RunBlocked, RunStatus, SerializationError, StepError, step, task
from flowkit_testing import Harness, RunReport
from tests.rules.colours import Body, Colour


class Size(enum.Enum):
    """An enum."""

    SMALL = 1


@attrs.frozen
class Order:
    """An attrs class."""

    id: str
    at: datetime


@dataclass(frozen=True)
class Line:
    """A dataclass."""

    order: Order
    price: Decimal


class Point(NamedTuple):
    """A NamedTuple."""

    x: int
    y: float


class Address(TypedDict):
    """A TypedDict."""

    street: str


NOON = datetime(2026, 1, 2, 12, 30, 15, 999, tzinfo=UTC)
VALUES: list[object] = [
    1,
    True,
    0.1,
    "1",
    {1: "a", (2, 3): "b", None: "c", False: "d", 1.5: "e"},
    [math.inf, -math.inf, 2**300, -0.0, "\N{GRINNING FACE}\x00", None],
    (1, [2, (3,)]),
    {1, 2},
    frozenset({"a"}),
    b"\x00\xff",
    NOON,
    date(2026, 1, 2),
    time(1, 2, 3),
    timedelta(days=1, microseconds=1),
    Decimal("1.10"),
    uuid.UUID(int=7),
    PurePosixPath("a/b"),
    1 + 2j,
    Size.SMALL,
    Order("7", NOON),
    Line(Order("7", NOON), Decimal("9.90")),
    Point(1, 2.5),
    pytest.param(Address(street="High Street"), id="TypedDict"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_survives(harness: Harness, value: object) -> None:
    """D5: argument, result and error are the same, and of the same types, the first time and on replay."""
    seen: list[tuple[object, ...]] = []

    @step
    def echo(given: object) -> object:
        return given

    @step(attempts=1)
    def refuse(given: object) -> None:
        raise ValueError(given)

    @task
    def echoes(given: object) -> object:
        result = echo(given)
        try:
            refuse(given)
        except ValueError as error:
            seen.append((given, result, error.args[0]))
        return echo(result)

    harness.crash("echo#2", at="after_effect")
    run = harness.run(echoes, value)
    assert repr(run.output) == repr(value)
    assert len(seen) >= 2
    for each in [each for all_of_them in seen for each in all_of_them]:
        assert each == value
        assert type(each) is type(value)
        assert repr(each) == repr(value)


def test_nan_survives(harness: Harness, colour: Colour) -> None:
    """D5: so does what is not equal to itself."""
    seen: list[float] = []

    @colour.step
    def measure() -> float:
        return math.nan

    @colour.task
    def trip() -> Body[None]:
        seen.append((yield measure()))
        yield measure()

    harness.crash("measure#2")
    assert harness.run(trip).ok
    assert len(seen) >= 2
    assert all(map(math.isnan, seen))


def test_the_first_time_is_like_every_other(harness: Harness, colour: Colour) -> None:
    """D5: arguments and results pass through the codec at once: nobody shares what a step keeps."""
    kept: list[str] = ["a"]
    seen: list[tuple[list[str], list[str]]] = []
    shared: list[bool] = []

    @colour.step
    def give() -> list[str]:
        return kept

    @colour.step
    def end() -> None:
        pass

    @colour.task
    def trip(given: list[str]) -> Body[None]:
        got = yield give()
        shared.append(got is kept or given is argument)
        kept.append("b")
        seen.append((given, got))
        yield end()

    argument = ["x"]
    harness.crash("end")
    assert harness.run(trip, argument).ok
    assert len(seen) >= 2
    assert all(each == (["x"], ["a"]) for each in seen)
    assert not any(shared)


class Meters(int):
    """A number that JSON would make a mere int of."""


@pytest.mark.parametrize(
    "value", [object(), threading.Lock(), lambda: None, Meters(3)], ids=lambda value: type(value).__name__
)
def test_what_cannot_survive_fails_at_once(harness: Harness, colour: Colour, value: Any) -> None:  # noqa: ANN401  # what cannot be stored
    """D5: with an error that names the step and the path in the value, and without another attempt."""

    @colour.step(attempts=3)
    def measure() -> object:
        return {"found": [1, value]}

    @colour.task(attempts=3)
    def trip() -> Body[None]:
        yield measure()

    run = harness.run(trip)
    assert isinstance(run.error, SerializationError)
    assert "measure" in str(run.error)
    assert "$.found[1]" in str(run.error)
    run.assert_calls(measure=1)


def test_an_argument_that_cannot_survive(harness: Harness, colour: Colour) -> None:
    """D5: nor can it begin a run; the path in the argument is named."""

    @colour.task
    def trip(given: object) -> Body[None]:
        del given
        yield from ()

    with pytest.raises(SerializationError, match=r"\.found\[0\]"):
        harness.run(trip, {"found": [object()]})


def test_a_child_cannot_be_given_it_either(harness: Harness, colour: Colour) -> None:
    """D5: the task that tries is not started over for it, since the value would be no better the next time."""
    begun: list[int] = []

    @colour.task
    def child(given: object) -> Body[None]:
        del given
        yield from ()

    @colour.task(attempts=3)
    def parent() -> Body[None]:
        begun.append(1)
        yield child({"found": [object()]})

    run = harness.run(parent)
    assert isinstance(run.error, SerializationError)
    assert ".found[0]" in str(run.error)
    assert len(begun) == 1


class Refused(Exception):
    """An error with a constructor of its own, args that are not its parameters, and an attribute that stays here."""

    made = 0

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"refused with {code}")
        type(self).made += 1
        self.code, self.reason = code, reason
        self.lock = threading.Lock()


def caught(
    harness: Harness, colour: Colour, make: Callable[[], Exception], tells: Callable[[Exception], object]
) -> tuple[RunReport[None], set[object]]:
    """The run of a task that lets go on what its step has raised, and what that error told, live and on replay."""
    seen: list[object] = []

    @colour.step(attempts=1)
    def pay() -> None:
        raise make()

    @colour.step
    def end() -> None:
        pass

    @colour.task
    def trip() -> Body[None]:
        try:
            yield pay()
        except Exception as error:
            seen.append(tells(error))
            yield end()
            raise

    harness.crash("end")
    run = harness.run(trip)
    assert len(seen) >= 2
    return run, set(seen)


def test_an_error_comes_back_as_itself(harness: Harness, colour: Colour) -> None:
    """D6: class, args and encodable attributes, the same the first time and on replay, without its `__init__`."""
    Refused.made = 0

    def tells(error: Exception) -> tuple[object, ...]:
        assert isinstance(error, Refused)
        return type(error), error.args, error.code, error.reason, hasattr(error, "lock")

    run, seen = caught(harness, colour, lambda: Refused(402, reason="no money"), tells)
    assert seen == {(Refused, ("refused with 402",), 402, "no money", False)}
    assert isinstance(run.error, Refused)
    assert (run.error.code, run.error.args) == (402, ("refused with 402",))
    assert Refused.made == 1
    run.assert_calls(pay=1)


def test_an_error_that_cannot_come_back(harness: Harness, colour: Colour) -> None:
    """D6: whether it can be rebuilt is decided live: `StepError` stands for it, the first time and on replay."""

    class Local(Exception):
        """Nobody else can find this class."""

    def tells(error: Exception) -> str:
        assert isinstance(error, StepError)
        return f"{error.cause_type} {error.cause_message}"

    run, [told] = caught(harness, colour, lambda: Local("no money"), tells)
    assert "Local" in str(told)
    assert "no money" in str(told)
    assert isinstance(run.error, StepError)


@pytest.fixture
def plugin() -> Iterator[types.ModuleType]:
    """A module that one process has imported and another has not."""
    module = types.ModuleType("shop_of_a_test")
    exec("class Closed(Exception): pass", module.__dict__)  # noqa: S102  # what its file would say
    sys.modules[module.__name__] = module
    yield module
    sys.modules.pop(module.__name__, None)


def test_an_error_whose_class_is_not_imported(harness: Harness, colour: Colour, plugin: types.ModuleType) -> None:
    """D6: the run is blocked and names the module, which data does not import (D5); once imported, it goes on."""

    @colour.step(attempts=1)
    def pay() -> None:
        raise plugin.Closed("today")

    @colour.task
    def trip() -> Body[str]:
        try:
            yield pay()
        except plugin.Closed as error:
            yield colour.sleep("1d")
            return str(error)
        return "open"

    run = harness.start(trip)
    del sys.modules[plugin.__name__]
    harness.clock.advance("2d")
    assert run.status is RunStatus.BLOCKED
    assert isinstance(run.error, RunBlocked)
    assert plugin.__name__ in str(run.error)
    assert plugin.__name__ not in sys.modules

    sys.modules[plugin.__name__] = plugin
    harness.flow.retry(run.run_id)
    harness.clock.advance(1)
    assert run.output == "today"
    run.assert_calls(pay=1)


def test_what_the_started_script_defines(harness: Harness, colour: Colour, monkeypatch: pytest.MonkeyPatch) -> None:
    """D6: a class of `__main__` is recorded under the name by which other processes find its module."""
    script = types.ModuleType("__main__")
    script.__spec__ = types.SimpleNamespace(name="shop.main")  # type: ignore[assignment]  # as `python -m shop.main` has it
    exec("class Closed(Exception): pass", script.__dict__)  # noqa: S102  # what its file would say
    monkeypatch.setitem(sys.modules, "__main__", script)

    @colour.step(attempts=1)
    def pay() -> None:
        raise script.Closed("today")

    @colour.task
    def trip() -> Body[None]:
        yield pay()

    run = harness.run(trip)
    [entry] = [entry for entry in run.journal if entry.name == "pay"]
    assert "shop.main:Closed" in str(entry.data)
    assert "__main__" not in str(entry.data)
    assert isinstance(run.error, script.Closed)
