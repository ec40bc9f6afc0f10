"""Values of every type that is promised, and annotations that describe them."""

import dataclasses
import enum
import math
import typing
from collections import Counter, OrderedDict, deque, namedtuple
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    ParamSpec,
    TypedDict,
    TypeVar,
    Union,
)
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs

from flowkit.codec import JsonCodec

T = TypeVar("T")
P = ParamSpec("P")
BERLIN = ZoneInfo("Europe/Berlin")


class Colour(enum.Enum):
    """Members with values of several types, and an alias."""

    RED = 1
    BLUE = ("b", 2)
    CRIMSON = 1  # noqa: PIE796  # an alias is a name of its own


class Level(enum.IntEnum):
    """An enum whose members are integers."""

    LOW = 1


class Word(enum.StrEnum):
    """An enum whose members are strings."""

    YES = "yes"


class Rights(enum.Flag):
    """A flag: combinations of members are values too."""

    READ = enum.auto()
    WRITE = enum.auto()


class Point(NamedTuple):
    """A NamedTuple with a default."""

    x: int
    at: datetime | None = None


Pair = namedtuple("Pair", "left right")  # noqa: PYI024  # the untyped kind has to survive too


@attrs.frozen
class Item:
    """A frozen attrs class."""

    sku: str
    price: Decimal
    tags: frozenset[str] = frozenset()


@attrs.define
class Order:
    """An attrs class that contains others, itself too."""

    id: UUID
    items: list[Item]
    placed: datetime
    colour: Colour = Colour.RED
    parent: "Order | None" = None
    by_colour: dict[Colour, Item] = attrs.field(factory=dict)
    anything: Any = None


@attrs.define(slots=False)
class Loose:
    """An attrs class without slots, with a private field and one that is not in its `__init__`."""

    _secret: int
    total: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.total = self._secret * 2


def _split(text: str) -> list[str]:
    return text.split()


@attrs.define
class Converted:
    """An attrs class whose `__init__` does not take what its fields hold."""

    words: list[str] = attrs.field(converter=_split)
    due: int = attrs.field(default=0, validator=attrs.validators.ge(0))


@attrs.frozen(cache_hash=True)
class Hashed:
    """An attrs class that keeps its hash in a slot."""

    key: tuple[int, ...]


@attrs.frozen(cache_hash=True, slots=False)
class LooselyHashed:
    """An attrs class that keeps its hash in its `__dict__`."""

    key: str


@attrs.define
class Failure(Exception):
    """An attrs class that is an exception."""

    code: int


@dataclasses.dataclass
class Line:
    """A dataclass whose `__init__` does more than set its fields."""

    sku: str
    count: int
    cost: float = dataclasses.field(init=False)
    scale: dataclasses.InitVar[float] = 1.0

    def __post_init__(self, scale: float) -> None:
        self.cost = self.count * scale
        self.seen = {"times": (1, 2)}  # an attribute that is no field

    @cached_property
    def label(self) -> object:
        """What cannot be stored, but can be made again."""
        return lambda: self.sku


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """A dataclass with all the switches."""

    when: date
    path: Path = Path("a/b")
    late: int = dataclasses.field(init=False, default=3)


@dataclasses.dataclass(order=True)
class Base:
    """A dataclass to derive from."""

    a: int


@dataclasses.dataclass(order=True)
class Derived(Base):
    """A dataclass that derives from one."""

    b: bytes = b""


@attrs.frozen
class Box(Generic[T]):
    """A generic class."""

    content: T
    more: list[T] = attrs.field(factory=list)


class Film(TypedDict):
    """A TypedDict."""

    title: str
    made: date
    rating: NotRequired[Decimal]


Odd = TypedDict("Odd", {"$": int, "not a name": datetime})  # keys that are no identifiers

OrderId = NewType("OrderId", UUID)
ID = UUID("12345678-1234-5678-1234-567812345678")
WHEN = datetime(2024, 2, 29, 12, 30, 15, 250, tzinfo=timezone.utc)  # noqa: UP017  # the other spelling
ITEM = Item("a", Decimal("1.50"), frozenset({"x", "y"}))
ORDER = Order(ID, [ITEM], WHEN, Colour.BLUE, None, {Colour.RED: ITEM}, {"deep": (ITEM, {1: b"x"})})
FILM: Film = {"title": "Up", "made": date(2009, 5, 29), "rating": Decimal("8.3")}

ORDER_TEXT = (
    b'{"id":"12345678-1234-5678-1234-567812345678","items":[],"placed":"2024-02-29T12:30:15.000250+00:00",'
    b'"colour":"BLUE","parent":null,"by_colour":{"$":"map","=":[]},"anything":{"$":"tuple","=":[1]}}'
)

