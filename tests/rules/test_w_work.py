"""Side work: it starts at once, aborts nothing, and is waited for (rules W1 to W4)."""

from __future__ import annotations

import pytest

from flowkit import NonRetryable, WorkOutcome, sleep, step, task, wait_for_work, work
from flowkit.records import RunStatus
from flowkit_testing import Harness


@step
def add(left: int, right: int) -> int:
    """A step of the task."""
    return left + right


@step(attempts=1)
def note(text: str) -> str:
    """Side work."""
    return text


@task(id="w-one")
def one_piece(number: int) -> int:
    """A piece of work, a step, a convergence, a step."""
    work(note, "begun")
    number = add(number, 1)
    wait_for_work()
    return add(number, 10)


@task(id="w-must")
def must(number: int) -> int:
    """Work of which all has to succeed."""
    work(note, "first")
    work(note, "second")
    wait_for_work(fail_on_error=True)
    return number


@task(id="w-never-waits")
def never_waits(number: int) -> int:
    """Nobody waits for its work."""
    work(note, "left alone")
    return number


@task(id="w-fails")
def fails(number: int) -> int:
    """Fails while its work is queued."""
    work(note, "left alone")
    raise NonRetryable(str(number))


@task(id="w-inner")
def inner(number: int) -> int:
    """A child with work of its own."""
    work(note, "the child's")
    return number


@task(id="w-outer")
def outer(number: int) -> list[int]:
    """Counts what its own waits are told of."""
    counts = [len(wait_for_work())]
    work(note, "mine")
    inner(number)
    counts.append(len(wait_for_work()))
    counts.append(len(wait_for_work()))
    return counts


class TestW1:
    """Work is durable."""

    @pytest.mark.parametrize(
        ("at", "calls"), [("before_effect", 2), ("after_effect", 2), ("before_commit", 2), ("after_commit", 1)]
    )
    def test_finished_work_is_not_repeated(self, at: str, calls: int, harness: Harness) -> None:
        """W1: what was recorded is answered by the journal, what was not runs again."""
        harness.crash("note", at=at)  # type: ignore[arg-type]  # one of those
        run = harness.run(one_piece, 1)

        assert run.output == 12
        assert run.calls("note") == calls

    def test_it_is_not_repeated_when_the_task_crashes(self, harness: Harness) -> None:
        """W1: a crash of the task after the convergence repeats none of it."""
        harness.crash("add#2", at="before_effect")
        run = harness.run(one_piece, 1)

        run.assert_calls(("note", 1), ("add#1", 1), ("add#2", 2))


class TestW2:
    """Work that fails."""

    def test_it_aborts_nothing_and_becomes_an_item(self, harness: Harness) -> None:
        """W2: one `step_error` item with the work's name and error, and the task succeeds."""
        harness.fail("note", error=ConnectionError("no paper"))
        run = harness.run(one_piece, 1)

        assert run.output == 12
        (item,) = [item for item in harness.flow.handle(run.run_id).items() if item.type == "step_error"]
        assert item.name == "note"
        assert "no paper" in repr(item.data)

    def test_the_first_queued_that_failed_is_raised(self, harness: Harness) -> None:
        """W2: all of it is waited for, then the error of the first in the order of queueing is raised."""
        harness.fail("note", error=ConnectionError("first"), when=lambda text: text == "first")
        harness.fail("note", error=OSError("second"), when=lambda text: text == "second")
        run = harness.run(must, 1)

        assert isinstance(run.error, ConnectionError)
        assert run.calls("note") >= 2


class TestW3:
    """Whose work is waited for."""

    def test_only_that_of_its_own_scope(self, harness: Harness) -> None:
        """W3: none queued, then its own, told again when asked again; a child's work is not its parent's."""
        assert harness.run(outer, 1).output == [0, 1, 1]

    def test_outcomes_are_told_in_the_order_of_queueing(self, harness: Harness) -> None:
        """W3: each by its name, with what it returned."""

        @task(id="w-outcomes")
        def outcomes() -> list[str]:
            work(note, "a")
            work(note, "b")
            found: list[WorkOutcome] = wait_for_work()
            return [str(outcome.value) for outcome in found]

        assert harness.run(outcomes).output == ["a", "b"]


class TestW4:
    """A run and its work end together."""

    def test_a_run_is_not_finished_before_its_work(self, harness: Harness) -> None:
        """W4: work that nobody waits for has been done when the run has ended."""
        run = harness.run(never_waits, 1)

        assert run.output == 1
        assert [entry.name for entry in run.journal if entry.phase == "done"].count("note") == 1

    def test_a_run_does_not_fail_before_its_work_has_settled(self, harness: Harness) -> None:
        """W4: nor when the task fails."""
        run = harness.run(fails, 1)

        assert isinstance(run.error, NonRetryable)
        assert run.calls("note") == 1

    def test_a_run_is_not_cancelled_before_its_work_has_settled(self, harness: Harness) -> None:
        """W4: nor when it is cancelled."""

        @task(id="w-cancelled")
        def cancelled() -> None:
            work(note, "done by then")
            sleep("30d")

        run = harness.start(cancelled)
        harness.flow.cancel(run.run_id)
        harness.clock.advance("1s")

        assert run.status is RunStatus.CANCELLED
        assert run.calls("note") == 1
