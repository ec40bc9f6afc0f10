"""D6: an exception that is seen live is what is seen on replay."""

import asyncio
import sys
import types
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from attrs import evolve

import flowkit
from flowkit import (
    CompensationFailed,
    Flow,
    NonRetryable,
    Retry,
    RunBlocked,
    RunStatus,
    StepError,
    StepTimeout,
    step,
    task,
)
from flowkit.memory import MemoryStorage
from flowkit.records import Capabilities
from tests.rules.colours import Body, Colour
from tests.rules.conftest import Crash, Store, at_once, crash_once
from tests.rules.seeing import numbered, see


class Declined(Exception):
    """An exception with attributes, whose `__init__` takes something else than its args."""

    made = 0

    def __init__(self, card: str, *, amount: int) -> None:
        type(self).made += 1
        super().__init__(f"{card} was declined")
        self.card = card
        self.amount = amount


class TwoArguments(Exception):
    """An exception whose args are not what its `__init__` takes."""

    def __init__(self, first: str, second: int) -> None:
        super().__init__(f"{first}-{second}")


class Elsewhere(Exception):
    """An exception that looks for its attributes elsewhere, as urllib's `HTTPError` does, where none is found."""

    def __getattr__(self, name: str) -> object:
        raise KeyError(name)


class Unencodable(Exception):
    """An exception that carries what no codec can store."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.socket = object()
        self.code = 7


def raising(error: BaseException) -> Callable[[], Any]:
    """A function that raises an error."""

    def make() -> object:
        raise error

    return make


ERRORS = [
    ValueError("a", 1, None),
    KeyError("missing"),
    OSError(2, "No such file", "/a"),
    FileNotFoundError(2, "No such file", "/a"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    TimeoutError("slow"),
    asyncio.QueueEmpty(),
    NonRetryable("no", "more"),
    StepTimeout("by hand"),
    Declined("4242", amount=5),
    TwoArguments("a", 2),
    Elsewhere("nothing there"),
    ExceptionGroup("several", [ValueError(1), ExceptionGroup("inner", [Declined("1", amount=2)])]),
    AssertionError(),
]


def details(error: BaseException) -> tuple[object, ...]:
    """Everything about an error that must not differ between a first run and a replay."""
    inner = tuple(map(details, error.exceptions)) if isinstance(error, BaseExceptionGroup) else ()
    kept = {key: value for key, value in vars(error).items() if key != "__notes__"}
    return type(error), error.args if not inner else error.args[0], str(error), kept, inner


class TestExceptions:
    """D6."""

    @pytest.mark.parametrize("error", ERRORS, ids=numbered(ERRORS))
    def test_an_exception_comes_back_as_itself(self, memory: Store, colour: Colour, error: Exception) -> None:
        """D6: class, args and attributes are the same live and on replay, and so are the notes."""
        seen = see(memory, colour, raising(error))

        assert [details(other) for other in seen] == [details(error)] * 3
        assert seen[0].__notes__ == seen[1].__notes__ == seen[2].__notes__

    def test_init_is_not_called(self, memory: Store, colour: Colour) -> None:
        """D6: an exception is rebuilt without its `__init__`."""
        error = Declined("1", amount=2)
        before = Declined.made
        seen = see(memory, colour, raising(error))

        assert Declined.made == before
        assert isinstance(seen[2], Declined)
        assert (seen[2].card, seen[2].amount) == ("1", 2)

    def test_attributes_that_cannot_be_stored(self, memory: Store, colour: Colour) -> None:
        """D6: an exception with an attribute that cannot be stored looks the same live and on replay."""
        seen = see(memory, colour, raising(Unencodable("busy")))

        assert len({type(error) for error in seen}) == 1
        assert [details(error) for error in seen] == [details(seen[0])] * 3
        assert "busy" in str(seen[0])
        if isinstance(seen[0], Unencodable):
            assert seen[0].code == 7

    def test_what_cannot_be_rebuilt_is_a_step_error(self, memory: Store, colour: Colour) -> None:
        """D6: an exception with args that cannot be stored is a `StepError`, live and on replay, and tells of it."""
        seen = see(memory, colour, raising(ValueError("very", object())))

        assert [type(error) for error in seen] == [StepError] * 3
        assert len({str(error) for error in seen}) == 1
        assert "ValueError" in seen[0].cause_type
        assert "very" in seen[0].cause_message

    def test_a_class_that_no_import_finds(self, memory: Store, colour: Colour) -> None:
        """D6: an exception whose class lives inside a function is the same live and on replay."""

        class Hidden(Exception):
            """A class that no name leads to."""

        seen = see(memory, colour, raising(Hidden("here")))

        assert [details(error) for error in seen] == [details(seen[0])] * 3
        assert isinstance(seen[0], Hidden | StepError)
        assert "here" in str(seen[0])

    def test_the_note_names_step_run_and_attempts(self, flow: Flow, colour: Colour) -> None:
        """D6: an error that reaches the caller carries a note with its step, its run and the attempts made."""

        @colour.step(retry=Retry(attempts=2, delay=0), name="charge-card")
        def charge() -> None:
            raise ValueError("no")

        @colour.task
        def body() -> Body[None]:
            yield charge()

        with pytest.raises(ValueError, match="no") as caught:
            flow.run(body.options(run_id="order-42"))

        assert str(caught.value) == "no"
        notes = "\n".join(caught.value.__notes__)
        for part in ("charge-card", "order-42", "2"):
            assert part in notes

    def test_a_class_that_is_gone_blocks_the_run(self, memory: Store, colour: Colour) -> None:
        """D6: when a recorded class is not imported in this process, the run is blocked and the module is named."""
        module = types.ModuleType("flowkit_rules_vanishing")
        exec("class Gone(Exception): pass", vars(module))  # noqa: S102  # a module that can be taken away again
        sys.modules[module.__name__] = module
        crashes = [Crash()]
        seen: list[Exception] = []

        @colour.step(attempts=1)
        def fail() -> None:
            raise module.Gone("gone")

        @colour.task
        def body() -> Body[str]:
            try:
                yield fail()
            except Exception as error:  # noqa: BLE001  # whatever comes back
                seen.append(error)
            if crashes:
                raise crashes.pop()
            return "done"

        crash_once(memory, body)
        assert type(seen[0]) is module.Gone

        del sys.modules[module.__name__]
        flow = memory.flow()
        with pytest.raises(RunBlocked, match="flowkit_rules_vanishing"):
            flow.run(body.options(run_id="r"))
        assert flow.handle("r").status() == "blocked"

        sys.modules[module.__name__] = module
        flow.retry("r")
        assert flow.run(body.options(run_id="r")) == "done"
        assert [type(error) for error in seen] == [module.Gone] * 2
        del sys.modules[module.__name__]

    def test_the_run_raises_what_its_body_raised(self, memory: Store, colour: Colour) -> None:
        """D6: an error of the body reaches the first caller and every later one as itself."""

        @colour.task(attempts=1)
        def body() -> Body[None]:
            yield from ()
            raise Declined("4242", amount=5)

        for flow in (memory.flow(), memory.flow()):
            with pytest.raises(Declined) as caught:
                flow.run(body.options(run_id="r"))
            assert details(caught.value) == details(Declined("4242", amount=5))
        error = memory.flow().handle("r").wait_for_completion().error
        assert error is not None
        assert details(error) == details(Declined("4242", amount=5))


def test_an_error_inside_the_step_keeps_its_traceback(flow: Flow) -> None:
    """D6: the first time, the traceback still leads into the step's own code."""

    @step(attempts=1)
    def deep() -> None:
        raise ValueError("deep")

    @task
    def body() -> None:
        deep()

    with pytest.raises(ValueError, match="deep") as caught:
        flow.run(body)

    told = "\n".join([*(str(entry.path) for entry in caught.traceback), *getattr(caught.value, "__notes__", ())])
    assert "test_d_errors" in told


