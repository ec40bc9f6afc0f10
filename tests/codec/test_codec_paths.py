"""D5: what cannot survive fails at once, and the message says where it is and what to do."""

import asyncio
import io
import socket
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from types import MappingProxyType
from typing import Any, NamedTuple

import attrs
import pytest

from flowkit.codec import JsonCodec
from flowkit.errors import SerializationError


class Plain:
    """A class like any other."""


class Text(str):
    """A string that is more than a string."""

    __slots__ = ()


class Spot(NamedTuple):
    """A NamedTuple."""

    here: Any


class Twelve(tuple[int, ...]):
    """Looks like a NamedTuple with more fields than items."""

    __slots__ = ()
    _fields = ("a", "b")
    _field_defaults: dict[str, int] = {}  # noqa: RUF012  # as NamedTuples have it


@attrs.define
class Order:
    """Attributes in slots."""

    items: Any
    next: "Order | None" = None


@dataclass
class Line:
    """Attributes in a dict."""

    what: Any


class Odd(tzinfo):
    """A time zone of nobody's."""

    def utcoffset(self, when: datetime | None) -> None:
        """None is known."""

    dst = tzname = utcoffset


def generator() -> Iterator[int]:
    """A generator."""
    yield 1


async def coroutine() -> None:
    """A coroutine."""


PLAIN = Plain()
KEY = Plain()


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (PLAIN, "$"),
        ([1, PLAIN], "$[1]"),
        ({"a": {"b c": (1, PLAIN)}}, "$.a['b c'][1]"),
        ({1: [PLAIN]}, "$[1][0]"),
        ({(1, KEY): 1}, "$.keys()[(1, <"),
        ({PLAIN}, "${<"),
        (deque([0, PLAIN]), "$[1]"),
        (OrderedDict(a=PLAIN), "$.a"),
        (Order([Line(PLAIN)]), "$.items[0].what"),
        (Order(1, Order(Spot(PLAIN))), "$.next.items.here"),
        ([ValueError(1, PLAIN)], "$[0]"),
        ({"items": [0, 1, 2, {"socket": PLAIN}]}, "$.items[3].socket"),
    ],
)
@pytest.mark.parametrize("hint", [Any, "its own"])
def test_path_leads_to_what_cannot_be_stored(value: object, path: str, hint: object) -> None:
    """Whatever it is in, and whether an annotation describes that or not."""
    with pytest.raises(SerializationError) as caught:
        JsonCodec().to_json(value, type(value) if hint == "its own" else hint)
    assert str(caught.value).startswith(path)
    assert f"{__name__}:Plain" in str(caught.value)


REMEDIES: list[tuple[object, str]] = [
    (print, "look it up inside the step"),
    (lambda: 1, "look it up inside the step"),
    (Plain, "look it up inside the step"),
    (generator(), "make it a list first"),
    (iter([]), "make it a list first"),
    ({}.keys(), "make it a list first"),
    (Text("a"), "convert it with str(...) first"),
    (defaultdict(list), "convert it with dict(...) first"),
    (MappingProxyType({}), "convert it with dict(...) first"),
    (threading.Lock(), "open it inside the step"),
    (io.StringIO(), "open it inside the step"),
    (datetime(2024, 1, 1, tzinfo=Odd()), "use datetime.timezone or zoneinfo.ZoneInfo"),
    (Twelve([1]), "as many items as its class has fields"),
    (Plain(), "attrs class or a dataclass"),
    (..., "attrs class or a dataclass"),
]


@pytest.mark.parametrize(("value", "words"), REMEDIES, ids=[f"{i}" for i, _ in enumerate(REMEDIES)])
def test_message_says_what_to_do(value: object, words: str) -> None:
    """The remedy fits what it is."""
    with pytest.raises(SerializationError) as caught:
        JsonCodec().to_json([value])
    assert words in str(caught.value)


def test_sockets_and_coroutines() -> None:
    """What has to be closed is closed by whoever made it; the message tells what to do."""
    with (
        socket.socket() as open_socket,
        pytest.raises(SerializationError, match=r"^\$: socket:socket .*inside the step"),
    ):
        JsonCodec().to_json(open_socket)
    waiting = coroutine()
    with pytest.raises(SerializationError, match=r"^\$\[0\]: coroutine .*await it first"):
        JsonCodec().to_json([waiting])
    asyncio.run(waiting)


def test_unset_field_is_named() -> None:
    """An attribute that `__init__` sets, and that is gone."""
    order = Order(1)
    del order.items
    with pytest.raises(SerializationError, match=r"^\$\[0\]: .*has no value for its field 'items'"):
        JsonCodec().to_json([order])


def test_cycles_are_found() -> None:
    """A value that contains itself is refused, with the path to where it does."""
    items: list[Any] = [1]
    items.append({"a": (items,)})
    with pytest.raises(SerializationError, match=r"^\$\[1\]\.a\[0\]: contains itself"):
        JsonCodec().to_json(items)
    order = Order([])
    order.next = order
    with pytest.raises(SerializationError, match=r"^\$\.next: contains itself"):
        JsonCodec().to_json(order, Order)


def test_deep_values_are_refused_and_shared_ones_are_not() -> None:
    """Nesting that Python cannot follow is refused; a part that appears twice is written twice."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SerializationError, match="nested too deeply"):
        JsonCodec().to_json(deep)
    shared = [1]
    assert JsonCodec().to_json([shared, shared, {"a": shared}]) == [[1], [1], {"a": [1]}]


def test_broken_repr_does_not_hide_the_path() -> None:
    """The path is told without the texts that cannot be had, and long ones are cut."""

    @attrs.frozen(repr=False)
    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    with pytest.raises(SerializationError, match=r"^\$\[a Shy\]: "):
        JsonCodec().to_json({1: 2, Shy(): Plain()}, dict[Shy | int, Any])
    with pytest.raises(SerializationError, match=r"^\$\['x{36}\.\.\.\]: "):
        JsonCodec().to_json({"x" * 1000 + "-": Plain()})
