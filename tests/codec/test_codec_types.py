"""D5: every type that is promised comes back equal and of the same type, with an annotation and without one."""

import typing
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, NewType

import attrs
import pytest
import typing_extensions

from flowkit.codec import JsonCodec
from tests.codec.samples import (
    ANNOTATIONS,
    BERLIN,
    ITEM,
    ORDER,
    ORDER_TEXT,
    SAMPLES,
    WHEN,
    Box,
    Colour,
    Item,
    Order,
    P,
    Point,
    T,
    there_and_back,
)
from tests.twins import twins


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
        (Any, ITEM, f'{{"$":"{Item.__module__}:Item","sku":"a","price":"1.50","tags":["x","y"]}}'.encode()),
        (Any, Colour.RED, f'{{"$":"{Colour.__module__}:Colour","=":"RED"}}'.encode()),
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


def test_changed_annotation_reads_what_it_can() -> None:
    """Data in the form of another annotation is read as what it is, where its form shows that."""
    codec = JsonCodec()
    assert codec.from_json(5, datetime) == 5
    assert codec.from_json([1], dict[str, int]) == [1]
    assert codec.from_json({"a": 1}, list[int]) == {"a": 1}
    assert codec.from_json(codec.to_json({1: 2}, dict[int, int]), Any) == {1: 2}
    assert codec.from_json(codec.to_json(ITEM), Item) == ITEM
    assert codec.from_json(codec.to_json(Colour.RED), Colour) is Colour.RED


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
