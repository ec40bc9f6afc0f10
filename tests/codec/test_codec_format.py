"""What was written once is read for ever: documents of format 1, as they lie in people's storages."""

from collections import Counter, OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag
from pathlib import Path, PurePosixPath, PureWindowsPath
from threading import Barrier
from typing import Any, NamedTuple, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import pytest

from flowkit.codec import JsonCodec
from flowkit.codec.errors import error_from_json
from flowkit.errors import StepError


class Colour(Enum):
    """An enum."""

    RED = 1


class Rights(Flag):
    """A flag."""

    READ = 1
    WRITE = 2


class Point(NamedTuple):
    """A NamedTuple."""

    x: int
    y: int = 0


class Film(TypedDict):
    """A TypedDict."""

    made: date


@attrs.define
class Node:
    """A tree."""

    at: datetime
    children: "list[Node]" = attrs.field(factory=list)


class Declined(Exception):
    """An error with an attribute."""


UTC = timezone.utc  # noqa: UP017  # the other spelling
NOON = datetime(2024, 1, 2, 12, tzinfo=UTC)
DOCUMENTS: list[tuple[str, object, object]] = [
    ('[null,true,1,1.5,"a"]', Any, [None, True, 1, 1.5, "a"]),
    ('{"a":Infinity}', Any, {"a": float("inf")}),
    ('{"$":"int","=":"-0xff"}', Any, -255),
    ('{"$":"dict","=":[[1,"a"],["$",{"$":"tuple","=":[1]}]]}', Any, {1: "a", "$": (1,)}),
    ('{"$":"map","=":[[1,"2024-01-02"]]}', dict[int, date], {1: date(2024, 1, 2)}),
    ('{"$":"any","=":"x"}', datetime, "x"),
    ('{"$":"tuple","=":[1,[2]]}', Any, (1, [2])),
    ("[1,[2]]", tuple[int, list[int]], (1, [2])),
    ('{"$":"set","=":[1]}', Any, {1}),
    ("[1]", set[int], {1}),
    ('{"$":"frozenset","=":["a"]}', Any, frozenset("a")),
    ('{"$":"bytes","=":"AP8="}', Any, b"\x00\xff"),
    ('"AP8="', bytes, b"\x00\xff"),
    ('{"$":"bytearray","=":"AP8="}', Any, bytearray(b"\x00\xff")),
    ('{"$":"datetime","=":"2024-01-02T12:00:00+00:00"}', Any, NOON),
    ('"2024-01-02T12:00:00"', datetime, NOON.replace(tzinfo=None)),
    ('"2024-01-02T12:00:00+00:00[=Zulu]"', datetime, NOON.replace(tzinfo=timezone(timedelta(0), "Zulu"))),
    (
        '"2024-10-27T02:30:00[fold=1][Europe/Berlin]"',
        datetime,
        datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    ),
    ('{"$":"date","=":"2024-01-02"}', Any, date(2024, 1, 2)),
    ('{"$":"time","=":"12:30:00[fold=1]"}', Any, time(12, 30, fold=1)),
    ('{"$":"timedelta","=":[-1,5,7]}', Any, timedelta(-1, 5, 7)),
    ("[0,90,0]", timedelta, timedelta(seconds=90)),
    ('{"$":"decimal","=":"1.50"}', Any, Decimal("1.50")),
    ('{"$":"uuid","=":"12345678-1234-5678-1234-567812345678"}', Any, UUID("12345678123456781234567812345678")),
    ('{"$":"complex","=":[1.0,-2.0]}', Any, 1 - 2j),
    ('{"$":"range","=":[1,5,2]}', Any, range(1, 5, 2)),
    ('{"$":"path","=":"a/b"}', Any, Path("a/b")),
    ('"a/b"', Path, Path("a/b")),
    ('{"$":"PurePosixPath","=":"a"}', Any, PurePosixPath("a")),
    ('{"$":"PureWindowsPath","=":"c:\\\\a"}', Any, PureWindowsPath("c:\\a")),
    ('{"$":"deque","=":[2,[1,2]]}', Any, deque([1, 2], 2)),
    ('{"$":"ordereddict","=":[["b",1],["a",2]]}', Any, OrderedDict(b=1, a=2)),
    ('{"$":"counter","=":[["a",2]]}', Any, Counter("aa")),
    (f'{{"$":"{__name__}:Colour","=":"RED"}}', Any, Colour.RED),
    ('"RED"', Colour, Colour.RED),
    ("3", Rights, Rights.READ | Rights.WRITE),
    (f'{{"$":"{__name__}:Point","x":1,"y":2}}', Any, Point(1, 2)),
    ('{"x":1}', Point, Point(1)),
    ('{"made":"2024-01-02"}', Film, Film(made=date(2024, 1, 2))),
    (
        f'{{"$":"{__name__}:Node","at":"2024-01-02T12:00:00+00:00","children":[{{"at":{{"$":"any","=":"?"}}}}]}}',
        Any,
        Node(NOON, [Node("?")]),  # type: ignore[arg-type]  # what its annotation does not say
    ),
    ('{"at":"2024-01-02T12:00:00+00:00","children":[]}', Node | None, None),
]


