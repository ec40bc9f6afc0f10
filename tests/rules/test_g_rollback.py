"""Rollbacks: what is undone, in which order, once, whatever happens in between (rules G1 to G6)."""

from __future__ import annotations

import asyncio

import pytest

from flowkit import CompensationFailed, NonRetryable, on_rollback, saga, sleep, step, task
from flowkit.entries import Kind, Phase
from flowkit.errors import RunRolledBack
from flowkit.records import RunStatus
from flowkit_testing import Harness


@step
def reserve(order: str) -> str:
    """First."""
    return f"reserved {order}"


@reserve.compensate
def release(reservation: str) -> None:
    """Undoes it."""
    assert reservation.startswith("reserved")


@step
def charge(order: str) -> str:
    """Second."""
    return f"charged {order}"


@charge.compensate
def refund(payment: str, order: str) -> None:
    """Undoes it; takes the step's argument too."""
    assert payment == f"charged {order}"


@step(attempts=1)
def ship(order: str) -> str:
    """Third; tests make it fail."""
    return f"shipped {order}"


@task(id="g-checkout")
def checkout(order: str) -> str:
    """Two steps with undos, and one without."""
    reserve(order)
    charge(order)
    return ship(order)


@task(id="g-by-hand")
def by_hand(order: str) -> str:
    """Compensation in an `except` block."""
    reserved = step.run("book", "booked {}".format, order)
    try:
        return ship(order)
    except OSError:
        step.run("unbook", "un{}".format, reserved)
        raise


@step(attempts=1)
async def slow_charge(order: str) -> str:
    """Still in flight when the other one fails."""
    await asyncio.sleep(1)
    return f"charged {order}"


@slow_charge.compensate
async def slow_refund(payment: str) -> None:
    """Undoes it."""
    await asyncio.sleep(0)
    assert payment


@step(attempts=1)
async def fail_soon(order: str) -> str:
    """Fails."""
    await asyncio.sleep(0)
    raise NonRetryable(order)


@task(id="g-in-flight")
async def in_flight(order: str) -> None:
    """A step fails while another one is at work."""
    await asyncio.gather(slow_charge(order), fail_soon(order))


@task(id="g-child")
def child(order: str) -> str:
    """A child whose task has an undo."""
    return f"child of {order}"


@child.compensate
def undo_child(result: str) -> None:
    """Undoes the whole child."""
    assert result.startswith("child of")


@task(id="g-parent")
def parent(order: str) -> str:
    """A child that completed, and a failure after it."""
    child(order)
    return ship(order)


@task(id="g-waits")
def waits(order: str) -> str:
    """Something to cancel in."""
    reserve(order)
    charge(order)
    sleep("30d")
    return ship(order)


