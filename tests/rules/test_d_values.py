"""D5 and D6: what is seen live is what is seen on replay, values and exceptions alike."""

import asyncio
import datetime as dt
import decimal
import enum
import math
import pathlib
import sys
import types
import uuid
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple, TypedDict

import attrs
import pytest

from flowkit import (
    Flow,
    NonRetryable,
    Retry,
    RunBlocked,
    SerializationError,
    StepError,
    StepTimeout,
    step,
    task,
)
from tests.rules.colours import Body, Colour
from tests.rules.conftest import Crash, Store


class Size(enum.Enum):
    """A plain enum."""

    SMALL = "s"
    LARGE = "l"


class Level(enum.IntEnum):
    """An enum that is an int."""

    LOW = 1


class Mode(enum.Flag):
    """A set of bits."""

    READ = enum.auto()
    WRITE = enum.auto()


@attrs.frozen
class Line:
    """An attrs class."""

    name: str
    prices: tuple[decimal.Decimal, ...] = ()


@dataclass
class Order:
    """A dataclass of other classes."""

    id: uuid.UUID
    lines: list[Line] = field(default_factory=list)
    size: Size | None = None


class Point(NamedTuple):
    """A NamedTuple."""

    x: int
    y: float


class Row(TypedDict, total=False):
    """A TypedDict."""

    when: dt.datetime
    line: Line


LOOSE = namedtuple("LOOSE", "a b")  # noqa: PYI024  # one without types
UTC = dt.UTC
ZONE = dt.timezone(dt.timedelta(hours=5, minutes=30), "IST")

PLAIN: list[object] = [
    None,
    True,
    0,
    -1,
    2**200,
    0.1,
    -0.0,
    math.inf,
    -math.inf,
    "",
    "ünïcödé \U0001f600 \x00 \u2028",
    [],
    [1, [2, [3, None]]],
    {},
    {"a": {"b": [1]}},
    {1: "int", "1": "text", None: "none", 1.5: "float", (1, 2): "tuple"},
    {"$type": "x", "__flowkit__": 1, "": ""},
    (),
    (1,),
    ((1, (2,)), [3]),
    {1, 2},
    frozenset({("a", 1)}),
    {frozenset({1}), frozenset()},
    b"",
    bytes(range(256)),
    dt.datetime(2024, 2, 29, 23, 59, 59, 999999),  # noqa: DTZ001  # one without a zone
    dt.datetime(2024, 2, 29, tzinfo=UTC),
    dt.datetime(2024, 2, 29, tzinfo=ZONE),
    dt.datetime(2024, 10, 27, 2, 30, fold=1),  # noqa: DTZ001  # one without a zone
    dt.date(1, 1, 1),
    dt.time(1, 2, 3, 4),
    dt.time(1, tzinfo=UTC),
    dt.timedelta(days=-1, microseconds=1),
    decimal.Decimal("1.10"),
    decimal.Decimal("-Infinity"),
    uuid.UUID(int=7),
    pathlib.PurePosixPath("/a/b"),
    pathlib.Path("a") / "b",
    complex(1, -2.5),
    complex(-0.0, math.inf),
]

TYPED: list[tuple[object, object]] = [
    (Size, Size.LARGE),
    (Level, Level.LOW),
    (Mode, Mode.READ | Mode.WRITE),
    (Line, Line("a", (decimal.Decimal("1.0"),))),
    (Order, Order(uuid.UUID(int=1), [Line("x")], Size.SMALL)),
    (Point, Point(1, 2.0)),
    (Row, Row(when=dt.datetime(2024, 1, 1, tzinfo=UTC), line=Line("a"))),
    (list[Order], [Order(uuid.UUID(int=2))]),
    (dict[Size, set[Point]], {Size.SMALL: {Point(1, 1.5)}}),
    (Line | Point | None, Point(3, 4.0)),
    (tuple[Line, Size], (Line("a"), Size.LARGE)),
]


_numbers = count(1)


def numbered(value: object) -> str:
    """An id for a parameter: its type, and a number since several have one type."""
    return f"{getattr(value, '__name__', type(value).__name__)}-{next(_numbers)}"


