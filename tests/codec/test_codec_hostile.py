"""D5: stored data is untrusted. It gives a value or a `SerializationError`, and decides nothing else."""

import builtins
import dataclasses
import sys
from contextlib import suppress
from datetime import datetime
from types import ModuleType
from typing import Any, Literal, NamedTuple
from uuid import UUID

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowkit.codec import Json, JsonCodec
from flowkit.codec.base import ClassNotFound
from flowkit.codec.errors import error_from_json
from flowkit.codec.names import class_name, find_class, reachable, real_module
from flowkit.errors import RunBlocked, SerializationError

TAGS = ["any", "int", "dict", "map", "tuple", "set", "frozenset", "bytes", "bytearray", "datetime", "date", "time"]
TAGS += ["timedelta", "decimal", "uuid", "complex", "range", "path", "PureWindowsPath", "deque", "counter", "error"]
TAGS += ["ordereddict", "nothing", "", ":", "a:b", "builtins:int", "builtins:eval", "os:system", "pathlib:Path"]
TAGS += [f"{__name__}:{name}" for name in ("Trap", "Plain", "Pair", "function", "Choice", "Nowhere", "__dict__")]


@attrs.define
class Trap:
    """Goes off when its own code is run."""

    path: str = "x"
    when: datetime | None = None

    def __attrs_post_init__(self) -> None:
        raise AssertionError("the data made code run")


@dataclasses.dataclass
class Plain:
    """A dataclass."""

    a: int
    b: "list[Plain]"


class Pair(NamedTuple):
    """A NamedTuple."""

    left: int
    right: bytes = b""


class Undeclared:
    """A class that is no attrs class, dataclass, enum or NamedTuple."""

    def __init__(self) -> None:
        raise AssertionError("the data made code run")


def function() -> None:
    """Not to be called by data."""
    raise AssertionError("the data made code run")


HINTS: list[object] = [Any, int, datetime, UUID, bytes, list[int], dict[str, bytes], dict[UUID, int], set[datetime]]
HINTS += [tuple[int, bytes], tuple[Plain, ...], Trap, Plain, Pair, Plain | Pair, Trap | None, Literal["a"]]

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(TAGS)
documents: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["$", "=", "a", "b", "left", "path", "when", "$attrs"]), inner, max_size=4)
        | st.builds(lambda tag, value: {"$": tag, "=": value}, st.sampled_from(TAGS), inner)
    ),
    max_leaves=20,
)


@given(documents, st.sampled_from(HINTS))
def test_any_document_gives_a_value_or_a_serialization_error(document: Json, hint: object) -> None:
    """Whatever JSON is stored, nothing else happens; and what it gives can be stored again."""
    codec, modules = JsonCodec(), set(sys.modules)
    try:
        value = codec.from_json(document, hint)
    except SerializationError:
        pass
    else:
        codec.to_json(value, hint)
    assert {name for name in set(sys.modules) - modules if not name.startswith("tzdata")} == set()


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "error": documents
            | st.sampled_from(["builtins:ValueError", "builtins:OSError", "builtins:ExceptionGroup"]),
            **dict.fromkeys(["lost", "text", "why", "args", "slots", "attrs", "group", "inner", "cause"], documents),
        },
    )
)
def test_any_document_gives_an_error_or_is_refused(document: Json) -> None:
    """Whatever JSON is stored as an error, it is one, or blocked, or refused."""
    with suppress(SerializationError, RunBlocked):
        assert isinstance(error_from_json(JsonCodec(), document), BaseException)


@given(st.binary())
def test_any_bytes_give_a_document_or_a_serialization_error(data: bytes) -> None:
    """Corrupt bytes are refused in flowkit's way."""
    try:
        JsonCodec().loads(data)
    except SerializationError as error:
        assert "not the JSON that this codec writes" in str(error)  # noqa: PT017  # either is right


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b'{"a":1', b"\xff\xfe", b"nul", b"[1,]", b"1 2", b"[" * 200_000, b"9" * 10_000, b'"\x00"'],
    ids=lambda data: repr(data[:8]),
)
def test_corrupt_bytes_say_so(data: bytes) -> None:
    """The message says that the bytes are not the codec's."""
    with pytest.raises(SerializationError, match="not the JSON that this codec writes"):
        JsonCodec().loads(data)


@pytest.mark.parametrize("name", [f"{__name__}:{name}" for name in ("function", "Undeclared", "HINTS", "pytest.Item")])
def test_only_declared_classes_are_made(name: str) -> None:
    """Functions, other objects and classes that are not made of fields are out of reach."""
    documents: list[Json] = [{"$": name}, {"$": name, "=": []}, {"$": name, "a": 1}]
    for document in documents:
        with pytest.raises(SerializationError):
            JsonCodec().from_json(document)


