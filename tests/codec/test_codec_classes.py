"""D5: classes with fields, enums and generics: what is written of an instance, and what it is put together from."""

import dataclasses
import enum
from datetime import datetime
from typing import Any, NamedTuple, Union

import attrs
import pytest
from cattrs import Converter

from flowkit.codec import JsonCodec
from flowkit.errors import SerializationError
from tests.codec.samples import WHEN, Box, Colour, Converted, Failure, Item, Line, Loose, Point, there_and_back
from tests.twins import twins


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
    impostor.__module__ = Item.__module__
    assert twins(there_and_back(impostor("a"), impostor), impostor("a"))
    with pytest.raises(SerializationError, match="cannot be found again by its name"):
        there_and_back(impostor("a"), Any)


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


def test_generic_class_with_hooks_of_its_own() -> None:
    """Hooks that are registered for a generic class serve all its aliases."""
    converter = Converter()
    converter.register_unstructure_hook(Box, lambda box: [box.content])
    converter.register_structure_hook(Box, lambda data, _: Box(data[0]))
    codec = JsonCodec(converter)
    for hint in (Box, Box[int], Box[Box[int]], Any):
        assert codec.to_json(Box(1), hint) in ([1], {"$": f"{Box.__module__}:Box", "=": [1]})
        assert there_and_back(Box(Box(1)), hint, codec) == Box(Box(1))
