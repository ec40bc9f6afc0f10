"""Exploring: what it finds, what it says, and how to try one schedule again."""

from __future__ import annotations

import pytest

from flowkit import NonRetryable, step, task
from flowkit.memory import MemoryStorage
from flowkit_testing import Harness
from flowkit_testing.points import Injury, Point, schedule_of, token_of


@step
def add(left: int, right: int) -> int:
    """A step."""
    return left + right


@task
def chain(length: int) -> int:
    """Steps in a row."""
    total = 0
    for number in range(length):
        total = add(total, number)
    return total


_memory: dict[str, int] = {}


@task
def forgetful(number: int) -> int:
    """Keeps something outside of its steps that a crash takes away."""
    _memory["number"] = number
    add(number, 1)
    if _memory.pop("number", 0):
        return add(number, 2)
    return number


@step
def remember(number: int) -> int:
    """Leaves something in the process, which a replay does not do again."""
    _memory["remembered"] = number
    return number


@step
def collect(into: list[int]) -> None:
    """Changes what it was given, which a replay does not."""
    into.append(1)


@task
def mutating(number: int) -> int:
    """Goes on from what a step has changed."""
    found: list[int] = []
    collect(found)
    return add(number, len(found))


@task
def relies_on_the_process(number: int) -> int:
    """Reads what a step has left in the process."""
    _memory.clear()
    remember(number)
    return add(_memory.get("remembered", 0), 1)


class TestSafe:
    """Workflows that survive everything."""

    def test_how_much_it_takes(self, harness: Harness) -> None:
        """A chain of n steps has about n states, so resuming from each covers any number of crashes in few runs."""
        found = harness.explore(chain, 10)
        found.assert_safe()
        assert found.resumes <= 3 * 10 + 20
        assert found.coverage == 1.0
        assert "safe; " in str(found)

    def test_faults_of_the_test_apply(self, harness: Harness) -> None:
        """What the test makes fail fails in every schedule, for the same attempts."""
        harness.fail("add", error=ConnectionError("busy"), times=2)
        harness.explore(chain, 3).assert_safe()
        harness.run(chain, 1)

    def test_failing_workflows_are_explored_too(self, harness: Harness) -> None:
        """A run that fails has to fail the same way whatever happens."""
        harness.fail("add#2", error=NonRetryable("no"))
        harness.explore(chain, 3).assert_safe()
        harness.run(chain, 3)


class TestUnsafe:
    """Workflows that do not."""

    def test_it_says_where(self) -> None:
        """The message names the point, what went wrong, and how to try just that again."""
        harness = Harness(MemoryStorage())
        found = harness.explore(relies_on_the_process, 3)
        with pytest.raises(AssertionError) as failure:
            found.assert_safe()
        text = str(failure.value)
        assert "relies_on_the_process' is not safe" in text
        assert "replay after each recorded step" in text
        assert "--flowkit-replay=fk1-" in text
        assert "other arguments" in text

    def test_the_token_tries_just_that(self) -> None:
        """Exploring with a token tries that schedule only."""
        found = Harness(MemoryStorage()).explore(relies_on_the_process, 3)
        violation = min(found.violations, key=lambda violation: len(violation.schedule))
        again = Harness(MemoryStorage(), replay=token_of(violation.schedule)).explore(relies_on_the_process, 3)
        assert [other.schedule for other in again.violations] == [violation.schedule]
        assert again.runs == 2

    def test_a_point_that_is_not_there(self) -> None:
        """A schedule that is never reached proves nothing, and says so."""
        nowhere = token_of((Injury("crash", Point("run-1: invoke nothing (9), attempt 1", "before")),))
        found = Harness(MemoryStorage(), replay=nowhere).explore(chain, 2)
        with pytest.raises(AssertionError, match="never reached"):
            found.assert_safe()
        found.assert_safe(min_coverage=0)

    def test_arguments_that_a_step_mutates(self) -> None:
        """D8: what a step has changed in its arguments is not changed on a replay, and the exploration says so."""
        found = Harness(MemoryStorage()).explore(mutating, 3)
        assert any(text.startswith("D8: ") and "'add'" in text for each in found.violations for text in each.wrong)


class TestTokens:
    """Tokens stand for schedules."""

    def test_there_and_back(self) -> None:
        """A schedule survives being a token."""
        schedule = (
            Injury("crash", Point("run-1: invoke add (2), attempt 1", "after", 1)),
            Injury("lost_ack", Point("storage: commit", "before", 3)),
        )
        assert schedule_of(token_of(schedule)) == schedule
        assert str(schedule[1]) == "lost_ack before storage: commit (time 3)"

    @pytest.mark.parametrize("text", ["", "nonsense", "fk1-", "fk1-nonsense", "fk1-eJw"])
    def test_nonsense_is_refused(self, text: str) -> None:
        """With an error that says so."""
        with pytest.raises(ValueError, match="fk1-"):
            schedule_of(text)