def test_own_code_of_a_class_is_not_run() -> None:
    """An instance is made without its `__init__`."""
    back = JsonCodec().from_json({"$": f"{__name__}:Trap", "path": "p"})
    assert isinstance(back, Trap)
    assert (back.path, back.when) == ("p", None)


def test_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class in a module that is not imported is named, not imported."""
    monkeypatch.delitem(sys.modules, "antigravity", raising=False)

    def no_import(name: str, *_: object, **__: object) -> ModuleType:
        raise AssertionError(f"{name} was imported")

    codec = JsonCodec()
    monkeypatch.setattr(builtins, "__import__", no_import)
    with pytest.raises(ClassNotFound) as caught:
        codec.from_json([{"$": "antigravity:Order", "id": 1}])
    assert caught.value.name == "antigravity:Order"
    assert "module 'antigravity' is not imported: import it first" in str(caught.value)


def test_module_getattr_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that imports or makes its names on demand is not made to by data."""

    class Lazy(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise AssertionError(f"{name} was asked for")

    monkeypatch.setitem(sys.modules, "lazy_module", Lazy("lazy_module"))
    monkeypatch.setitem(sys.modules, "no_module", None)
    monkeypatch.setitem(sys.modules, "odd_module", object())
    for name in ("lazy_module:Order", "lazy_module:Order.Item", "no_module:Order", "odd_module:Order"):
        with pytest.raises(ClassNotFound):
            find_class(name)


def test_nested_classes_are_found_by_their_path() -> None:
    """A class in a class is found, what only looks like one is not."""

    class Outer:
        class Inner:
            pass

    monkey = Outer.Inner
    monkey.__qualname__ = "TestHolder.Inner"
    holder = type("TestHolder", (), {"Inner": monkey})
    globals()["TestHolder"] = holder
    try:
        assert find_class(f"{__name__}:TestHolder.Inner") is monkey
        assert reachable(monkey)
        for name in ("TestHolder.Inner.None", "TestHolder.__doc__", "function.__class__", ".", "TestHolder."):
            with pytest.raises(ClassNotFound):
                find_class(f"{__name__}:{name}")
    finally:
        del globals()["TestHolder"]


@pytest.fixture
def started_script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module in the place of `__main__`, with a class of its own."""
    main = ModuleType("__main__")
    cls = attrs.make_class("Order", ["id"])
    cls.__module__ = "__main__"
    main.Order = cls  # type: ignore[attr-defined]  # a new module
    monkeypatch.setitem(sys.modules, "__main__", main)
    return main


@pytest.mark.parametrize("way", ["as a module", "as a file", "from nowhere"])
def test_classes_of_the_started_script_are_recorded_under_its_real_name(
    started_script: ModuleType, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """What a script records is read by a worker that imports it as a module, and the other way round."""
    if way == "as a module":
        started_script.__spec__ = type("Spec", (), {"name": "shop.orders"})()
    elif way == "as a file":
        started_script.__file__ = "/somewhere/orders.py"
    name = {"as a module": "shop.orders", "as a file": "orders", "from nowhere": "__main__"}[way]
    codec, cls = JsonCodec(), started_script.Order
    document = codec.to_json(cls(7))
    assert document == {"$": f"{name}:Order", "id": 7}
    assert codec.from_json(document) == cls(7)
    assert codec.from_json({"$": "__main__:Order", "id": 7}) == cls(7)
    assert real_module("__mp_main__") == real_module("__main__") == name
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    if way != "from nowhere":
        imported = ModuleType(name)
        imported.Order = cls  # type: ignore[attr-defined]  # a new module
        monkeypatch.setitem(sys.modules, name, imported)
        assert JsonCodec().from_json(document) == cls(7)


def test_name_of_a_class() -> None:
    """It is the module's name and the qualified name."""
    assert class_name(Trap) == f"{__name__}:Trap"
    assert class_name(int) == "builtins:int"


def test_unknown_kind_points_at_a_newer_version() -> None:
    """A kind of value that this version does not know is refused, not guessed."""
    for document in ({"$": "quaternion", "=": []}, {"$": 5}, {"$": None}):
        with pytest.raises(SerializationError, match=r"newer flowkit|not the name of a kind"):
            JsonCodec().from_json(document)  # type: ignore[arg-type]  # all are JSON


def test_document_that_is_no_json_is_refused() -> None:
    """Both ways."""
    codec = JsonCodec()
    with pytest.raises(SerializationError, match="tuple is not a JSON value"):
        codec.from_json([(1,)])  # type: ignore[list-item]  # that is the point
    for document in ({1, 2}, {"a": b""}, 10**5000):
        with pytest.raises(SerializationError, match="cannot be written as JSON"):
            codec.dumps(document)  # type: ignore[arg-type]  # that is the point
