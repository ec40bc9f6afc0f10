"""D5: every type that is promised comes back equal and of the same type, with an annotation and without one."""

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
import pytest
import typing_extensions
from cattrs import Converter

from flowkit.codec import JsonCodec
from flowkit.errors import SerializationError

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


def twins(one: object, other: object) -> bool:
    """Equal, and of the same types all the way down; NaN equals itself here."""
    if type(one) is not type(other):
        return False
    cls: Any = type(one)
    if attrs.has(cls):
        names = {a.name for a in attrs.fields(cls)} | set(getattr(one, "__dict__", ()))
        return all(twins(getattr(one, name), getattr(other, name)) for name in names if name != "_attrs_cached_hash")
    match one, other:
        case (dict(), dict()):
            ordered = list(one) == list(other) or isinstance(one, Counter)
            return ordered and all(twins(a, b) for a, b in zip(one.items(), other.items(), strict=True))
        case (list() | tuple(), list() | tuple()):
            return len(one) == len(other) and all(twins(a, b) for a, b in zip(one, other, strict=True))
        case (datetime() | time(), datetime() | time()):
            return one == other and one.fold == other.fold and repr(one.tzinfo) == repr(other.tzinfo)
        case (float() | complex() | Decimal(), _):
            return repr(one) == repr(other)
        case _:
            return one == other


def there_and_back(value: object, hint: object, codec: JsonCodec | None = None) -> object:
    """Through JSON text and back."""
    codec = codec or JsonCodec()
    return codec.from_json(codec.loads(codec.dumps(codec.to_json(value, hint))), hint)


@pytest.mark.parametrize(("value", "hint"), SAMPLES, ids=[f"{i}-{hint}" for i, (_, hint) in enumerate(SAMPLES)])
def test_comes_back_with_its_annotation(value: object, hint: object) -> None:
    """A value that its annotation describes comes back as itself."""
    assert twins(there_and_back(value, hint), value)


@pytest.mark.parametrize("hint", ANNOTATIONS, ids=str)
def test_comes_back_whatever_its_annotation(hint: object) -> None:
    """No annotation coerces or loses a value that it does not describe."""
    codec = JsonCodec()
    for value, _ in SAMPLES:
        assert twins(there_and_back(value, hint, codec), value), value


def test_comes_back_inside_others() -> None:
    """Values survive as items of untyped containers, keys of dicts and attributes."""
    for value, _ in SAMPLES:
        for whole in ([value], (value, value), {"$": value}, {1: value}, Box(value), [Box([value])]):
            assert twins(there_and_back(whole, Any), whole), whole


def test_hashable_values_come_back_as_keys_and_members() -> None:
    """Dict keys and set members of any type survive."""
    for value, _ in SAMPLES:
        try:
            hash(value)
        except TypeError:
            continue
        for whole in ({value: 1}, {value}):
            back = there_and_back(whole, Any)
            assert isinstance(back, (dict, set))
            assert twins(list(back), [value])


@pytest.mark.parametrize(
    ("hint", "value", "text"),
    [
        (Order, attrs.evolve(ORDER, items=[], by_colour={}, anything=(1,)), ORDER_TEXT),
        (list[datetime], [WHEN, "no date"], b'["2024-02-29T12:30:15.000250+00:00",{"$":"any","=":"no date"}]'),
        (int, "x", b'"x"'),
        (Any, {"ü": (1, None)}, '{"ü":{"$":"tuple","=":[1,null]}}'.encode()),
        (Any, ITEM, f'{{"$":"{__name__}:Item","sku":"a","price":"1.50","tags":["x","y"]}}'.encode()),
        (Any, Colour.RED, f'{{"$":"{__name__}:Colour","=":"RED"}}'.encode()),
        (Point, Point(1), b'{"x":1,"at":null}'),
        (datetime, datetime(2024, 10, 27, 2, tzinfo=BERLIN, fold=1), b'"2024-10-27T02:00:00[fold=1][Europe/Berlin]"'),
    ],
)
def test_text_is_for_people(hint: object, value: object, text: bytes) -> None:
    """What an annotation says is not repeated, and the rest says what it is."""
    codec = JsonCodec()
    assert codec.dumps(codec.to_json(value, hint)) == text