def same(left: object, right: object) -> bool:
    """Tell whether two values are equal, of one type, at every level (`1 == True`, and NaN is no equal of itself)."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict) and isinstance(right, dict):
        return len(left) == len(right) and all(map(same, left.items(), right.items()))
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return repr(left) == repr(right) if isinstance(left, float | complex | decimal.Decimal) else left == right


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
        flow = store.flow()
        with pytest.raises(Crash):
            flow.run(body.options(run_id="r"))
        flow.close()
    store.flow().run(body.options(run_id="r"))
    return seen


class TestValues:
    """D5."""

    @pytest.mark.parametrize("value", PLAIN, ids=numbered)
    def test_plain_values_survive(self, memory: Store, colour: Colour, value: object) -> None:
        """D5: a result of the known types comes back as itself without any annotation, live and on replay."""
        for seen in see(memory, colour, lambda: value):
            assert same(seen, value), seen

    def test_nan_survives(self, memory: Store, colour: Colour) -> None:
        """D5: NaN comes back as NaN, live and on replay."""
        for seen in see(memory, colour, lambda: [math.nan, {"a": complex(math.nan, 1)}]):
            assert math.isnan(seen[0])
            assert math.isnan(seen[1]["a"].real)

    @pytest.mark.parametrize(("annotation", "value"), TYPED, ids=numbered)
    def test_classes_survive_where_the_annotation_names_them(
        self, memory: Store, colour: Colour, annotation: object, value: object
    ) -> None:
        """D5: classes that the annotation names come back as instances, without registration."""
        for seen in see(memory, colour, lambda: value, annotation):
            assert same(seen, value), seen

    @pytest.mark.parametrize(
        "value",
        [value for _, value in TYPED]
        + [
            OrderedDict(a=1),
            bytearray(b"a"),
            object(),
            len,
            Order,
            LOOSE(1, 2),
            iter([1]),
            "\ud800",
            memoryview(b"a"),
            range(3),
            NotImplemented,
            type("Words", (str,), {})("a"),
            type("Numbers", (list,), {})([1]),
            {"deep": [{"er": object()}]},
        ],
        ids=numbered,
    )
    def test_nothing_comes_back_as_something_else(self, memory: Store, colour: Colour, value: object) -> None:
        """D5: without an annotation a value comes back as itself, or fails at once, the same on replay."""
        seen = see(memory, colour, lambda: value)
        if isinstance(seen[0], SerializationError):
            assert all(type(other) is SerializationError and str(other) == str(seen[0]) for other in seen)
            assert "make" in str(seen[0])
        else:
            assert all(same(other, value) for other in seen), seen

    def test_a_value_that_holds_itself_fails(self, memory: Store, colour: Colour) -> None:
        """D5: a list that contains itself is a `SerializationError`, not a hang and not a `RecursionError`."""
        loop: list[object] = []
        loop.append(loop)

        assert {type(seen) for seen in see(memory, colour, lambda: loop)} == {SerializationError}

    def test_what_cannot_survive_fails_at_once(self, flow: Flow, colour: Colour) -> None:
        """D5: a `SerializationError` names the step and the path in the value, and is not retried."""
        ran: list[str] = []

        @colour.step(attempts=5, name="fetch-page")
        def fetch() -> Any:  # noqa: ANN401  # no annotation helps the codec
            ran.append("fetch")
            return {"good": 1, "bad": [0, {"deep": object()}]}

        @colour.task(attempts=5)
        def body() -> Body[None]:
            ran.append("body")
            yield fetch()

        with pytest.raises(SerializationError) as caught:
            flow.run(body)

        assert ran == ["body", "fetch"]
        told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
        assert "fetch-page" in told
        for part in ("bad", "1", "deep"):
            assert part in str(caught.value)

    def test_a_result_is_a_copy_the_first_time_too(self, flow: Flow, colour: Colour) -> None:
        """D5: the body gets what the codec gives, not the object that the step still holds."""
        held = {"numbers": [1]}
        got: list[Any] = []

        @colour.step
        def make() -> dict[str, list[int]]:
            return held

        @colour.task
        def body() -> Body[None]:
            got.append((yield make()))
            held["numbers"].append(2)
            got.append((yield make()))

        flow.run(body)

        assert got == [{"numbers": [1]}, {"numbers": [1, 2]}]
        assert got[1] is not held

    def test_a_task_gets_copies_of_its_arguments(self, flow: Flow, colour: Colour) -> None:
        """D5: a task's arguments have been through the codec, keyword arguments and classes included."""
        order = Order(uuid.UUID(int=1), [Line("a")])
        got: list[Any] = []

        @colour.task
        def body(given: Order, *more: Line, tags: set[str], **rest: Point) -> Body[Order]:
            yield from ()
            got.extend([given, more, tags, rest])
            return given

        result = flow.run(body, order, Line("b"), tags={"x"}, other=Point(1, 2.0))

        assert got == [order, (Line("b"),), {"x"}, {"other": Point(1, 2.0)}]
        assert got[0] is not order
        assert result == order
        assert isinstance(result, Order)
        assert result is not got[0]

    def test_arguments_that_cannot_be_stored_are_refused(self, memory: Store, colour: Colour) -> None:
        """D5: a run whose arguments cannot be stored is never created."""

        @colour.task
        def body(_given: object) -> Body[None]:
            yield from ()

        flow = memory.flow()
        with pytest.raises(SerializationError):
            flow.run(body.options(run_id="r"), object())
        with pytest.raises(SerializationError):
            flow.start(body.options(run_id="r"), [object()])

        assert list(flow.runs().runs) == []

    def test_a_result_that_cannot_be_stored_fails_the_run(self, flow: Flow, colour: Colour) -> None:
        """D5: a task that returns what cannot survive fails, once, with `SerializationError`."""
        ran: list[str] = []

        @colour.task(attempts=3)
        def body() -> Body[object]:
            yield from ()
            ran.append("body")
            return object()

        with pytest.raises(SerializationError):
            flow.run(body.options(run_id="r"))

        assert flow.handle("r").status() == "failed"
        assert ran == ["body"]

    def test_all_of_them_at_once(self, store: Store, colour: Colour) -> None:
        """D5: the known types survive on every storage, nested in one value."""
        for seen in see(store, colour, lambda: {"all": [PLAIN, tuple(PLAIN)]}):
            assert same(seen, {"all": [PLAIN, tuple(PLAIN)]})

    def test_large_values_survive(self, flow: Flow) -> None:
        """D5: eight mebibytes come back, and what is over the storage's limit fails with `SerializationError`."""

        @step(attempts=3)
        def make(mebibytes: int) -> bytes:
            return bytes(mebibytes << 20)

        @task
        def body() -> int:
            return len(make(8))

        @task
        def too_much() -> int:
            return len(make(32))

        assert flow.run(body) == 8 << 20
        with pytest.raises(SerializationError):
            flow.run(too_much)


