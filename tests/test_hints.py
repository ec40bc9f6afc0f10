"""Annotations are resolved where they can be, and say nothing where they cannot."""

import functools
from collections.abc import Awaitable, Callable, Coroutine
from decimal import Decimal
from typing import Any, TypeVar

import attrs
import pytest

from flowkit.hints import call_hints, class_hints

F = TypeVar("F", bound=Callable[..., object])


@attrs.define
class Order:
    """Refers to itself, and to what is nowhere."""

    next: "Order | None"
    price: "Decimal"
    what: "Nowhere"  # type: ignore[name-defined]  # noqa: F821  # that is the point


def plain(order: Order, prices: "dict[str, Decimal]", loose=1, **more: "Nowhere") -> "list[Order]":  # type: ignore[empty-body,name-defined,no-untyped-def]  # noqa: ANN001, F821  # that is the point
    """Has all sorts of annotations."""


async def awaited(n: int) -> "Decimal":
    """Is awaited."""
    return Decimal(n)


def promises(n: int) -> Coroutine[Any, Any, Decimal]:
    """Gives what is to be awaited."""
    return awaited(n)


def hopes(n: int) -> "Awaitable[Decimal]":
    """Gives what is to be awaited."""
    return awaited(n)


class Shop:
    """Has functions of every kind."""

    def __init__(self, size: int) -> None: ...

    def sell(self, order: "Order") -> "Shop":
        """A method."""
        raise NotImplementedError(order)

    @classmethod
    def open(cls, n: int) -> Decimal:
        """A class method."""
        return Decimal(n)

    @staticmethod
    def close(n: int) -> Decimal:
        """A static method."""
        return Decimal(n)

    def __call__(self, n: int) -> Decimal:
        """A call."""
        return Decimal(n)


def wrapping(fn: F) -> F:
    """A decorator that tells nothing itself."""

    @functools.wraps(fn)
    def wrapper(*args: object, **kwargs: object) -> object:
        return fn(*args, **kwargs)

    return wrapper  # type: ignore[return-value]  # as decorators are typed


def test_each_annotation_is_resolved_by_itself() -> None:
    """One that cannot be resolved does not spoil the others."""
    hints, result = call_hints(plain)
    assert hints == {"order": Order, "prices": dict[str, Decimal], "more": Any}
    assert result == list[Order]


FUNCTIONS: list[Callable[..., object]] = [
    awaited,
    promises,
    hopes,
    Shop(1),
    Shop.open,
    Shop.close,
    Shop(1).close,
    wrapping(awaited),
    wrapping(wrapping(promises)),
    functools.partial(awaited, 1),
    functools.partial(functools.partial(wrapping(awaited)), n=1),
]


@pytest.mark.parametrize("fn", FUNCTIONS, ids=[f"{i}" for i, _ in enumerate(FUNCTIONS)])
def test_result_of_a_call_in_the_end(fn: Callable[..., object]) -> None:
    """What awaiting gives; wrappers, partials and callable objects are looked through."""
    hints, result = call_hints(fn)
    assert hints["n"] is int
    assert result is Decimal


def test_classes_and_methods() -> None:
    """A class gives an instance, a method what it says."""
    assert call_hints(Shop) == ({"size": int}, Shop)
    assert call_hints(Shop(1).sell) == ({"order": Order}, Shop)
    assert call_hints(len) == ({}, Any)
    assert call_hints(lambda x: x) == ({}, Any)


def test_names_of_the_place_of_definition() -> None:
    """A local class is resolved through the closure, or through names that are handed in."""

    class Local:
        pass

    def closed(x: "Local", y: "list[Later]") -> None:  # type: ignore[name-defined]  # noqa: F821  # that is the point
        assert isinstance(x, Local), y

    def open_(x: "Local") -> "Local":
        return x

    assert call_hints(closed) == ({"x": Local, "y": Any}, type(None))
    assert call_hints(open_) == ({"x": Any}, Any)
    assert call_hints(open_, locals()) == ({"x": Local}, Local)


def test_variable_that_is_not_assigned_yet() -> None:
    """A closure over a name that has no value yet is no obstacle."""

    def early(x: "int") -> "Late":
        return Late(x)

    assert call_hints(early) == ({"x": int}, Any)

    class Late:
        def __init__(self, x: int) -> None: ...

    assert call_hints(early) == ({"x": int}, Late)


def test_hints_of_a_class() -> None:
    """A class may name itself; what cannot be resolved says nothing; bases count."""

    @attrs.define
    class More(Order):
        extra: "int" = 0

    assert class_hints(Order) == {"next": Order | None, "price": Decimal, "what": Any}
    assert class_hints(More) == {"next": Order | None, "price": Decimal, "what": Any, "extra": int}


def test_wrappers_in_a_circle_end() -> None:
    """A function that claims to wrap itself is no endless loop."""

    def circle() -> int:
        return 1

    circle.__wrapped__ = circle  # type: ignore[attr-defined]  # a new attribute
    assert call_hints(circle) == ({}, int)