class TestG1:
    """Undos of completed steps run, newest first, each once."""

    def test_newest_first(self, harness: Harness) -> None:
        """G1: the undos of the completed steps run in reverse order, and the error reaches the caller."""
        harness.fail("ship", error=OSError("no carrier"))
        run = harness.run(checkout, "7")

        assert isinstance(run.error, OSError)
        run.assert_compensated(["charge", "reserve"])
        run.assert_calls(release=1, refund=1)

    def test_nothing_is_undone_without_a_failure(self, harness: Harness) -> None:
        """G1: a task that succeeds keeps what it did."""
        assert harness.run(checkout, "7").compensated == []

    def test_an_undo_has_retries_of_its_own(self, harness: Harness) -> None:
        """G1: an undo is a step: it is tried again, and has then succeeded once."""
        harness.fail("ship", error=OSError("no carrier"))
        harness.fail("refund", error=ConnectionError("busy"), times=2)
        run = harness.run(checkout, "7")

        run.assert_calls(refund=3, release=1)
        run.assert_compensated(["charge", "reserve"])

    def test_work_in_flight_settles_first(self, harness: Harness) -> None:
        """G1, G6: a step that completes after another one has failed is recorded, and undone."""
        run = harness.run(in_flight, "7")

        assert isinstance(run.error, NonRetryable)
        run.assert_compensated(["slow_charge"])

    def test_a_completed_child_is_undone(self, harness: Harness) -> None:
        """G1: by the undo that its task declares."""
        harness.fail("ship", error=OSError("no carrier"))
        run = harness.run(parent, "7")

        run.assert_compensated(["g-child"])
        run.assert_calls(undo_child=1)

    def test_a_cancelled_run_is_undone(self, harness: Harness) -> None:
        """G1, E2: a cancellation leaves the task as an error does."""
        run = harness.start(waits, "7")
        harness.flow.cancel(run.run_id)
        harness.clock.advance("1s")

        assert run.status is RunStatus.CANCELLED
        run.assert_compensated(["charge", "reserve"])
        assert run.calls("ship") == 0

    @pytest.mark.parametrize("fails", [False, True])
    def test_a_scope_that_succeeds_hands_its_undos_outwards(self, fails: bool, harness: Harness) -> None:  # noqa: FBT001  # a case
        """G1: they run if the scope around it fails, and stay if it does not."""

        @task(id="g-nested")
        def nested(order: str) -> str:
            with saga("outer"):
                with saga("inner"):
                    reserve(order)
                charge(order)
                return ship(order)

        if fails:
            harness.fail("ship", error=OSError("no carrier"))
        run = harness.run(nested, "7")

        run.assert_compensated(["charge", "reserve"] if fails else [])

    def test_a_body_that_fails_before_what_is_recorded(self, harness: Harness) -> None:
        """G1, I3: what it did not call again could not be undone, so the run is blocked, and goes on once mended."""
        broken = [False]

        @task(id="g-early", attempts=2)
        def early(order: str) -> str:
            reserve(order)
            if broken[0]:
                raise ValueError("a setting is missing")
            charge(order)
            sleep("1h")
            return ship(order)

        run = harness.start(early, "7")
        broken[0] = True
        harness.clock.advance("2h")

        assert run.status is RunStatus.BLOCKED
        assert "a setting is missing" in str(run.error)
        assert run.compensated == []

        broken[0] = False
        harness.flow.retry(run.run_id)
        harness.clock.advance("1s")

        assert run.output == "shipped 7"
        run.assert_calls(reserve=1, charge=1)


class TestG2:
    """Undos that fail."""

    def test_the_others_run_all_the_same(self, harness: Harness) -> None:
        """G2: the run ends with the cause and what is left; a retry undoes only that, and raises the cause."""
        harness.fail("ship", error=OSError("no carrier"))
        harness.fail("refund", error=NonRetryable("bank is closed"), times=1)
        run = harness.run(checkout, "7")

        assert run.status is RunStatus.FAILED
        assert isinstance(run.error, CompensationFailed)
        assert isinstance(run.error.exceptions[0], OSError)
        run.assert_compensated(["reserve"])

        harness.flow.retry(run.run_id)
        harness.clock.advance("1s")

        assert isinstance(run.error, OSError)
        run.assert_compensated(["reserve", "charge"])
        run.assert_calls(release=1, refund=2, ship=1)


class TestG3:
    """Rollbacks that are interrupted."""

    def test_recorded_before_it_begins(self, harness: Harness) -> None:
        """G3: cause and list are in the journal before the first undo is."""
        harness.fail("ship", error=OSError("no carrier"))
        run = harness.run(checkout, "7")

        kinds = [entry.phase if entry.kind != Kind.UNDO else "undo" for entry in run.journal]
        assert kinds.index(Phase.ROLLBACK) < kinds.index("undo")
        assert "undo" in kinds

    @pytest.mark.parametrize("undo", ["refund", "release"])
    @pytest.mark.parametrize("at", ["before_effect", "after_effect", "before_commit", "after_commit"])
    def test_it_goes_on_where_it_stopped(self, undo: str, at: str, harness: Harness) -> None:
        """G3: after a crash in any undo no step runs forward, and each undo succeeds once."""
        harness.fail("ship", error=OSError("no carrier"))
        harness.crash(undo, at=at)  # type: ignore[arg-type]  # one of those
        run = harness.run(checkout, "7")

        assert isinstance(run.error, OSError)
        run.assert_compensated(["charge", "reserve"])
        run.assert_calls(reserve=1, charge=1, ship=1)
        again = 1 if at == "after_commit" else 2
        assert run.calls(undo) == again

    def test_an_undo_that_cannot_be_built_again_blocks(self, harness: Harness) -> None:
        """G3: a body that no longer registers an undo which is on the list is not undone in part."""
        registers = [True]

        @task(id="g-forgets", attempts=1)
        def forgets(order: str) -> None:
            if registers[0]:
                on_rollback(release, f"reserved {order}")
            charge(order)
            ship(order)

        harness.fail("ship", error=OSError("no carrier"))
        harness.crash("refund", at="before_effect")
        registers_until = harness.start(forgets, "7")
        registers[0] = False
        harness.clock.advance("10m")

        assert registers_until.status is RunStatus.BLOCKED