@pytest.mark.parametrize(("text", "hint", "value"), DOCUMENTS, ids=[f"{i}" for i, _ in enumerate(DOCUMENTS)])
def test_documents_of_format_1_are_read(text: str, hint: object, value: object) -> None:
    """Every form there is, with and without an annotation."""
    codec = JsonCodec()
    back = codec.from_json(codec.loads(text.encode()), hint)
    expected = Node(NOON) if value is None else value
    assert back == expected
    assert type(back) is type(expected)


def test_errors_of_format_1_are_read() -> None:
    """An exception with everything that it can have, and one that was lost."""
    codec = JsonCodec()
    whole = codec.loads(
        f'{{"error":"{__name__}:Declined","args":[4],"text":"4","attrs":{{"code":{{"$":"tuple","=":[1]}}}},'
        '"cause":{"error":"builtins:OSError","args":[5,"no"],"slots":{"filename":"f"}}}'.encode()
    )
    error = error_from_json(codec, whole)
    assert isinstance(error, Declined)
    assert (error.args, vars(error)) == ((4,), {"code": (1,)})
    assert isinstance(error.__cause__, OSError)
    assert (error.__cause__.errno, error.__cause__.filename) == (5, "f")
    group = error_from_json(
        codec,
        codec.loads(b'{"error":"builtins:ExceptionGroup","group":"g","inner":[{"lost":"a:B","text":"t","why":"w"}]}'),
    )
    assert isinstance(group, ExceptionGroup)
    assert isinstance(group.exceptions[0], StepError)
    assert (group.exceptions[0].cause_type, group.exceptions[0].cause_message) == ("a:B", "t")
    value = codec.from_json(codec.loads(b'{"$":"error","=":{"error":"builtins:KeyError","args":["k"]}}'))
    assert isinstance(value, KeyError)
    assert value.args == ("k",)


@pytest.mark.parametrize(
    "text", ["2024-01-01T00:00:00[Europe]", "2024-01-01T00:00:00[No/Where]", "2024-01-01T00:00:00[=x]"]
)
def test_time_zone_that_is_not_there(text: str) -> None:
    """A zone that this machine does not know is told as such."""
    with pytest.raises(Exception, match="stored data does not make a value"):
        JsonCodec().from_json(text, datetime)


def test_codec_is_shared_by_threads() -> None:
    """Threads that meet a class at the same time, one that contains itself too, all get it whole."""
    for _ in range(20):
        codec, start = JsonCodec(), Barrier(8)
        tree = Node(NOON, [Node(NOON, [Node(NOON)])])

        def there_and_back(hint: object, codec: JsonCodec = codec, start: Barrier = start, tree: Node = tree) -> object:
            start.wait()
            return codec.from_json(codec.loads(codec.dumps(codec.to_json(tree, hint))), hint)

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(there_and_back, [Node, Any, Node | None, Node | Point] * 2)) == [tree] * 8
