"""What may be decorated besides functions: partials, objects that can be called, and what is decorated already."""

import functools
from collections.abc import Callable

import pytest

from flowkit import ConfigurationError, Flow, step, task


def add(a: int, b: int) -> int:
    """A function to make others of."""
    return a + b


class Adder:
    """An object that can be called."""

    def __init__(self, a: int) -> None:
        self.a = a

    def __call__(self, b: int) -> int:
        """Add to what it was made with."""
        return self.a + b


NAMELESS = [functools.partial(add, 1), Adder(1)]


@pytest.mark.parametrize("fn", NAMELESS, ids=["partial", "object"])
class TestNameless:
    """Partials and objects that can be called."""

    def test_they_may_be_steps(self, flow: Flow, fn: Callable[[int], int]) -> None:
        """api.md: a step is any function, whatever it is made of."""
        effect = step(fn)

        @task
        def body() -> int:
            return effect(2)

        assert flow.run(body) == 3

    def test_they_may_be_tasks_under_an_id(self, flow: Flow, fn: Callable[[int], int]) -> None:
        """api.md: a task needs an id that its runs are stored under, and decorating it again replaces it."""
        assert flow.run(task(id=f"callables-{type(fn).__name__}")(fn), 2) == 3
        assert flow.run(task(id=f"callables-{type(fn).__name__}")(fn), 2) == 3

    def test_without_an_id_they_are_refused(self, fn: Callable[[int], int]) -> None:
        """api.md: what has no name of its own is told that it needs one, where it is decorated."""
        with pytest.raises(ConfigurationError, match=r"@task\(id="):
            task(fn)

    def test_another_function_under_their_id_is_refused(self, fn: Callable[[int], int]) -> None:
        """api.md: a task id is unique among these too."""
        task(id=f"taken-{type(fn).__name__}")(fn)
        with pytest.raises(ConfigurationError, match="is taken by"):
            task(id=f"taken-{type(fn).__name__}")(add)


class TestDecoratedTwice:
    """What is a step or a task already."""

    def test_a_step_may_be_a_task(self, flow: Flow) -> None:
        """api.md: a task around a step is a run with that one step."""

        @task(id="callables-step")
        @step
        def double(number: int) -> int:
            return 2 * number

        assert flow.run(double.options(run_id="twice"), 4) == 8
        assert [item.id for item in flow.runs(task="callables-step")] == ["twice"]

    def test_a_task_may_be_a_step(self, flow: Flow) -> None:
        """I5: a step around a task, or around a step, is a step around the function."""

        @task(id="callables-inner")
        def inner(number: int) -> int:
            return 2 * number

        twice = step(step(name="inner")(inner))

        @task
        def body() -> int:
            return twice(4)

        assert flow.run(body.options(run_id="body")) == 8
        assert [item.id for item in flow.runs()] == ["body"]