class TestG4:
    """Compensation by hand."""

    def test_steps_in_the_handler_are_durable(self, harness: Harness) -> None:
        """G4: the run ends with the original error, is not started over, and the handler's step runs once."""
        harness.fail("ship", error=OSError("no carrier"))
        harness.crash("unbook", at="after_commit")
        run = harness.run(by_hand, "7")

        assert run.status is RunStatus.FAILED
        assert isinstance(run.error, OSError)
        run.assert_calls(book=1, unbook=1, ship=1)


class TestG5:
    """After a rollback."""

    def test_no_retry(self, harness: Harness) -> None:
        """G5: what was undone cannot go on."""
        harness.fail("ship", error=OSError("no carrier"))
        run = harness.run(checkout, "7")

        with pytest.raises(RunRolledBack):
            harness.flow.retry(run.run_id)
        assert run.status is RunStatus.FAILED

    def test_a_fork_starts_afresh(self, harness: Harness) -> None:
        """G5: a fork has the arguments, and none of the results that were undone."""
        harness.fail("ship", error=OSError("no carrier"), times=1)
        run = harness.run(checkout, "7")

        forked = harness.flow.fork(run.run_id)
        harness.clock.advance("1s")
        second = harness.report(forked.id)

        assert second.output == "shipped 7"
        second.assert_calls(reserve=1, charge=1, ship=1)
        assert second.skips("reserve") == 0

    def test_a_fork_from_a_step_reuses_nothing_that_was_undone(self, harness: Harness) -> None:
        """G5: it is refused, by name, and the step to fork from is told."""
        harness.fail("ship", error=OSError("no carrier"), times=1)
        run = harness.run(checkout, "7")

        with pytest.raises(RunRolledBack, match=r"has undone reserve, charge.*from_step='reserve'"):
            harness.flow.fork(run.run_id, from_step="ship")
        forked = harness.flow.fork(run.run_id, from_step="reserve")
        harness.clock.advance("1s")
        harness.report(forked.id).assert_calls(reserve=1, charge=1, ship=1)

    def test_a_fork_may_reuse_a_rollback_that_is_over(self, harness: Harness) -> None:
        """G5: a scope that failed, was undone and was handled before the step is history, and stays it."""

        @task(id="g-handled")
        def handled(order: str) -> str:
            try:
                with saga("trip"):
                    reserve(order)
                    ship(order)
            except OSError:
                charge(order)
            return ship(order)

        harness.fail("ship#1", error=OSError("no carrier"))
        run = harness.run(handled, "7")
        assert run.output == "shipped 7"

        forked = harness.flow.fork(run.run_id, from_step="charge")
        harness.clock.advance("1s")
        second = harness.report(forked.id)
        assert second.output == "shipped 7"
        second.assert_calls(reserve=0, release=0, charge=1)


class TestG6:
    """Late completions."""

    def test_a_loser_that_had_an_effect_is_undone(self, harness: Harness) -> None:
        """G6: a step that ends after its timeout or its race was lost, with an effect, is undone with the rest."""

        @task(id="g-loser", attempts=1)
        async def loser(order: str) -> None:
            late = asyncio.ensure_future(slow_charge(order))
            await asyncio.sleep(0)
            try:
                await fail_soon(order)
            finally:
                assert not late.done()

        run = harness.run(loser, "7")

        assert isinstance(run.error, NonRetryable)
        run.assert_compensated(["slow_charge"])