def test_document_shares_nothing_with_the_value() -> None:
    """A value that is changed later changes neither its document nor what was read from it."""
    codec = JsonCodec()
    value: list[Any] = [[1], {"a": [2]}]
    document = codec.to_json(value, list[Any])
    back = codec.from_json(document, list[Any])
    value[0].append(9)
    assert document == back == [[1], {"a": [2]}]
    assert back is not document


def test_equal_sets_are_equal_bytes() -> None:
    """A set is written in one order, whatever order it was made in."""
    codec = JsonCodec()
    members = [(1, "x"), "b", 7, None, Decimal(2), frozenset({"p", "q"}), "a"]
    texts = {codec.dumps(codec.to_json(set(order))) for order in (members, members[::-1], members[3:] + members[:3])}
    assert len(texts) == 1


def test_init_is_not_run_again() -> None:
    """An instance is put together from its fields: what its `__init__` would change or refuse stays as it was."""
    value = Converted("a b")
    object.__setattr__(value, "due", -1)
    back = there_and_back(value, Converted)
    assert isinstance(back, Converted)
    assert (back.words, back.due) == (["a", "b"], -1)


def test_cached_properties_are_made_anew() -> None:
    """What can be computed again is not stored, so it does not matter that it could not be."""
    line = Line("a", 1)
    assert callable(line.label)
    back = there_and_back(line, Line)
    assert isinstance(back, Line)
    assert "label" not in vars(back)
    assert back.seen == {"times": (1, 2)}


def test_unset_field_stays_unset() -> None:
    """A field that `__init__` does not set may be missing."""
    value = Loose(1)
    del value.total
    assert not hasattr(there_and_back(value, Loose), "total")


def _with_name(value: str, field: "attrs.Attribute[Any]") -> str:
    return f"{field.name}: {value}"


def test_missing_field_takes_its_default() -> None:
    """Data recorded before a field was added reads, with the default that the class gives it now."""

    @attrs.frozen
    class Grown:
        a: int
        b: list[int] = attrs.field(factory=lambda: [1])
        c: int = attrs.field(default=attrs.Factory(lambda self: self.a + 1, takes_self=True))
        d: str = attrs.field(default="4", converter=str.lower)  # type: ignore[misc]  # as attrs allows
        e: str = attrs.field(default="E", converter=attrs.Converter(_with_name, takes_field=True))  # type: ignore[misc]  # as above

    @dataclasses.dataclass
    class Data:
        a: int
        b: list[int] = dataclasses.field(default_factory=lambda: [2])
        c: int = 3

    codec = JsonCodec()
    assert codec.from_json({"a": 1}, Grown) == Grown(1)
    assert codec.from_json({"a": 1, "gone": 2}, Data) == Data(1)
    assert codec.from_json({"x": 1}, Point) == Point(1)
    for hint in (Grown, Data, Point):
        with pytest.raises(SerializationError):
            codec.from_json({}, hint)


def test_classes_without_a_module_survive_where_the_annotation_names_them() -> None:
    """A class that is defined in a function needs to be named by the annotation, alone or among others."""

    @attrs.define
    class Leaf:
        value: int

    @dataclasses.dataclass
    class Twig:
        leaf: Leaf
        other: Leaf | None = None

    class Mood(enum.Enum):
        GOOD = 1

    class Spot(NamedTuple):
        leaf: Leaf

    values: list[tuple[object, object]] = [
        (Leaf(1), Leaf),
        (Twig(Leaf(1), Leaf(2)), Twig),
        ([Leaf(1)], list[Leaf]),
        ({"a": Leaf(1)}, dict[str, Leaf]),
        (Mood.GOOD, Mood),
        ({Mood.GOOD: (Leaf(1),)}, dict[Mood, tuple[Leaf, ...]]),
        (Spot(Leaf(3)), Spot),
        (Leaf(1), Leaf | Mood),
        (Mood.GOOD, Union[Leaf, Mood, None]),  # noqa: UP007  # the old spelling
        ([Twig(Leaf(1))], list[Twig | Leaf]),
    ]
    for value, hint in values:
        assert twins(there_and_back(value, hint), value)
    with pytest.raises(SerializationError, match=r"^\$\[0\]: .*Leaf.*name it in the annotation"):
        there_and_back([Leaf(1)], Any)


