"""How `--input` becomes arguments, and what is said when it cannot."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypedDict

import pytest
from attrs import frozen

from flowkit import task
from flowkit.cli.inputs import Arguments, arguments, checked, fits, read_input
from flowkit.codec import Json, JsonCodec
from flowkit.errors import ConfigurationError
from flowkit.tasks import Task


@frozen
class Item:
    """Something with fields."""

    sku: str
    price: Decimal = Decimal(1)


class Loose(TypedDict):
    """A dictionary that says what it holds."""

    name: str


class Sized(Protocol):
    """Something that cannot be asked for at run time."""

    size: int


@task(id="inputs-everything")
def everything(item: Item, where: Path | None = None, *, count: int = 1) -> None:
    """A task with arguments of several kinds."""


@task(id="inputs-loose")
def loose(value, *more: int):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201  # as users write them
    del value, more


def given(of: Task[..., Any], data: Json) -> Arguments:
    """The arguments that the data stands for."""
    return arguments(of.spec, data, JsonCodec())


def test_object_is_by_name_and_array_in_order() -> None:
    """Values are decoded by the annotations of the arguments they are for."""
    item = Item("a", Decimal("2.50"))
    named = given(everything, {"item": {"sku": "a", "price": "2.50"}, "where": "x/y", "count": 2})
    assert named == Arguments((), {"item": item, "where": Path("x/y"), "count": 2})
    assert given(everything, [{"sku": "a", "price": "2.50"}, None]) == Arguments((item, None))


def test_any_other_value_is_the_only_argument() -> None:
    """A number, a text, true, false or null is the one argument."""
    assert given(loose, 5) == Arguments((5,))
    assert given(loose, None) == Arguments((None,))
    assert given(loose, [[1, 2]]) == Arguments(([1, 2],))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"item": {"sku": "a"}, "count": "many"}, "argument 'count' of task 'inputs-everything' must be int"),
        ({"item": {"price": "1"}}, "argument 'item' .* must be Item, .* has no field 'sku'"),
        ([5], "argument 'item' .* must be Item, which 5 is not"),
        ([{"sku": 5, "price": "1"}], r"must be Item, which .* is not: \$\.sku is 5 \(int\), not str"),
        ([{"sku": "a"}, 7], r"argument 'where' .* must be pathlib.Path \| None"),
        ([{"sku": "x" * 100, "price": "no price"}], r"must be Item, which .*\.\.\. is not"),
    ],
)
def test_value_that_does_not_fit_is_named(data: Json, words: str) -> None:
    """A value that is not what the annotation says is refused, with its argument and both forms."""
    with pytest.raises(ConfigurationError, match=words):
        given(everything, data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"sku": "a"}, "missing a required argument: 'item'"),
        ([{"sku": "a"}, None, 3], "too many positional"),
        ({"item": {"sku": "a"}, "colour": "red"}, "unexpected keyword argument 'colour'"),
    ],
)
def test_arguments_that_do_not_fit_show_the_signature(data: Json, words: str) -> None:
    """Missing and superfluous arguments are answered with the signature and how to write the input."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        given(everything, data)
    assert "It takes (item: Item, where: Path | None = None, count: int = 1)" in str(caught.value)
    assert '{"item": ..., "where": ..., "count": ...}' in str(caught.value)


def test_signature_without_annotations_is_shown_as_it_is() -> None:
    """Arguments without annotations are shown by their names alone."""
    with pytest.raises(ConfigurationError, match=r"It takes \(value, \*more: int\)"):
        checked(loose.spec, Arguments())


def test_input_from_a_file_and_from_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`@file` and `-` read the same JSON."""
    file = tmp_path / "input.json"
    file.write_text("[1, 2]")
    monkeypatch.setattr("sys.stdin", io.StringIO("[1, 2]"))
    assert read_input(f"@{file}") == read_input("-") == read_input("[1, 2]") == [1, 2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello", r"--input is no JSON: Expecting value at line 1, column 1"),
        ("", "it is empty"),
        ('{"a": 1,\n "b" 2}', r"at line 2, column 6\n   \"b\" 2\}\n       \^"),
        ("@no/such/file.json", r"--input @no/such/file.json: cannot be read \(No such file"),
    ],
)
def test_input_that_cannot_be_read(text: str, words: str) -> None:
    """What is no JSON is shown with its place; a file that cannot be read with the reason."""
    with pytest.raises(ConfigurationError, match=words):
        read_input(text)


def test_file_that_is_no_text(tmp_path: Path) -> None:
    """A file of bytes that are no UTF-8 is refused."""
    file = tmp_path / "bytes"
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigurationError, match=r"cannot be read .*utf-8"):
        read_input(f"@{file}")


@pytest.mark.parametrize(
    ("value", "hint", "fit"),
    [
        (1, int, True),
        (True, int, False),
        (1, float, True),
        (True, float, False),
        ("1", float, False),
        (True, bool, True),
        (None, None, True),
        (1, None, False),
        (None, type(None), True),
        ([1], list[int], True),
        ({}, list[int], False),
        ({}, Mapping[str, int], True),
        (1, int | None, True),
        ("1", int | None, False),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        ("a", Annotated[str, "anything"], True),
        (1, Annotated[str, "anything"], False),
        ({}, Loose, True),
        (1, Sized, True),
        (1, Any, True),
        (1, Callable[[], int], False),
        (1, object, True),
    ],
)
def test_fits_looks_at_the_outside(value: object, hint: object, fit: bool) -> None:  # noqa: FBT001  # the expectation
    """Only what is plainly something else than its annotation is refused."""
    assert fits(value, hint) is fit
