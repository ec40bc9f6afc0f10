"""What a `RunReport` tells, and what its assertions say when they fail."""

from __future__ import annotations

import pytest

from flowkit import NonRetryable, saga, step, task
from flowkit.records import RunStatus
from flowkit_testing import Harness, ReplayDiffers


@step
def book(what: str) -> str:
    """Has an undo."""
    return what


@book.compensate
def unbook(what: str) -> None:
    """The undo."""


@step
def pay(amount: int) -> int:
    """Has none."""
    return amount


@task
def child(amount: int) -> int:
    """A child."""
    return pay(amount)


@task
def trip(amount: int) -> int:
    """Books, and pays in a child."""
    book("flight")
    book("hotel")
    return child(amount)


class TestWhatRan:
    """Counts of calls."""

    def test_children_belong_to_the_run(self, harness: Harness) -> None:
        """Steps of children count; a child counts by how often its body began."""
        run = harness.run(trip, 3)
        run.assert_calls((pay, 1), (child, 1), (book, 2), ("book#2", 1))
        assert run.calls(trip) == 1

    def test_other_runs_do_not(self, harness: Harness) -> None:
        """Each report tells of its own run."""
        first, second = harness.run(child, 1), harness.run(child, 2)
        assert (first.output, second.output) == (1, 2)
        first.assert_calls(pay=1)
        second.assert_calls(pay=1)

    def test_failing_assertions_explain(self, harness: Harness) -> None:
        """They show the journal and what happened."""
        run = harness.run(trip, 3)
        with pytest.raises(AssertionError, match=r"pay: 1 attempt\(s\), not 2\n *run run-1 is succeeded\n *journal:"):
            run.assert_calls(pay=2)
        with pytest.raises(AssertionError, match=r"pay ran 1 time\(s\) and was answered by the journal 0 time\(s\)"):
            run.assert_skipped("pay")
        assert "book#2 began (attempt 1)" in run.describe()
        assert repr(run) == "<RunReport run-1 succeeded>"

    def test_a_reference_must_be_one(self, harness: Harness) -> None:
        """A step is not named by a number."""
        with pytest.raises(TypeError, match="named by its name"):
            harness.fail(3)  # type: ignore[arg-type]  # wrong on purpose


class TestCompensated:
    """What was undone."""

    def test_newest_first(self, harness: Harness) -> None:
        """The steps that were undone, in the order of their undoing."""
        harness.fail("pay", error=NonRetryable("no money"))
        run = harness.run(trip, 3)
        assert isinstance(run.error, NonRetryable)
        assert run.compensated == ["book", "book"]
        run.assert_compensated([book, "book"])
        with pytest.raises(AssertionError, match="undone were"):
            run.assert_compensated([])

    def test_an_undo_is_a_step_of_its_own(self, harness: Harness) -> None:
        """It is addressed by its function or by what it undoes, and is no call of the step."""
        harness.fail("pay", error=NonRetryable("no money"))
        harness.fail(unbook, times=1)
        harness.fail("undo of book", times=1)
        harness.crash("unbook#2", at="before_commit")
        run = harness.run(trip, 3)
        run.assert_compensated(["book", "book"])
        run.assert_calls(book=2, unbook=5)

    def test_nothing(self, harness: Harness) -> None:
        """A run that succeeds undoes nothing."""

        @task
        def fine() -> str:
            with saga("fine"):
                return book("flight")

        harness.run(fine).assert_compensated([])


class TestStrictness:
    """What fails a test without being asked."""

    @pytest.mark.parametrize("at", ["after_commit", "before_effect"])
    def test_arguments_that_differ_on_replay(self, at: str, harness: Harness) -> None:
        """Arguments that a step has mutated differ on the replay (rule D8)."""

        @step
        def collect(into: list[int]) -> int:
            into.append(1)
            return len(into)

        @task
        def mutating() -> int:
            found: list[int] = []
            return collect(found) + pay(len(found))

        harness.crash("pay", at=at)  # type: ignore[arg-type]  # one of those
        if at == "after_commit":
            with pytest.raises(ReplayDiffers, match="'pay'"):
                harness.run(mutating)
        else:
            assert harness.run(mutating).ok

    def test_other_warnings_pass_through(self, harness: Harness) -> None:
        """A warning of the body's own is pytest's business."""

        @task(attempts=1)
        def warning() -> None:
            import warnings  # noqa: PLC0415  # as a body might

            warnings.warn("look out", UserWarning, stacklevel=1)

        with pytest.warns(UserWarning, match="look out"):
            assert harness.run(warning).ok


class TestStuck:
    """Runs that cannot end."""

    def test_a_blocked_run(self, harness: Harness) -> None:
        """It is reported with the reason."""
        odd = iter([True, False])

        @task
        def fickle() -> int:
            return pay(1) if next(odd) else len(book("x"))

        harness.crash("pay", at="after_commit")
        run = harness.run(fickle)
        assert run.status is RunStatus.BLOCKED
        assert "operation 1" in str(run.error)