def test_two_classes_of_one_name_are_kept_apart() -> None:
    """A class that another one has taken the name of is refused, not mixed up with it."""
    impostor = attrs.make_class("Item", ["sku"])
    impostor.__module__ = __name__
    assert twins(there_and_back(impostor("a"), impostor), impostor("a"))
    with pytest.raises(SerializationError, match="cannot be found again by its name"):
        there_and_back(impostor("a"), Any)


def test_changed_annotation_reads_what_it_can() -> None:
    """Data in the form of another annotation is read as what it is, where its form shows that."""
    codec = JsonCodec()
    assert codec.from_json(5, datetime) == 5
    assert codec.from_json([1], dict[str, int]) == [1]
    assert codec.from_json({"a": 1}, list[int]) == {"a": 1}
    assert codec.from_json(codec.to_json({1: 2}, dict[int, int]), Any) == {1: 2}
    assert codec.from_json(codec.to_json(ITEM), Item) == ITEM
    assert codec.from_json(codec.to_json(Colour.RED), Colour) is Colour.RED


def test_subclasses_of_what_is_known_are_refused_or_kept_whole() -> None:
    """A class with fields that also is a dict, list or exception has more to it than its fields."""

    @attrs.define
    class Shelf(dict[str, int]):
        name: str

    @dataclasses.dataclass
    class Row(list[int]):
        name: str = ""

    for value in (Shelf("a"), Row("b")):
        for hint in (Any, type(value), type(value) | int):
            with pytest.raises(SerializationError, match=r"convert it with|define the class at module level"):
                there_and_back(value, hint)
    back = there_and_back(Failure(3), Failure)
    assert isinstance(back, Failure)
    assert (back.code, back.args) == (3, (3,))


def test_forged_and_removed_enum_members_are_refused() -> None:
    """What is no member is not written, and a member that is gone is not guessed."""
    forged = object.__new__(Colour)
    forged._name_ = "GREEN"
    with pytest.raises(SerializationError, match="is no member of Colour"):
        there_and_back(forged, Colour)
    with pytest.raises(SerializationError, match="Colour has no member 'GREEN'"):
        JsonCodec().from_json("GREEN", Colour)


def test_types_that_attrs_was_told() -> None:
    """A type that is given without an annotation, or resolved later, counts as one."""

    @attrs.define
    class Later:
        inner: "Inner"

    @attrs.define
    class Inner:
        when: datetime

    made = attrs.make_class("made", {"inner": attrs.field(type=Inner), "free": attrs.field()})
    attrs.resolve_types(Later, localns={"Inner": Inner})
    for value in (Later(Inner(WHEN)), made(Inner(WHEN), (1,))):
        assert twins(there_and_back(value, type(value)), value)


def test_generic_aliases_and_type_aliases() -> None:
    """Names for annotations are looked through; what cannot be substituted says nothing."""

    @attrs.define
    class Holder(Generic[P, T]):
        call: typing.Callable[P, T]
        value: T

    @attrs.define
    class Local:
        when: datetime

    box_of = typing_extensions.TypeAliasType("box_of", Box[T], type_params=(T,))
    name = typing_extensions.TypeAliasType("name", list[Local])
    circle = NewType("circle", int)
    circle.__supertype__ = circle  # type: ignore[attr-defined]  # that is the point
    values: list[tuple[object, object]] = [
        (Box(Local(WHEN)), box_of[Local]),
        ([Local(WHEN)], name),
        (5, circle),
        (Holder([1], Local(WHEN)), Holder[[int], Local]),  # type: ignore[arg-type]  # no function, no matter
        (Box(Local(WHEN)), Box[Local]),
    ]
    for value, hint in values:
        assert twins(there_and_back(value, hint), value), hint


def test_generic_class_with_hooks_of_its_own() -> None:
    """Hooks that are registered for a generic class serve all its aliases."""
    converter = Converter()
    converter.register_unstructure_hook(Box, lambda box: [box.content])
    converter.register_structure_hook(Box, lambda data, _: Box(data[0]))
    codec = JsonCodec(converter)
    for hint in (Box, Box[int], Box[Box[int]], Any):
        assert codec.to_json(Box(1), hint) in ([1], {"$": f"{__name__}:Box", "=": [1]})
        assert there_and_back(Box(Box(1)), hint, codec) == Box(Box(1))
