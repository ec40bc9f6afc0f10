"""I3: the digest of a call's arguments tells whether a replay calls what was called at first."""

import os
import subprocess
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import attrs

from flowkit.codec import Json, JsonCodec
from flowkit.digest import ArgumentDigest

CODEC = JsonCodec()


@attrs.define
class Order:
    """An argument with parts."""

    id: int
    lines: dict[int, set[str]]


def digest(fn: Callable[..., object], *args: object, **kwargs: object) -> str:
    """The digest of one call."""
    return ArgumentDigest(fn)(args, kwargs, CODEC)


def charge(
    order: object, amount: int = 5, /, note: str = "", *more: object, dry: bool = False, **extra: object
) -> None:
    """A function with every kind of parameter."""


def add(a: object, b: object = 0, c: object = ()) -> None:
    """A function with ordinary parameters."""


def test_same_arguments_have_the_same_digest() -> None:
    """Position or keyword, default or given, whatever the order of a dict, set or keywords."""
    pairs = [
        (digest(add, 1, 2), digest(add, a=1, b=2)),
        (digest(add, 1, 2), digest(add, b=2, a=1)),
        (digest(add, 1, "x"), digest(add, 1, b="x")),
        (digest(add, 1), digest(add, 1, 0)),
        (digest(add, 1), digest(add, 1, 0, ())),
        (digest(add, 1), digest(add, 1, c=())),
        (digest(add, Order(1, {})), digest(add, a=Order(1, {}))),
        (digest(charge, 1, 5, "n", dry=True), digest(charge, 1, note="n", dry=True)),
        (digest(charge, 1, x=1, y=2), digest(charge, 1, y=2, x=1)),
        (digest(charge, 1), digest(charge, 1, 5, "", dry=False)),
        (digest(add, {"a": 1, "b": 2}), digest(add, {"b": 2, "a": 1})),
        (digest(add, {1: {2: 3, 4: 5}, "x": 0}), digest(add, {"x": 0, 1: {4: 5, 2: 3}})),
        (digest(add, Order(1, {1: {"a", "b"}, 2: set()})), digest(add, Order(1, {2: set(), 1: {"b", "a"}}))),
        (digest(add, Counter("ab")), digest(add, Counter("ba"))),
        (digest(add, float("nan")), digest(add, float("nan"))),
        (digest(add, 10**5000), digest(add, 10**5000)),
    ]
    assert [one for one, _ in pairs] == [other for _, other in pairs]


def test_different_arguments_have_different_digests() -> None:
    """Also where they look alike or are equal but of another type."""
    digests = [
        digest(add, *args, **kwargs)
        for args, kwargs in [
            ((), {}),
            ((1,), {}),
            ((1.0,), {}),
            ((True,), {}),
            (("1",), {}),
            ((None,), {}),
            ((b"1",), {}),
            ((Decimal(1),), {}),
            (([1],), {}),
            (((1,),), {}),
            (({1},), {}),
            (({"a": 1},), {}),
            (({1: 1},), {}),
            ((OrderedDict(a=1, b=2),), {}),
            ((OrderedDict(b=2, a=1),), {}),
            ((Order(1, {}),), {}),
            ((Order(2, {}),), {}),
            ((1, 2), {}),
            ((2, 1), {}),
            ((1,), {"c": 2}),
            (("a;b=s1:c;",), {}),
            (("a", "c"), {}),
            ((1 << 64,), {}),
            ((-(1 << 64),), {}),
            ((1 << 3000,), {}),
            (("\ud800",), {}),
            ((0,), {}),
            ((1, False), {}),
            ((1, 0.0), {}),
        ]
    ]
    assert len(set(digests)) == len(digests)
    assert digest(charge, 1, 2, "n", 3) != digest(charge, 1, 2, "n", 4) != digest(charge, 1, 2, "n")
    assert digest(charge, 1, order=2) != digest(charge, 1) != digest(charge, 2)


