"""R1: how often work is tried."""

from contextlib import suppress
from typing import Any

import pytest

from flowkit import ConfigurationError, Flow, Retry, RunStatus, current_run, step, task
from tests.rules.colours import Body, Colour
from tests.rules.conftest import FakeClock, Store, at_once
from tests.rules.effects import noting


class TestAttempts:
    """R1."""

    @pytest.mark.parametrize("attempts", [1, 2, 5])
    def test_attempts_are_tries_in_all(self, flow: Flow, colour: Colour, attempts: int) -> None:
        """R1: a step is tried `attempts` times in place, and the body sees only the last error."""
        ran: list[int] = []
        caught: list[str] = []

        @colour.step(retry=at_once(attempts))
        def effect() -> None:
            ran.append(current_run().attempt)
            raise ValueError(f"attempt {len(ran)}")

        @colour.task
        def body() -> Body[str]:
            try:
                yield effect()
            except ValueError as error:
                caught.append(str(error))
            return "handled"

        assert flow.run(body) == "handled"
        assert ran == list(range(1, attempts + 1))
        assert caught == [f"attempt {attempts}"]

    def test_a_later_attempt_may_succeed(self, flow: Flow, colour: Colour) -> None:
        """R1: a step that succeeds at its last attempt is a step that succeeded; the body runs once."""
        ran: list[str] = []

        @colour.step(retry=at_once(3))
        def effect() -> str:
            ran.append("effect")
            if ran.count("effect") < 3:
                raise OSError
            return "third time lucky"

        @colour.task
        def body() -> Body[str]:
            ran.append("body")
            return str((yield effect()))

        assert flow.run(body) == "third time lucky"
        assert ran == ["body", "effect", "effect", "effect"]

    def test_three_unless_told_otherwise(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """R1: without any policy each piece of work is tried three times, with growing pauses that vary."""
        ran: list[str] = []

        @colour.step
        def effect() -> None:
            ran.append("effect")
            raise OSError("no")

        @colour.task
        def failing_step() -> Body[None]:
            yield effect()

        @colour.task
        def failing_body() -> Body[None]:
            yield from ()
            ran.append("body")
            raise OSError("no")

        for body in (failing_step, failing_body):
            with pytest.raises(OSError, match="no"):
                store.flow(clock=clock).run(body)

        assert ran == ["effect"] * 3 + ["body"] * 3
        assert len(clock.slept) == 4
        assert clock.slept[0] < clock.slept[1]
        assert clock.slept[2] < clock.slept[3]

    def test_a_step_takes_its_tasks_policy(self, flow: Flow, colour: Colour) -> None:
        """R1: a step without a policy is tried as often as its task says, one with a policy as it says itself."""
        ran: list[str] = []

        @colour.step
        def plain() -> None:
            ran.append("plain")
            raise OSError

        @colour.step(retry=at_once(2))
        def own() -> None:
            ran.append("own")
            raise OSError

        @colour.task(retry=at_once(4))
        def body() -> Body[None]:
            for each in (plain, own):
                with suppress(OSError):
                    yield each()

        flow.run(body)

        assert ran == ["plain"] * 4 + ["own"] * 2

    def test_a_child_task_has_a_policy_of_its_own(self, flow: Flow, colour: Colour) -> None:
        """R1: a child's steps take the child's policy, not that of its parent."""
        ran: list[str] = []

        @colour.step
        def effect() -> None:
            ran.append("effect")
            raise OSError("child")

        @colour.task(retry=at_once(2))
        def child() -> Body[None]:
            ran.append("child")
            yield effect()

        @colour.task(retry=at_once(5))
        def parent() -> Body[None]:
            ran.append("parent")
            yield child()

        with pytest.raises(OSError, match="child"):
            flow.run(parent)

        assert ran == ["parent", "child", "effect", "effect"]

    def test_code_between_the_steps_starts_over(self, flow: Flow, colour: Colour) -> None:
        """R1: a body that raises by itself is started over with completed steps skipped."""
        ran: list[str] = []
        attempts: list[int] = []
        effect = noting(colour, ran)

        @colour.task(retry=at_once(3))
        def body() -> Body[str]:
            attempts.append(current_run().attempt)
            yield effect("a")
            if len(attempts) == 1:
                raise OSError("by itself")
            yield effect("b")
            if len(attempts) == 2:
                raise OSError("by itself")
            return "done"

        assert flow.run(body) == "done"
        assert ran == ["a", "b"]
        assert attempts == [1, 2, 3]

    def test_attempts_of_the_body_are_limited(self, flow: Flow, colour: Colour) -> None:
        """R1: a body that always raises is tried as often as its task says, and its last error is the run's."""
        ran: list[str] = []

        @colour.task(retry=at_once(3))
        def body() -> Body[None]:
            yield from ()
            ran.append("body")
            raise OSError(f"attempt {len(ran)}")

        with pytest.raises(OSError, match="attempt 3"):
            flow.run(body.options(run_id="r"))

        assert len(ran) == 3
        assert flow.handle("r").status() is RunStatus.FAILED

    def test_attempts_do_not_multiply(self, flow: Flow, colour: Colour) -> None:
        """R1: a failing step in a task with three attempts is tried three times, and the body once."""
        ran: list[str] = []

        @colour.step
        def effect() -> None:
            ran.append("effect")
            raise OSError("no")

        @colour.task(retry=at_once(3))
        def body() -> Body[None]:
            ran.append("body")
            yield effect()

        with pytest.raises(OSError, match="no"):
            flow.run(body)

        assert ran == ["body", "effect", "effect", "effect"]

    def test_options_change_the_policy(self, flow: Flow, colour: Colour) -> None:
        """R1: `options` gives the same step or task with other attempts, and leaves the original alone."""
        ran: list[str] = []

        @colour.step(retry=at_once(1))
        def effect() -> None:
            ran.append("effect")
            raise OSError("no")

        @colour.task
        def body(attempts: int | None) -> Body[None]:
            yield (effect if attempts is None else effect.options(retry=at_once(attempts)))()

        for attempts in (4, None):
            with pytest.raises(OSError, match="no"):
                flow.run(body, attempts)

        assert len(ran) == 5

    def test_inline_steps_take_the_tasks_policy(self, flow: Flow, colour: Colour) -> None:
        """R1: `step.run` is tried as often as its task says."""
        ran: list[str] = []

        def effect() -> str:
            ran.append("effect")
            if len(ran) < 3:
                raise OSError
            return "done"

        @colour.task(retry=at_once(3))
        def body() -> Body[str]:
            result: str = yield (step.aio.run("inline", effect) if colour.awaits else step.run("inline", effect))
            return result

        assert flow.run(body) == "done"
        assert len(ran) == 3


class TestPolicies:
    """R1 and R4, as they are written down."""

    @pytest.mark.parametrize(
        "options",
        [
            {"attempts": 0},
            {"attempts": -1},
            {"retry": "often"},
            {"timeout": "soon"},
            {"timeout": -1},
            {"attempts": 2, "retry": Retry(attempts=3)},
        ],
        ids=str,
    )
    def test_nonsense_is_refused_where_it_is_written(self, options: dict[str, Any]) -> None:
        """R1: an option that makes no sense is an error at the decorator, not at run time."""
        with pytest.raises(ConfigurationError):
            step(**options)(lambda: None)
        with pytest.raises(ConfigurationError):
            task(id="rules-nonsense", **options)(lambda: None)

    def test_a_policy_that_makes_no_sense_is_refused(self) -> None:
        """R1: a `Retry` with impossible numbers, or with no error classes, is refused where it is made."""
        nonsense: Any
        for nonsense in (
            {"attempts": 0},
            {"delay": -1},
            {"jitter": -0.5},
            {"max_delay": -1},
            {"on": [OSError]},
            {"on": (3,)},
        ):
            with pytest.raises((ConfigurationError, ValueError)):
                Retry(**nonsense)