# A value, and an annotation that describes it.
SAMPLES: list[tuple[object, object]] = [
    (None, None),
    (True, bool),
    (0, int),
    (-(10**30), int),
    (10**6000, int),
    (-(1 << 2000), int),
    (1.5, float),
    (-0.0, float),
    (math.inf, float),
    (-math.inf, float),
    (math.nan, float),
    (1, float),
    ("", str),
    ("héllo ✓ \x00 \u2028", str),
    ("\ud800 and \udcff", str),
    ("\ud83d\ude00", str),
    ([], list),
    ([1, "a", None, [2.5]], list[Any]),
    ([1, 2], list[int]),
    ([1, 2], Sequence[int]),
    ({}, dict),
    ({"a": 1, "": 2}, dict[str, int]),
    ({"a": 1}, Mapping[str, int]),
    ({"$": 1}, dict[str, int]),
    ({"$": "tuple", "=": [1]}, dict[str, Any]),
    ({"=": 1, "v": 2}, dict[str, Any]),
    ({1: "a", None: "b", (1, 2): "c", 2.5: "d", b"x": "e"}, dict),
    ({1: {2: {3: 4}}}, dict[int, dict[int, dict[int, int]]]),
    ({Colour.RED: [ITEM]}, dict[Colour, list[Item]]),
    ({"1": "a", 1: "b"}, dict[Any, str]),
    ((), tuple),
    ((1,), tuple[int]),
    ((1, "a", (2,)), tuple[int, str, tuple[int]]),
    ((WHEN, WHEN), tuple[datetime, ...]),
    (set(), set),
    ({1, 2, 3}, set[int]),
    ({"b", "a"}, set[str]),
    ({1, "a", None, (1, 2), 2.5}, set[Any]),
    (frozenset({frozenset({1}), frozenset()}), frozenset[frozenset[int]]),
    (b"", bytes),
    (bytes(range(256)), bytes),
    (bytearray(b"ab"), bytearray),
    (WHEN, datetime),
    (WHEN.replace(tzinfo=None), datetime),
    (WHEN.replace(tzinfo=None, fold=1), datetime),
    (WHEN.replace(tzinfo=timezone(timedelta(hours=-3, minutes=-30, seconds=-5))), datetime),
    (WHEN.replace(tzinfo=timezone(timedelta(hours=1), "[odd] name]"), fold=1), datetime),
    (datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN), datetime),
    (datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1), datetime),
    (datetime.min, datetime),  # noqa: DTZ901  # naive ones survive too
    (datetime.max, datetime),  # noqa: DTZ901  # naive ones survive too
    (date(1, 1, 1), date),
    (time(23, 59, 59, 999999), time),
    (time(1, tzinfo=timezone.utc), time),  # noqa: UP017  # the other spelling
    (time(1, tzinfo=BERLIN, fold=1), time),
    (timedelta(-3, 5, 7), timedelta),
    (timedelta.max, timedelta),
    (Decimal("1.10"), Decimal),
    (Decimal("-Infinity"), Decimal),
    (Decimal("sNaN123"), Decimal),
    (Decimal("1E+999999"), Decimal),
    (ID, UUID),
    (ID, OrderId),
    (Path("a/../b"), Path),
    (Path("/x"), PurePath),
    (PurePosixPath("a"), PurePosixPath),
    (PureWindowsPath("C:\\x"), PureWindowsPath),
    (1 + 2j, complex),
    (complex(-0.0, math.inf), complex),
    (range(1, 9, 2), range),
    (Colour.RED, Colour),
    (Colour.BLUE, Colour),
    (Colour.CRIMSON, Colour),
    (Level.LOW, Level),
    (Word.YES, Word),
    (Rights.READ | Rights.WRITE, Rights),
    (Rights(0), Rights),
    (Colour.RED, Literal[Colour.RED]),
    (Point(1), Point),
    (Point(1, WHEN), Point),
    (Pair((1,), {2}), Pair),
    (ITEM, Item),
    (ORDER, Order),
    (attrs.evolve(ORDER, parent=ORDER), Order),
    (Loose(4), Loose),
    (Converted("a b"), Converted),
    (Hashed((1, 2)), Hashed),
    (LooselyHashed("k"), LooselyHashed),
    (Line("a", 2, 1.5), Line),
    (Frozen(when=date(2024, 1, 1)), Frozen),
    (Derived(1, b"x"), Derived),
    (Derived(1, b"x"), Base),
    (Box(WHEN, [WHEN]), Box[datetime]),
    (Box(Box(1)), Box[Box[int]]),
    (Box((1,)), Box),
    (FILM, Film),
    ({"title": "Up"}, Film),
    ({"title": "Up", "extra": (1,)}, Film),
    ({"$": 1, "not a name": WHEN}, Odd),
    ([FILM, FILM], list[Film]),
    (None, Optional[Order]),  # noqa: UP045  # the old spelling
    (ORDER, Optional[Order]),  # noqa: UP045  # the old spelling
    (ORDER, Order | Item | None),
    (ITEM, Union[Order, Item]),  # noqa: UP007  # the old spelling
    (WHEN, str | datetime),
    ("2024-01-01", str | date),
    (WHEN, Annotated[datetime, "unhashable", []]),
    ([ITEM], Annotated[list[Annotated[Item, 1]], 2]),
    (Counter("aab"), Counter),
    (OrderedDict([("b", 1), ("a", 2)]), OrderedDict),
    (deque([1, (2,)], maxlen=3), deque),
]

# Annotations that have nothing to do with most of the values above.
ANNOTATIONS: list[object] = [
    Any,
    object,
    *dict.fromkeys(hint for _, hint in SAMPLES if typing.get_origin(hint) is not Annotated),
    Annotated[int, []],
    "Order",
    list["Nowhere"],  # type: ignore[name-defined]  # noqa: F821  # that is the point
    typing.Callable[[int], str],
    typing.Iterator[int],
    T,
    type,
    Fraction,
    list[dict[str, tuple[Item, ...] | None]],
    Union[list[int], dict[int, int], None],  # noqa: UP007  # the old spelling
]


def there_and_back(value: object, hint: object, codec: JsonCodec | None = None) -> object:
    """Through JSON text and back."""
    codec = codec or JsonCodec()
    return codec.from_json(codec.loads(codec.dumps(codec.to_json(value, hint))), hint)