# ---- exceptions -----------------------------------------------------------------------------------------------------


class Declined(Exception):
    """An exception with attributes, whose `__init__` takes something else than its args."""

    made = 0

    def __init__(self, card: str, *, amount: int) -> None:
        type(self).made += 1
        super().__init__(f"{card} was declined")
        self.card = card
        self.amount = amount


class TwoArguments(Exception):
    """An exception whose args are not what its `__init__` takes."""

    def __init__(self, first: str, second: int) -> None:
        super().__init__(f"{first}-{second}")


class Unencodable(Exception):
    """An exception that carries what no codec can store."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.socket = object()
        self.code = 7


def raising(error: BaseException) -> Callable[[], Any]:
    """A function that raises an error."""

    def make() -> object:
        raise error

    return make


ERRORS = [
    ValueError("a", 1, None),
    KeyError("missing"),
    OSError(2, "No such file", "/a"),
    FileNotFoundError(2, "No such file", "/a"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    TimeoutError("slow"),
    asyncio.QueueEmpty(),
    NonRetryable("no", "more"),
    StepTimeout("by hand"),
    Declined("4242", amount=5),
    TwoArguments("a", 2),
    ExceptionGroup("several", [ValueError(1), ExceptionGroup("inner", [Declined("1", amount=2)])]),
    AssertionError(),
]


def details(error: BaseException) -> tuple[object, ...]:
    """Everything about an error that must not differ between a first run and a replay."""
    inner = tuple(map(details, error.exceptions)) if isinstance(error, BaseExceptionGroup) else ()
    kept = {key: value for key, value in vars(error).items() if key != "__notes__"}
    return type(error), error.args if not inner else error.args[0], str(error), kept, inner


class TestExceptions:
    """D6."""

    @pytest.mark.parametrize("error", ERRORS, ids=numbered)
    def test_an_exception_comes_back_as_itself(self, memory: Store, colour: Colour, error: Exception) -> None:
        """D6: class, args and attributes are the same live and on replay, and so are the notes."""
        seen = see(memory, colour, raising(error))

        assert [details(other) for other in seen] == [details(error)] * 3
        assert seen[0].__notes__ == seen[1].__notes__ == seen[2].__notes__

    def test_init_is_not_called(self, memory: Store, colour: Colour) -> None:
        """D6: an exception is rebuilt without its `__init__`."""
        error = Declined("1", amount=2)
        before = Declined.made
        seen = see(memory, colour, raising(error))

        assert Declined.made == before
        assert isinstance(seen[2], Declined)
        assert (seen[2].card, seen[2].amount) == ("1", 2)

    def test_attributes_that_cannot_be_stored(self, memory: Store, colour: Colour) -> None:
        """D6: an exception with an attribute that cannot be stored looks the same live and on replay."""
        seen = see(memory, colour, raising(Unencodable("busy")))

        assert len({type(error) for error in seen}) == 1
        assert [details(error) for error in seen] == [details(seen[0])] * 3
        assert "busy" in str(seen[0])
        if isinstance(seen[0], Unencodable):
            assert seen[0].code == 7

    def test_what_cannot_be_rebuilt_is_a_step_error(self, memory: Store, colour: Colour) -> None:
        """D6: an exception with args that cannot be stored is a `StepError`, live and on replay, and tells of it."""
        seen = see(memory, colour, raising(ValueError("very", object())))

        assert [type(error) for error in seen] == [StepError] * 3
        assert len({str(error) for error in seen}) == 1
        assert "ValueError" in seen[0].cause_type
        assert "very" in seen[0].cause_message

    def test_a_class_that_no_import_finds(self, memory: Store, colour: Colour) -> None:
        """D6: an exception whose class lives inside a function is the same live and on replay."""

        class Hidden(Exception):
            """A class that no name leads to."""

        seen = see(memory, colour, raising(Hidden("here")))

        assert [details(error) for error in seen] == [details(seen[0])] * 3
        assert isinstance(seen[0], Hidden | StepError)
        assert "here" in str(seen[0])

    def test_the_note_names_step_run_and_attempts(self, flow: Flow, colour: Colour) -> None:
        """D6: an error that reaches the caller carries a note with its step, its run and the attempts made."""

        @colour.step(retry=Retry(attempts=2, delay=0), name="charge-card")
        def charge() -> None:
            raise ValueError("no")

        @colour.task
        def body() -> Body[None]:
            yield charge()

        with pytest.raises(ValueError, match="no") as caught:
            flow.run(body.options(run_id="order-42"))

        assert str(caught.value) == "no"
        notes = "\n".join(caught.value.__notes__)
        for part in ("charge-card", "order-42", "2"):
            assert part in notes

    def test_a_class_that_is_gone_blocks_the_run(self, memory: Store, colour: Colour) -> None:
        """D6: when a recorded class is not imported in this process, the run is blocked and the module is named."""
        module = types.ModuleType("flowkit_rules_vanishing")
        exec("class Gone(Exception): pass", vars(module))  # noqa: S102  # a module that can be taken away again
        sys.modules[module.__name__] = module
        crashes = [Crash()]
        seen: list[Exception] = []

        @colour.step(attempts=1)
        def fail() -> None:
            raise module.Gone("gone")

        @colour.task
        def body() -> Body[str]:
            try:
                yield fail()
            except Exception as error:  # noqa: BLE001  # whatever comes back
                seen.append(error)
            if crashes:
                raise crashes.pop()
            return "done"

        first = memory.flow()
        with pytest.raises(Crash):
            first.run(body.options(run_id="r"))
        first.close()
        assert type(seen[0]) is module.Gone

        del sys.modules[module.__name__]
        flow = memory.flow()
        with pytest.raises(RunBlocked, match="flowkit_rules_vanishing"):
            flow.run(body.options(run_id="r"))
        assert flow.handle("r").status() == "blocked"

        sys.modules[module.__name__] = module
        flow.retry("r")
        assert flow.run(body.options(run_id="r")) == "done"
        assert [type(error) for error in seen] == [module.Gone] * 2
        del sys.modules[module.__name__]

    def test_the_run_raises_what_its_body_raised(self, memory: Store, colour: Colour) -> None:
        """D6: an error of the body reaches the first caller and every later one as itself."""

        @colour.task(attempts=1)
        def body() -> Body[None]:
            yield from ()
            raise Declined("4242", amount=5)

        for flow in (memory.flow(), memory.flow()):
            with pytest.raises(Declined) as caught:
                flow.run(body.options(run_id="r"))
            assert details(caught.value) == details(Declined("4242", amount=5))
        error = memory.flow().handle("r").wait_for_completion().error
        assert error is not None
        assert details(error) == details(Declined("4242", amount=5))


def test_an_error_inside_the_step_keeps_its_traceback(flow: Flow) -> None:
    """D6: the first time, the traceback still leads into the step's own code."""

    @step(attempts=1)
    def deep() -> None:
        raise ValueError("deep")

    @task
    def body() -> None:
        deep()

    with pytest.raises(ValueError, match="deep") as caught:
        flow.run(body)

    told = "\n".join([*(str(entry.path) for entry in caught.traceback), *getattr(caught.value, "__notes__", ())])
    assert "test_d_values" in told