def test_new_parameter_with_a_default_changes_nothing() -> None:
    """Wherever it is put in the signature."""

    def before(a: int, b: str) -> None: ...

    def after(a: int, b: str, c: int = 3, *, d: Any = None, **more: Any) -> None: ...  # noqa: ANN401  # anything

    def between(a: int, c: int = 3, b: str = "") -> None: ...

    assert digest(before, 1, "x") == digest(after, 1, "x") == digest(between, 1, b="x")
    assert digest(after, 1, "x", 4) != digest(after, 1, "x")


def test_what_cannot_be_encoded_is_left_out() -> None:
    """By parameter: the others still count."""
    assert digest(add, lambda: 1, 2) == digest(add, object(), 2) != digest(add, object(), 3)
    assert digest(add, 1, object()) == digest(add, 1)
    assert digest(charge, 1, 2, "n", object()) == digest(charge, 1, 2, "n")
    assert digest(charge, 1, sock=object(), y=2) == digest(charge, 1, y=2)


def test_default_that_cannot_be_encoded_is_no_matter() -> None:
    """A default is compared as what it is, then by its text if it has one."""
    marker = object()

    def call(a: int, b: object = marker, c: object = None) -> None: ...

    assert digest(call, 1) == digest(call, 1, marker) == digest(call, 1, object(), None) != digest(call, 1, 2)


def test_default_is_compared_by_what_it_is() -> None:
    """An argument that equals the default is left out, even if it is another object; one of another type is not."""

    def call(a: int, b: object = (1000, "x"), c: int = 1000, d: float = 0.0) -> None: ...

    another = (int("1000"), "x")
    assert digest(call, 1) == digest(call, 1, another, int("1000"), float("0"))
    assert digest(call, 1) == digest(call, 1, c=int("1000"), b=another)
    assert digest(call, 1) != digest(call, 1, [1000, "x"]) != digest(call, 1, another, 1000, 0)


def test_digest_is_taken_from_the_value_as_it_is_now() -> None:
    """An argument that was changed in between has another digest."""
    value = [1]
    before = digest(add, value)
    value.append(2)
    assert digest(add, value) != before


def test_too_many_arguments_and_strange_callables_have_digests_too() -> None:
    """The call itself will tell what is wrong with it."""
    assert digest(add, 1, 2, 3, 4) != digest(add, 1, 2, 3)
    assert digest(add, 1, nope=2) != digest(add, 1)
    assert digest(dict.fromkeys, [1]) != digest(dict.fromkeys, [2])
    assert digest(type, "x") != digest(type, "y")


def test_methods_and_classes() -> None:
    """The parameters of a bound method are those that are given; a class has those of its `__init__`."""

    class Shop:
        def sell(self, item: str, count: int = 1) -> None: ...

    assert digest(Shop().sell, "a") == digest(Shop().sell, item="a", count=1)
    assert digest(Order, 1, {}) == digest(Order, id=1, lines={})


def test_failing_codec_leaves_arguments_out() -> None:
    """A codec of a user's own may raise whatever it likes."""

    class Broken(JsonCodec):
        def to_json(self, value: object, hint: object = Any) -> Json:  # noqa: ARG002  # as the protocol has it
            raise ZeroDivisionError

    taken = ArgumentDigest(add)
    assert taken(((1,), 2), {}, Broken()) == taken(([], 2), {}, Broken()) != taken(([], 3), {}, Broken())


def test_digest_is_the_same_in_every_process_and_version() -> None:
    """Pinned: a digest that is recorded today is compared by later versions, whatever their hash seed."""
    code = (
        "from datetime import date; from flowkit.codec import JsonCodec; from flowkit.digest import ArgumentDigest\n"
        "def f(a, b=1, *c, d=2): ...\n"
        "digest, codec = ArgumentDigest(f), JsonCodec()\n"
        "calls = [((1, 'é'), {}), (({'x', 'y', 'z', 1, None},), {}), (({(1,): {2: 3}},), {'d': date(2024, 1, 1)})]\n"
        "print(*(digest(args, kwargs, codec) for args, kwargs in calls))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {b"88b5044f ed85eb72 d5a7ae72\n"}
