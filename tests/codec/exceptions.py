"""Exceptions of every kind, well-behaved and not, and what raises and replays them."""

import asyncio
import json
import subprocess
import urllib.error
from collections.abc import Callable
from typing import Never, Self

import attrs

from flowkit.codec import Json, JsonCodec
from flowkit.codec.errors import error_from_json
from flowkit.errors import AllFailed, NonRetryable, RunCancelled, StepError, StepTimeout


class Declined(Exception):
    """Its `__init__` wants what its args do not have."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.parts = (code, {detail})


class Counted(Exception):
    """Counts how often its `__init__` is run."""

    made = 0

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        type(self).made += 1


class Guarded(Exception):
    """Has a `__new__` that fits its args, and is not to be run again."""

    made = 0

    def __new__(cls, *args: object) -> Self:
        """Count it."""
        cls.made += 1
        return super().__new__(cls, *args)


class Slotted(ValueError):
    """Keeps attributes in slots."""

    __slots__ = ("code", "never")

    def __init__(self, code: int) -> None:
        self.code = code


class Unreachable(OSError):
    """An `OSError` with an `__init__` of its own."""

    def __init__(self, host: str) -> None:
        super().__init__(111, "refused")
        self.host = host


class Made(Exception):
    """Has a `__new__` of its own."""

    def __new__(cls, first: str, second: str) -> Self:
        """A new one, from two args."""
        return super().__new__(cls, first + second)

    def __init__(self, first: str, second: str) -> None:
        super().__init__(second, first)


class Both(KeyError, NonRetryable):
    """Two bases."""


class Late(ValueError, TimeoutError):
    """Two builtin bases, the second of which decides the layout."""


class Many(ExceptionGroup[Exception]):
    """A group that is made from something else than a message and exceptions."""

    def __new__(cls, errors: list[Exception]) -> Self:
        """A new one, from exceptions alone."""
        return super().__new__(cls, "many", errors)

    def __init__(self, errors: list[Exception]) -> None:
        super().__init__("many", errors)
        self.count = len(errors)


@attrs.define
class Defined(Exception):
    """An attrs class."""

    code: int
    text: str = "x"


@attrs.frozen
class FrozenError(Exception):
    """An attrs class that cannot be changed."""

    code: int


class Mute(Exception):
    """Everything about it fails."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    def __hash__(self) -> int:
        raise RuntimeError("no hash")

    def __reduce__(self) -> Never:
        raise RuntimeError("no pickle")


class Hidden(Exception):
    """Nothing of it can be read in the ordinary way."""

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(name)


class Forgetful(Exception):
    """Its attributes cannot be set in the ordinary way."""

    def __setattr__(self, name: str, value: object) -> None:
        raise RuntimeError(name)


class Liar(Exception):
    """Does not hold what it says."""

    @property
    def args(self) -> Never:  # type: ignore[override]  # noqa: D102  # that is the point
        raise RuntimeError("no args")


def raised_by(action: Callable[[], object]) -> BaseException:
    """What an action raises."""
    try:
        action()
    except BaseException as error:  # noqa: BLE001  # whatever it is
        return error
    raise AssertionError("nothing was raised")


def raised(error: BaseException) -> BaseException:
    """The exception, with a traceback and a context."""

    def action() -> None:
        try:
            raise LookupError("before")
        except LookupError:
            raise error  # noqa: B904  # a context is wanted

    return raised_by(action)


def noted(error: BaseException, *notes: str) -> BaseException:
    """The exception with notes."""
    for note in notes:
        error.add_note(note)
    return error


def replayed(document: Json) -> BaseException:
    """The exception that a replay raises, through JSON text, with another codec."""
    codec = JsonCodec()
    return error_from_json(codec, codec.loads(codec.dumps(document)))


WHOLE: dict[str, Callable[[], BaseException]] = {
    "no args": ValueError,
    "one arg": lambda: ValueError("x"),
    "many args": lambda: ValueError("x", 1, (2, {3}), None, float("nan"), b"x"),
    "key": lambda: raised_by(lambda: json.loads("{}")["a"]),
    "index": lambda: raised_by(lambda: "a"[1:][0]),
    "name": lambda: raised_by(lambda: nowhere),  # type: ignore[name-defined]  # noqa: F821  # that is the point
    "attribute of None": lambda: raised_by(lambda: None.foo),  # type: ignore[attr-defined]  # that is the point
    "zero": lambda: raised_by(lambda: 1 // 0),
    "import": lambda: ImportError("no", name="n", path="p"),
    "os": lambda: OSError(2, "none", "file"),
    "os with two files": lambda: OSError(18, "cross", "a", None, "b"),
    "os as a text": lambda: OSError("just text"),
    "file": lambda: raised_by(lambda: open("/nowhere/at/all")),  # noqa: PTH123, SIM115  # it raises
    "blocking": lambda: BlockingIOError(11, "again", 7),
    "timeout": lambda: TimeoutError("slow"),
    "decode": lambda: raised_by(b"a\xff".decode),
    "encode": lambda: raised_by("a\udc80".encode),
    "syntax": lambda: raised_by(lambda: compile("a b", "file", "exec")),
    "stop": lambda: StopIteration({"value": (1,)}),
    "exit": lambda: SystemExit(3),
    "interrupt": KeyboardInterrupt,
    "cancelled": lambda: asyncio.CancelledError("because"),
    "json": lambda: raised_by(lambda: json.loads("{")),
    "process": lambda: subprocess.CalledProcessError(2, ["a", "b"], b"out"),
    "url": lambda: urllib.error.URLError("down"),
    "assertion": AssertionError,
    "group": lambda: ExceptionGroup("g", [ValueError("x"), ExceptionGroup("h", [KeyError("k")])]),
    "base group": lambda: BaseExceptionGroup("g", [KeyboardInterrupt()]),
    "group of flowkit": lambda: AllFailed("all", [noted(Declined(1, detail="d"), "n")]),  # type: ignore[list-item]  # what the list holds is any exception
    "unusual group": lambda: Many([ValueError("x"), Declined(2, detail="e")]),
    "step error": lambda: StepError("m", "a:B", "text"),
    "step timeout": lambda: StepTimeout("slow"),
    "run cancelled": lambda: RunCancelled("r"),
    "needs more than its args": lambda: Declined(4, detail="no"),
    "slots": lambda: Slotted(5),
    "os with its own init": lambda: Unreachable("host"),
    "its own new": lambda: Made("a", "b"),
    "two bases": lambda: Both("k"),
    "two builtin bases": lambda: Late("v"),
    "attrs": lambda: Defined(6),
    "frozen attrs": lambda: FrozenError(7),
    "mute": lambda: Mute("x"),
    "an exception in its args": lambda: ValueError("x", Declined(1, detail="d"), [KeyError("k")]),
    "a group in its args": lambda: ValueError(ExceptionGroup("g", [KeyError("k")])),
    "notes": lambda: noted(ValueError("x"), "one", "two"),
    "long": lambda: ValueError("x" * 100_000),
    "surrogates": lambda: ValueError("\ud800"),
    "refuses attributes": lambda: Forgetful("x"),
    "args that are no args": lambda: Liar("x"),
}
