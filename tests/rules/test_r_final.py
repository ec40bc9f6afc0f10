"""R3: what is never tried again."""

from contextlib import suppress

import pytest

from flowkit import (
    Flow,
    step,
    task,
)
from tests.rules.colours import Body, Colour
from tests.rules.conftest import Crash, Store, at_once, crash_once


class TestFinalFailures:
    """R3."""

    def test_a_failure_is_the_same_on_replay(self, store: Store, colour: Colour) -> None:
        """R3: a step that failed for good is not tried again after a crash; its error is raised from the record."""
        ran: list[str] = []
        seen: list[tuple[type, tuple[object, ...], list[str]]] = []
        crashes = [Crash(), Crash()]

        @colour.step(retry=at_once(2))
        def effect() -> None:
            ran.append("effect")
            raise ValueError("no", 5)

        @colour.task
        def body() -> Body[None]:
            try:
                yield effect()
            except ValueError as error:
                seen.append((type(error), error.args, list(error.__notes__)))
            if crashes:
                raise crashes.pop()

        for _ in range(2):
            crash_once(store, body)
        store.flow().run(body.options(run_id="r"))

        assert ran == ["effect"] * 2
        assert seen[0] == seen[1] == seen[2]
        assert seen[0][:2] == (ValueError, ("no", 5))

    def test_a_body_that_saw_a_failure_is_not_started_over(self, flow: Flow, colour: Colour) -> None:
        """R3: once a step's failure was delivered, also a caught one, an error of the body is final."""
        ran: list[str] = []

        @colour.step(retry=at_once(1))
        def effect() -> None:
            raise ValueError("step")

        @colour.task(retry=at_once(3))
        def body() -> Body[None]:
            ran.append("body")
            with suppress(ValueError):
                yield effect()
            raise OSError("body")

        with pytest.raises(OSError, match="body"):
            flow.run(body)

        assert ran == ["body"]

    def test_a_wrapped_failure_is_final(self, flow: Flow, colour: Colour) -> None:
        """R3: an error that the body raises from a step's failure is the run's outcome."""
        ran: list[str] = []

        @colour.step(retry=at_once(1))
        def effect() -> None:
            raise ValueError("step")

        @colour.task(retry=at_once(3))
        def body() -> Body[None]:
            ran.append("body")
            try:
                yield effect()
            except ValueError as error:
                raise OSError("wrapped") from error

        with pytest.raises(OSError, match="wrapped"):
            flow.run(body)

        assert ran == ["body"]

    @pytest.mark.parametrize("form", ["except", "finally"])
    def test_a_body_that_cleaned_up_is_not_started_over(self, flow: Flow, form: str) -> None:
        """R3: an operation that was called while an error was being handled makes the outcome final."""
        ran: list[str] = []

        @step
        def clean_up() -> None:
            ran.append("clean up")

        @step
        async def clean_up_async() -> None:
            ran.append("clean up")

        @task(retry=at_once(3))
        def body() -> None:
            ran.append("body")
            if form == "except":
                try:
                    raise OSError("body")
                except OSError:
                    clean_up()
                    raise
            try:
                raise OSError("body")
            finally:
                clean_up()

        @task(retry=at_once(3))
        async def body_async() -> None:
            ran.append("body")
            if form == "except":
                try:
                    raise OSError("body")
                except OSError:
                    await clean_up_async()
                    raise
            try:
                raise OSError("body")
            finally:
                await clean_up_async()

        with pytest.raises(OSError, match="body"):
            flow.run(body)
        with pytest.raises(OSError, match="body"):
            flow.run(body_async)

        assert ran == ["body", "clean up"] * 2

    def test_an_operation_after_a_handled_error_is_no_clean_up(self, flow: Flow, colour: Colour) -> None:
        """R3: an error of its own that the body has dealt with before it went on does not make a later one final."""
        ran: list[str] = []

        @colour.step
        def effect() -> None:
            ran.append("effect")

        @colour.task(retry=at_once(2))
        def body() -> Body[str]:
            ran.append("body")
            with suppress(KeyError):
                raise KeyError("its own")
            yield effect()
            if ran.count("body") == 1:
                raise OSError("body")
            return "done"

        assert flow.run(body) == "done"
        assert ran == ["body", "effect", "body"]

    def test_a_childs_failure_is_final(self, flow: Flow, colour: Colour) -> None:
        """R3: a failed child is a failure that was delivered: its parent is not started over."""
        ran: list[str] = []

        @colour.task(attempts=1)
        def child() -> Body[None]:
            yield from ()
            ran.append("child")
            raise ValueError("child")

        @colour.task(retry=at_once(3))
        def parent() -> Body[None]:
            ran.append("parent")
            yield child()

        with pytest.raises(ValueError, match="child"):
            flow.run(parent)

        assert ran == ["parent", "child"]

    def test_a_reopened_run_has_its_attempts_again(self, flow: Flow, colour: Colour) -> None:
        """R3: `flow.retry` gives what failed all its attempts again."""
        ran: list[str] = []

        @colour.step(retry=at_once(2))
        def effect() -> str:
            ran.append("effect")
            if len(ran) < 4:
                raise OSError("no")
            return "done"

        @colour.task
        def body() -> Body[str]:
            return str((yield effect()))

        with pytest.raises(OSError, match="no"):
            flow.run(body.options(run_id="r"))
        flow.retry("r")

        assert flow.run(body.options(run_id="r")) == "done"
        assert len(ran) == 4
