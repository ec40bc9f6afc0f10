"""D6: an exception comes back as its class, args and attributes, or as a `StepError`, live and on replay alike."""

import sys
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from flowkit.codec import Json, JsonCodec
from flowkit.codec.errors import error_from_json, error_text, error_to_json, live_error
from flowkit.errors import AllFailed, RunBlocked, SerializationError, StepError
from tests.codec.exceptions import (
    WHOLE,
    Counted,
    Declined,
    Defined,
    Guarded,
    Hidden,
    Made,
    Many,
    Slotted,
    Unreachable,
    noted,
    raised,
    raised_by,
    replayed,
)


def parts_of(error: BaseException) -> object:
    """What makes up an exception, read past what its class may have redefined."""
    get: Any = BaseException.__dict__
    inner = [parts_of(each) for each in error.exceptions] if isinstance(error, BaseExceptionGroup) else []
    args = [parts_of(arg) if isinstance(arg, BaseException) else arg for arg in get["args"].__get__(error)]
    return type(error), [] if inner else repr(args), repr(get["__dict__"].__get__(error)), inner


@pytest.mark.parametrize("name", WHOLE)
def test_comes_back_whole(name: str) -> None:
    """Class, args, attributes and notes come back, and live it is the exception itself, with its traceback."""
    error = raised(WHOLE[name]())
    document, live = live_error(JsonCodec(), error)
    back = replayed(document)
    assert live is error
    assert parts_of(back) == parts_of(error)
    assert BaseException.__dict__["__context__"].__get__(back) is None


@pytest.mark.parametrize(
    ("error", "attributes"),
    [
        (OSError(2, "none", "file"), ("errno", "strerror", "filename", "filename2")),
        (OSError(18, "cross", "a", None, "b"), ("filename", "filename2")),
        (BlockingIOError(11, "again", 7), ("errno", "characters_written")),
        (raised_by(b"a\xff".decode), ("encoding", "object", "start", "end", "reason")),
        (raised_by(lambda: compile("a b", "file", "exec")), ("msg", "filename", "lineno", "offset", "text")),
        (ImportError("no", name="n", path="p"), ("msg", "name", "path")),
        (StopIteration(5), ("value",)),
        (SystemExit(3), ("code",)),
        (Unreachable("host"), ("errno", "strerror", "host")),
        (Slotted(5), ("code",)),
        (Defined(6), ("code", "text")),
    ],
    ids=repr,
)
def test_attributes_outside_the_dict_come_back(error: BaseException, attributes: tuple[str, ...]) -> None:
    """What builtin exceptions keep beside their args, and slots, come back, and the text with them."""
    back = replayed(error_to_json(JsonCodec(), error))
    assert [getattr(back, name) for name in attributes] == [getattr(error, name) for name in attributes]
    assert str(back) == str(error)


def test_no_code_of_the_class_is_run() -> None:
    """Neither its `__init__` nor its `__new__`, neither live nor on replay."""
    for cls in (Counted, Guarded):
        error = cls("x")
        cls.made = 0
        document, _ = live_error(JsonCodec(), error)
        assert isinstance(replayed(document), cls)
        assert cls.made == 0


def test_attributes_that_cannot_be_stored_are_left_out_live_too() -> None:
    """What a replay cannot have, live code does not see either; the traceback is kept."""
    error = raised(noted(ValueError("x"), "n"))
    error.socket = object()  # type: ignore[attr-defined]  # a new attribute
    error.code = 5  # type: ignore[attr-defined]  # a new attribute
    document, live = live_error(JsonCodec(), error)
    for seen in (live, replayed(document)):
        assert type(seen) is ValueError
        assert vars(seen) == {"code": 5, "__notes__": ["n"]}
    assert live.__traceback__ is error.__traceback__


def test_group_with_a_lost_member_is_rebuilt_live_too() -> None:
    """A group is kept even if one of its exceptions becomes a `StepError`."""

    class Local(Exception):
        pass

    document, live = live_error(JsonCodec(), ExceptionGroup("g", [ValueError("x"), Local("y")]))
    for seen in (live, replayed(document)):
        assert isinstance(seen, ExceptionGroup)
        assert [type(each) for each in seen.exceptions] == [ValueError, StepError]


def local_error() -> BaseException:
    """An exception whose class has no place in its module."""

    class Local(Exception):
        pass

    return Local("here")


def circular() -> BaseException:
    """An exception that is its own arg."""
    error = ValueError("x")
    error.args = (error,)
    return error


def disguised() -> BaseException:
    """An `OSError` that its args would make a `FileNotFoundError`."""
    error = OSError()
    error.args = (2, "none")
    return error


