"""D5: a value that is seen live is what is seen on replay."""

import datetime as dt
import decimal
import enum
import math
import pathlib
import uuid
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

import attrs
import pytest

from flowkit import Flow, SerializationError, step, task
from tests.rules.colours import Body, Colour
from tests.rules.conftest import Store
from tests.rules.seeing import numbered, see
from tests.twins import twins


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


# Without an annotation, each of these comes back as itself or not at all.
UNTYPED: list[object] = [
    *(value for _, value in TYPED),
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
]


class TestValues:
    """D5."""

    @pytest.mark.parametrize("value", PLAIN, ids=numbered(PLAIN))
    def test_plain_values_survive(self, memory: Store, colour: Colour, value: object) -> None:
        """D5: a result of the known types comes back as itself without any annotation, live and on replay."""
        for seen in see(memory, colour, lambda: value):
            assert twins(seen, value), seen

    def test_nan_survives(self, memory: Store, colour: Colour) -> None:
        """D5: NaN comes back as NaN, live and on replay."""
        for seen in see(memory, colour, lambda: [math.nan, {"a": complex(math.nan, 1)}]):
            assert math.isnan(seen[0])
            assert math.isnan(seen[1]["a"].real)

    @pytest.mark.parametrize(("annotation", "value"), TYPED, ids=numbered(value for _, value in TYPED))
    def test_classes_survive_where_the_annotation_names_them(
        self, memory: Store, colour: Colour, annotation: object, value: object
    ) -> None:
        """D5: classes that the annotation names come back as instances, without registration."""
        for seen in see(memory, colour, lambda: value, annotation):
            assert twins(seen, value), seen

    @pytest.mark.parametrize(
        "value",
        UNTYPED,
        ids=numbered(UNTYPED),
    )
    def test_nothing_comes_back_as_something_else(self, memory: Store, colour: Colour, value: object) -> None:
        """D5: without an annotation a value comes back as itself, or fails at once, the same on replay."""
        seen = see(memory, colour, lambda: value)
        if isinstance(seen[0], SerializationError):
            assert all(type(other) is SerializationError and str(other) == str(seen[0]) for other in seen)
            assert "make" in str(seen[0])
        else:
            assert all(twins(other, value) for other in seen), seen

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
            assert twins(seen, {"all": [PLAIN, tuple(PLAIN)]})

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
