"""D5, for any value at all: what is read is what was written."""

import dataclasses
import json
from datetime import timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from flowkit.codec import JsonCodec
from flowkit.codec.base import PIECE, quoted
from flowkit.digest import ArgumentDigest


@attrs.frozen
class Leaf:
    """Holds one value, of any type, and can be hashed if that can."""

    value: Any


@dataclasses.dataclass(frozen=True)
class Fork:
    """Holds two values, one of them annotated."""

    left: Any
    right: "Fork | Leaf | None" = None


zones = st.none() | st.sampled_from(
    [timezone.utc, timezone(timedelta(hours=-3)), ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")]  # noqa: UP017  # as older code has it
)
atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(), max_size=10)
    | st.binary(max_size=10)
    | st.datetimes(timezones=zones, allow_imaginary=True)
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.complex_numbers(allow_nan=False)
    | st.sampled_from(["$", "=", "any", "tuple"])
)
hashables: st.SearchStrategy[Any] = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.frozensets(inner, max_size=3)
        | st.builds(Leaf, inner)
        | st.builds(Fork, inner, st.none() | st.builds(Leaf, inner))
    ),
    max_leaves=5,
)
values: st.SearchStrategy[Any] = st.recursive(
    hashables,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(hashables, inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | st.just("$"), inner, max_size=4)
        | st.sets(hashables, max_size=4)
        | st.builds(Leaf, inner)
        | st.builds(Fork, inner, st.builds(Fork, inner))
    ),
    max_leaves=15,
)
annotations = st.recursive(
    st.sampled_from([Any, int, str, float, bytes, Decimal, Leaf, Fork, Leaf | Fork, "x"]),
    lambda inner: (
        inner.map(lambda hint: list[hint])  # type: ignore[valid-type]  # made at run time
        | inner.map(lambda hint: dict[str, hint])  # type: ignore[valid-type]  # made at run time
        | inner.map(lambda hint: dict[hint, Any])  # type: ignore[valid-type]  # made at run time
        | inner.map(lambda hint: tuple[hint, ...])  # type: ignore[valid-type]  # made at run time
        | inner.map(lambda hint: set[hint])  # type: ignore[valid-type]  # made at run time
        | inner.map(lambda hint: tuple[hint, hint])  # type: ignore[valid-type]  # made at run time
    ),
    max_leaves=4,
)


def same_types(one: object, other: object) -> bool:
    """Of the same types all the way down; the order of sets does not count, so what is in them is left out."""
    if type(one) is not type(other):
        return False
    match one:
        case dict():
            assert isinstance(other, dict)
            return all(same_types(a, b) for a, b in zip(one.items(), other.items(), strict=True))
        case list() | tuple():
            assert isinstance(other, (list, tuple))
            return all(same_types(a, b) for a, b in zip(one, other, strict=True))
        case Leaf():
            assert isinstance(other, Leaf)
            return same_types(one.value, other.value)
        case Fork():
            assert isinstance(other, Fork)
            return same_types((one.left, one.right), (other.left, other.right))
        case _:
            return True


@given(values, annotations)
@settings(max_examples=300)
def test_what_is_read_is_what_was_written(value: object, hint: object) -> None:
    """Equal, of the same types, and the same bytes when it is written again, under any annotation."""
    codec = JsonCodec()
    text = codec.dumps(codec.to_json(value, hint))
    back = codec.from_json(codec.loads(text), hint)
    assert back == value
    assert same_types(back, value)
    assert codec.dumps(codec.to_json(back, hint)) == text


@given(values)
def test_equal_arguments_have_equal_digests(value: object) -> None:
    """I3: what a replay passes after a round trip has the digest of what was passed at first."""

    def call(x: object) -> None: ...

    codec, digest = JsonCodec(), ArgumentDigest(call)
    back = codec.from_json(codec.to_json(value))
    assert digest((value,), {}, codec) == digest((), {"x": back}, codec)


@given(st.dictionaries(hashables, values, max_size=5), st.randoms())
def test_order_of_a_dict_does_not_count_in_digests(value: dict[object, object], random: Any) -> None:  # noqa: ANN401  # hypothesis's
    """I3: dicts of equal contents have equal digests."""

    def call(x: object) -> None: ...

    items = list(value.items())
    random.shuffle(items)
    codec, digest = JsonCodec(), ArgumentDigest(call)
    assert digest(([value],), {}, codec) == digest(([dict(items)],), {}, codec)


@given(st.text(st.characters(exclude_categories=())), st.integers(0, 3))
def test_long_texts_are_quoted_as_json_quotes_them(text: str, more: int) -> None:
    """Byte for byte as the standard library's encoder; what has other control characters is left to it."""
    text = text + more * '\t\r\n\\"ü' + more * PIECE * "x" + text
    expected = json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass")
    found = quoted(text, b"before")
    assert found == b"before" + expected if found is not None else any(char < " " for char in text)