class Narrow(MemoryStorage):
    """A storage that keeps little in one value."""

    def open(self) -> Capabilities:
        """Say so."""
        return evolve(super().open(), max_value_bytes=65_536)


@pytest.mark.parametrize("piece", ["step", "body", "undo", "work"])
def test_an_error_that_is_too_large_to_be_kept(colour: Colour, piece: str) -> None:
    """D6: an error may hold all the data that it complains of; its run ends as any other, with a `StepError`."""
    storage = Narrow()

    def decode(where: str) -> str:
        return bytes([255] * 100_000).decode() if where == piece else "decoded"

    @colour.step(retry=at_once(2))
    def effect() -> str:
        return decode("step")

    @effect.compensate
    def undo(text: str) -> None:
        assert text == "decoded"
        decode("undo")

    @colour.task(attempts=1)
    def body() -> Body[str]:
        flowkit.work(decode, "work")
        yield effect()
        decode("body")
        if piece == "undo":
            raise KeyError("small")
        return "done"

    with Flow(storage, worker=False) as flow:
        with suppress(StepError, CompensationFailed):
            flow.run(body.options(run_id="large"))
        snapshot = storage.load("large")
    assert snapshot is not None
    assert snapshot.header.status is (RunStatus.SUCCEEDED if piece == "work" else RunStatus.FAILED)
    assert any(b"invalid start byte" in entry for entry in snapshot.entries)
    assert max(map(len, [*snapshot.entries, snapshot.result or b""])) < 65_536