def odd_group() -> BaseException:
    """A group whose args are not its message and exceptions, and cannot be stored."""
    error = Many([ValueError("x")])
    error.args = (object(),)
    return error


LOST: dict[str, tuple[Callable[[], BaseException], str]] = {
    "local class": (local_error, "local_error.<locals>.Local"),
    "arg that cannot be stored": (lambda: ValueError(object()), "ValueError"),
    "arg deep inside": (lambda: ValueError([{"a": lambda: 1}]), "ValueError"),
    "group with args that cannot be stored": (odd_group, "Many"),
    "itself in its args": (circular, "ValueError"),
    "nothing can be read": (lambda: Hidden("x"), "Hidden"),
    "another class by its args": (disguised, "OSError"),
    "an unset arg of a class in its args": (lambda: ValueError(local_error()), "ValueError"),
}


@pytest.mark.parametrize("name", LOST)
def test_what_cannot_be_rebuilt_is_a_step_error_live_and_on_replay(name: str) -> None:
    """A `StepError` with the original's class and text stands for it; live it has the original as its cause."""
    make, qualname = LOST[name]
    error = raised(make())
    document, live = live_error(JsonCodec(), error)
    back = replayed(document)
    assert isinstance(live, StepError)
    assert isinstance(back, StepError)
    assert live.__cause__ is error
    assert (live.args, vars(live)) == (back.args, vars(back))
    assert back.cause_type.endswith(f":{qualname}")
    assert qualname.rpartition(".")[2] in str(back)


def test_step_error_says_what_is_lost_and_why() -> None:
    """The text of what is lost is there to be read."""
    back = replayed(error_to_json(JsonCodec(), local_error()))
    assert isinstance(back, StepError)
    assert back.cause_message == "here"
    assert "Local: here" in str(back)
    assert "cannot be found again by its name" in str(back)


def test_attributes_that_lead_back_are_left_out() -> None:
    """An exception that refers to itself through an attribute comes back without it."""
    error = ValueError("x")
    error.me = [error]  # type: ignore[attr-defined]  # a new attribute
    assert vars(replayed(error_to_json(JsonCodec(), error))) == {}


def test_causes_come_back() -> None:
    """The chain of causes comes back, each rebuilt or as a `StepError`; a circle of causes ends somewhere."""
    error = raised(ValueError("a"))
    error.__cause__ = Declined(1, detail="b")
    error.__cause__.__cause__ = local_error()
    back = replayed(error_to_json(JsonCodec(), error))
    assert isinstance(back.__cause__, Declined)
    assert isinstance(back.__cause__.__cause__, StepError)
    assert back.__suppress_context__
    circle = KeyError("k")
    circle.__cause__ = ValueError("v")
    circle.__cause__.__cause__ = circle
    chain = replayed(error_to_json(JsonCodec(), circle))
    depth = 0
    while chain.__cause__ is not None:
        chain, depth = chain.__cause__, depth + 1
    assert depth == 8


def test_what_is_too_large_is_lost_and_no_more() -> None:
    """A `StepError` stands for what is too large in an error, or for all of it if that is too much; its text is cut."""
    codec, most = JsonCodec(), 64_000
    large = UnicodeDecodeError("utf-8", bytes(100_000), 7, 8, "invalid start byte")
    document, live = live_error(codec, large, most)
    assert isinstance(live, StepError)
    assert (str(live), live.__cause__) == (str(replayed(document)), large)
    assert "can't decode byte 0x00 in position 7" in str(live)

    outer = KeyError("small")
    outer.__cause__ = ExceptionGroup("both", [large, ValueError("x")])
    document, live = live_error(codec, outer, most)
    for error in (live, replayed(document)):
        group = error.__cause__
        assert repr(error) == "KeyError('small')"
        assert isinstance(group, ExceptionGroup)
        assert [type(each) for each in group.exceptions] == [StepError, ValueError]

    for error in (ValueError("x" * 100_000), ExceptionGroup("many", [ValueError(n) for n in range(2_000)])):
        document, live = live_error(codec, error, most)
        assert isinstance(live, StepError)
        assert len(codec.dumps(document)) < most


def test_deep_nesting_stays_affordable() -> None:
    """Groups in groups and exceptions in args are recorded in linear time, or given up."""
    group: Exception = ValueError("x")
    arg: Exception = ValueError("x")
    for _ in range(15):
        group = ExceptionGroup("g", [group])
        arg = ValueError(arg)
    assert live_error(JsonCodec(), group)[1] is group
    assert live_error(JsonCodec(), arg)[1] is arg
    for _ in range(50):
        arg = ValueError(arg)
    assert isinstance(live_error(JsonCodec(), arg)[1], StepError)


