"""G1, G4: a `saga` scope in a task that is left by an error."""

from collections.abc import Callable
from typing import Any

import pytest

import flowkit
from flowkit import ConfigurationError, Flow, NotAllowedInStep, OutsideRun, WrongColour, on_rollback, saga, step, task
from flowkit_testing import Harness
from tests.rules.booking import Undone, booking, flown
from tests.rules.colours import Body, Colour
from tests.rules.conftest import Crash, Store, at_once, cancel_as_it_waits, crash_once
from tests.rules.effects import dying, noting


def _raise(error: BaseException | None) -> None:
    if error is not None:
        raise error


def _task(colour: Colour, sync_body: Callable[[], Any], async_body: Callable[[], Any]) -> Any:  # noqa: ANN401  # a task
    return task(attempts=1)(async_body if colour.awaits else sync_body)


class TestScopes:
    """`saga()`: a part of a task."""

    def test_only_the_scope_is_undone(self, flow: Flow, colour: Colour) -> None:
        """G1: an error that leaves a scope undoes that scope; what was done before stays, and the body may go on."""
        undone: Undone = []
        book = booking(colour, undone)

        def sync_body() -> str:
            book("car")
            try:
                with saga("trip"):
                    book("flight")
                    book("hotel")
                    raise ValueError("no")
            except ValueError:
                book("sofa")
            return "home"

        async def async_body() -> str:
            await book("car")
            try:
                async with saga("trip"):
                    await book("flight")
                    await book("hotel")
                    raise ValueError("no")
            except ValueError:
                await book("sofa")
            return "home"

        assert flow.run(_task(colour, sync_body, async_body)) == "home"
        assert flown(undone) == ["hotel", "flight"]

    def test_a_scope_that_succeeds_hands_its_undos_on(self, flow: Flow, colour: Colour) -> None:
        """G1: what a scope has completed is undone with the scope around it, in the order of all."""
        undone: Undone = []
        book = booking(colour, undone)

        def sync_body() -> None:
            with saga("outer"):
                book("a")
                with saga("inner"):
                    book("b")
                book("c")
                raise ValueError("no")

        async def async_body() -> None:
            async with saga("outer"):
                await book("a")
                async with saga("inner"):
                    await book("b")
                await book("c")
                raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            flow.run(_task(colour, sync_body, async_body))

        assert flown(undone) == ["c", "b", "a"]

    def test_nested_scopes_undo_inside_out(self, flow: Flow, colour: Colour) -> None:
        """G1: an error that leaves two scopes undoes the inner one, then the outer one, each once."""
        undone: Undone = []
        book = booking(colour, undone)

        def sync_body() -> None:
            book("0")
            with saga("outer"):
                book("a")
                with saga("inner"):
                    book("b")
                    raise ValueError("no")

        async def async_body() -> None:
            await book("0")
            async with saga("outer"):
                await book("a")
                async with saga("inner"):
                    await book("b")
                    raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            flow.run(_task(colour, sync_body, async_body))

        assert flown(undone) == ["b", "a", "0"]

    @pytest.mark.parametrize("at", ["before_effect", "after_effect", "before_commit", "after_commit"])
    @pytest.mark.parametrize("step_name", ["cancel", "cancel#2"])
    def test_a_crash_in_a_scope(self, harness: Harness, colour: Colour, at: Any, step_name: str) -> None:  # noqa: ANN401  # a word
        """G3: a rollback of a scope that a crash cuts short goes on, each undo once, and the body goes on after it."""
        undone: Undone = []
        book = booking(colour, undone)

        def sync_body() -> str:
            try:
                with saga("trip"):
                    book("flight")
                    book("hotel")
                    raise ValueError("no")
            except ValueError:
                return str(book("sofa"))

        async def async_body() -> str:
            try:
                async with saga("trip"):
                    await book("flight")
                    await book("hotel")
                    raise ValueError("no")
            except ValueError:
                return str(await book("sofa"))

        harness.crash(step_name, at=at)
        run = harness.run(_task(colour, sync_body, async_body))

        assert run.output == "booked sofa"
        assert [*dict.fromkeys(flown(undone))] == ["hotel", "flight"]
        assert len(undone) == (3 if at in {"after_effect", "before_commit"} else 2)

    def test_a_scope_that_is_cancelled(self, store: Store, colour: Colour) -> None:
        """G1, E2: a cancellation that leaves a scope undoes it, before the body goes on, and once."""
        undone: Undone = []
        seen: list[list[str]] = []
        book = booking(colour, undone)

        def sync_body() -> None:
            book("car")
            try:
                with saga("trip"):
                    book("flight")
                    colour.sleep("7d")
            finally:
                seen.append(flown(undone))

        async def async_body() -> None:
            await book("car")
            try:
                async with saga("trip"):
                    await book("flight")
                    await colour.sleep("7d")
            finally:
                seen.append(flown(undone))

        with Flow(store.storage()) as flow:
            cancel_as_it_waits(flow, _task(colour, sync_body, async_body))

        assert seen[-1] == ["flight"]
        assert flown(undone) == ["flight", "car"]

    def test_another_error_comes_back(self, store: Store, colour: Colour) -> None:
        """G3: a rollback that was cut short ends with the error that it was begun by, whatever the replay raises."""
        undone: Undone = []
        bodies: list[int] = []
        book = booking(colour, undone, fails=dying())

        def sync_body() -> None:
            bodies.append(1)
            with saga("trip"):
                book("flight")
                raise ValueError(f"body {len(bodies)}")

        async def async_body() -> None:
            bodies.append(1)
            async with saga("trip"):
                await book("flight")
                raise ValueError(f"body {len(bodies)}")

        body = _task(colour, sync_body, async_body)
        crash_once(store, body)
        with pytest.raises(ValueError, match="body 1"):
            store.flow().run(body.options(run_id="r"))

        assert len(bodies) == 2
        assert flown(undone) == ["flight"]

    def test_a_scope_does_not_go_forward(self, store: Store, colour: Colour) -> None:
        """G3: a body that would go on where its scope had failed calls nothing more in it, and nothing after it yet."""
        undone: Undone = []
        crashes = [Crash()]
        ran: list[str] = []
        book = booking(colour, undone, fails=lambda _name: _raise(crashes.pop() if crashes else None))
        effect = noting(colour, ran)

        def sync_body() -> str:
            try:
                with saga("trip"):
                    book("flight")
                    _raise(ValueError("no") if crashes else None)
                    effect("forward")
            except ValueError:
                return str(effect("after"))
            return "forward"

        async def async_body() -> str:
            try:
                async with saga("trip"):
                    await book("flight")
                    _raise(ValueError("no") if crashes else None)
                    await effect("forward")
            except ValueError:
                return str(await effect("after"))
            return "forward"

        body = _task(colour, sync_body, async_body)
        crash_once(store, body)

        assert store.flow().run(body.options(run_id="r")) == "after"
        assert ran == ["after"]
        assert flown(undone) == ["flight"]

    def test_undos_that_are_registered_first(self, flow: Flow, colour: Colour) -> None:
        """G1: `on_rollback` registers an undo before the action, which may then happen without being recorded."""
        undone: Undone = []

        @colour.step(retry=at_once(1))
        def charge(key: str) -> None:
            undone.append(("charged", key))
            raise OSError("the answer was lost")

        @colour.task
        def pay() -> Body[None]:
            key = str(flowkit.uuid4())
            on_rollback(lambda key: undone.append(("cancelled", key)), key)
            yield charge(key)

        with pytest.raises(OSError, match="lost"):
            flow.run(pay)

        assert [what for what, _ in undone] == ["charged", "cancelled"]
        assert undone[0][1] == undone[1][1]