def test_exceptions_are_values_too() -> None:
    """An exception that a step returns, or that is a part of what it returns, comes back."""
    codec = JsonCodec()
    for hint in (Any, list[BaseException], list[Declined | int]):
        document = codec.to_json([Declined(1, detail="d"), ExceptionGroup("g", [KeyError(1)])], hint)
        back: Any = codec.from_json(codec.loads(codec.dumps(document)), hint)
        assert [type(each) for each in back] == [Declined, ExceptionGroup]
        assert vars(back[0]) == {"code": 1, "detail": "d", "parts": (1, {"d"})}
        assert back[1].exceptions[0].args == (1,)
    lost: list[BaseException] = [local_error(), ValueError(object()), circular(), ExceptionGroup("g", [Made("a", "b")])]
    lost[-1].args[1][0].args = (object(),)
    for value in ({"a": [error]} for error in lost):
        with pytest.raises(SerializationError, match=r"^\$\.a\[0\]"):
            codec.to_json(value)


def test_class_that_is_not_imported_blocks_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that could be rebuilt, but not here, blocks the run and names the module to import."""
    module = ModuleType("shop_errors")
    cls = type("Gone", (Exception,), {"__module__": "shop_errors"})
    module.Gone = cls  # type: ignore[attr-defined]  # a new module
    monkeypatch.setitem(sys.modules, "shop_errors", module)
    alone = error_to_json(JsonCodec(), cls("x"))
    inside = error_to_json(JsonCodec(), ValueError(cls("x")))
    grouped = error_to_json(JsonCodec(), ExceptionGroup("g", [cls("x")]))
    assert type(replayed(alone)) is cls
    del module.Gone
    for document in (alone, inside, grouped):
        with pytest.raises(RunBlocked, match="module 'shop_errors' has no class 'Gone'"):
            replayed(document)
    module.Gone = int  # type: ignore[attr-defined]  # no exception class
    with pytest.raises(RunBlocked, match="shop_errors:Gone"):
        replayed(alone)
    monkeypatch.delitem(sys.modules, "shop_errors")
    for document in (alone, inside, grouped):
        with pytest.raises(RunBlocked, match="module 'shop_errors' is not imported"):
            replayed(document)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"error": 5},
        {"error": "builtins:ValueError", "args": 5},
        {"error": "builtins:ValueError", "args": [{"$": "nothing"}]},
        {"error": "builtins:ValueError", "slots": {"nope": 1}},
        {"error": "builtins:UnicodeDecodeError", "args": [], "slots": {"start": "x"}},
        {"error": "builtins:ValueError", "attrs": []},
        {"error": "builtins:ExceptionGroup", "group": 5, "inner": []},
        {"error": "builtins:ExceptionGroup", "args": []},
        {"lost": "a:B"},
        {"lost": 5, "text": None, "why": None},
    ],
)
def test_data_of_nobody_is_refused(data: Json) -> None:
    """Stored data that is no error is a `SerializationError`, never anything else."""
    with pytest.raises(SerializationError):
        error_from_json(JsonCodec(), data)


@pytest.mark.parametrize("name", ["builtins:int", "os:system", "builtins:eval", "subprocess:Popen", "flowkit:errors"])
def test_only_exception_classes_are_made(name: str) -> None:
    """A name in the data leads to nothing but exceptions."""
    with pytest.raises(RunBlocked):
        error_from_json(JsonCodec(), {"error": name, "args": ["echo"]})


def test_text_without_the_class() -> None:
    """What was recorded can be told in one line without importing anything."""
    codec = JsonCodec()
    texts = {
        "ValueError: x": ValueError("x"),
        "ValueError": ValueError(),
        "KeyError: 'k'": KeyError("k"),
        "Local: here": local_error(),
        "Declined: 1: d": Declined(1, detail="d"),
        "AllFailed: all (1 sub-exception)": AllFailed("all", [ValueError()]),
        "FileNotFoundError: [Errno 2] none: 'f'": OSError(2, "none", "f"),
    }
    assert {error_text(error_to_json(codec, error)) for error in texts.values()} == set(texts)
    assert error_text(None) == error_text({}) == "unknown error"


def test_rebuilt_error_shows_like_the_original() -> None:
    """A traceback of what a replay raises reads like the one of the original."""
    error = noted(Declined(4, detail="no"), "step charge, attempt 2")
    back = replayed(error_to_json(JsonCodec(), error))
    assert traceback.format_exception_only(back) == traceback.format_exception_only(error)