class TestMistakes:
    """Errors that name the remedy."""

    def test_outside_and_inside_a_step(self, flow: Flow) -> None:
        """`saga` and `on_rollback` work in a task only."""

        @step(attempts=1)
        def effect() -> None:
            with saga("s"):
                pass

        @task
        def body() -> None:
            effect()

        with pytest.raises(OutsideRun), saga("s"):
            pass
        with pytest.raises(OutsideRun):
            on_rollback(print)
        with pytest.raises(NotAllowedInStep):
            flow.run(body)

    def test_an_undo_that_cannot_be_called(self, flow: Flow) -> None:
        """G1: what is no function is refused when it is registered, not when it is needed."""

        @task
        def body(undo: Any) -> None:  # noqa: ANN401  # what is refused
            on_rollback(undo)

        for undo in (3, None, "release"):
            with pytest.raises(ConfigurationError, match="on_rollback"):
                flow.run(body, undo)

    def test_the_wrong_colour(self, flow: Flow) -> None:
        """A sync `with` in an async task, an async undo in a sync task: the error says what to write."""

        @task
        async def body() -> None:
            with saga("s"):
                pass

        @step
        def book() -> None:
            pass

        @book.compensate
        async def cancel() -> None:
            pass

        @task
        def sync_body() -> None:
            book()

        with pytest.raises(WrongColour, match="async with"):
            flow.run(body)
        with pytest.raises(WrongColour, match="undo"):
            flow.run(sync_body)

    def test_an_undo_takes_what_there_is(self) -> None:
        """An undo that asks for an argument which its step has not is refused where it is declared."""

        @step
        def book(name: str) -> str:
            return name

        with pytest.raises(ConfigurationError, match="nights"):

            @book.compensate
            def cancel(_booked: str, nights: int) -> None:
                del nights
