"""Exploring with the world in view, with failing steps, cancellations and orders, within a budget."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from flowkit import NonRetryable, StepInterrupted, aio, current_run, step, task, wait_for_event
from flowkit.storage import open_storage
from flowkit_testing import Harness
from flowkit_testing.checks import Check
from flowkit_testing.corpus.sagas import book
from flowkit_testing.corpus.steps import add, add_later
from flowkit_testing.regressions import Regressions

ledger: dict[str, int] = {}


@step
def pay_carelessly(amount: int) -> int:
    """Pays once more whenever it runs again."""
    ledger[f"payment {len(ledger)}"] = amount
    return amount


@step
def pay_carefully(amount: int) -> int:
    """Pays under its idempotency key."""
    ledger[current_run().idempotency_key] = amount
    return amount


@task
def careless(amount: int) -> int:
    """Would pay twice."""
    return add(pay_carelessly(amount), 1)


@task
def careful(amount: int) -> int:
    """Pays once, whatever happens; its `finally` is not run by a process that is killed."""
    try:
        return add(pay_carefully(amount), 1)
    finally:
        ledger.setdefault("settled", 0)


@task
def trip(number: int) -> str:
    """Two steps with undos, and one without."""
    first = book("flight")
    add(number, 1)
    return first + book("hotel")


@task
async def side_by_side(number: int) -> list[int]:
    """Three steps, completed in whatever order."""
    return list(await asyncio.gather(add_later(number, 1), add_later(number, 2), add_later(number, 3)))


@task
async def first_of_two(number: int) -> list[int]:
    """A result that depends on which is done first."""
    return [
        await each for each in asyncio.as_completed([asyncio.ensure_future(add_later(number, i)) for i in range(2)])
    ]


@task
def told() -> object:
    """Waits for news."""
    return wait_for_event("news", timeout="1h")


@task
async def patient() -> int:
    """Waits a day between two steps."""
    await add_later(1, 1)
    await aio.sleep("1d")
    return await add_later(1, 2)


class TestWorld:
    """What steps change outside of flowkit."""

    def test_a_careless_step_is_found(self, harness: Harness) -> None:
        """It runs again after a crash between its effect and its commit, and the world shows it."""
        found = harness.explore(careless, 5, world=lambda: dict(ledger), reset=ledger.clear)
        assert found.smallest is not None
        assert found.smallest.checks == (Check.WORLD,)
        assert len(found.smallest.schedule) == 1
        assert found.smallest.schedule in [tried.schedule for tried in found.tried if tried.verdict == "failed"]
        assert "the world is not what it is without the fault" in str(found.smallest)

    def test_a_careful_step_is_not(self, harness: Harness) -> None:
        """Nor does the `finally` of a process that was killed count."""
        found = harness.explore(careful, 5, world=lambda: dict(ledger), reset=ledger.clear)
        found.assert_safe()
        assert found.resumes == found.states

    def test_a_world_that_shows_nothing_is_refused(self, harness: Harness) -> None:
        """Comparing it would prove nothing."""
        with pytest.raises(AssertionError, match="it does not see what the steps change"):
            harness.explore(careful, 5, world=lambda: 0, reset=lambda: None)

    def test_it_needs_both(self, harness: Harness) -> None:
        """A world that cannot be brought back cannot be looked at twice."""
        with pytest.raises(ValueError, match="each needs the other"):
            harness.explore(careful, 5, world=lambda: 0)


@step(at_most_once=True)
def wire(amount: int) -> str:
    """Must not happen twice."""
    return f"wired {amount}"


@task
def wired(amount: int) -> str:
    """Looks after a transfer that was interrupted."""
    try:
        return wire(amount)
    except StepInterrupted:
        return f"{add(amount, 0)}: StepInterrupted"


@task
def quotes(amount: int) -> str:
    """A result that is not what its words say."""
    seen.append(amount)
    return f"StepInterrupted {len(seen)}"


seen: list[int] = []


class TestAtMostOnce:
    """D3: a step that may run at most once declares that it may be interrupted."""

    def test_a_body_may_deal_with_it(self, harness: Harness) -> None:
        """What it makes of the interruption is no other outcome than the declared one."""
        harness.explore(wired, 5).assert_safe()

    def test_words_declare_nothing(self, harness: Harness) -> None:
        """A result that happens to quote the error is compared like any other."""
        assert not harness.explore(quotes, 5).safe


class TestScenarios:
    """Steps that fail, runs that are told to stop, events."""

    def test_failing_steps_and_undos(self, harness: Harness) -> None:
        """Each is explored by itself, with all that follows from it."""
        plain = harness.explore(trip, 1)
        found = harness.explore(trip, 1, failing=("add", "book#2"))
        found.assert_safe()
        assert found.points > 2 * plain.points
        assert {tried.schedule[0].fault for tried in found.tried} >= {"fail"}

    def test_what_is_never_called_is_refused(self, harness: Harness) -> None:
        """A failure that cannot happen proves nothing."""
        with pytest.raises(AssertionError, match=r"never came to what was to fail: fail\('nosuch'\)"):
            harness.explore(trip, 1, failing=("nosuch",))

    def test_cancellation_at_every_point(self, harness: Harness) -> None:
        """Wherever it comes, the run ends, and what was completed is undone."""
        found = harness.explore(trip, 1, faults=("cancel",))
        found.assert_safe()
        assert {tried.schedule[-1].fault for tried in found.tried} == {"cancel"}

    def test_events(self, harness: Harness) -> None:
        """A run that waits for an event is sent one, once, whatever happens."""
        harness.explore(told, events=[("news", "good")]).assert_safe()

    @pytest.mark.parametrize("faults", [(), ("crush",)])
    def test_unknown_faults(self, faults: tuple[str, ...], harness: Harness) -> None:
        """Nothing to try, or what there is not, is refused."""
        with pytest.raises(ValueError, match="write one or more of crash"):
            harness.explore(trip, 1, faults=faults)  # type: ignore[arg-type]  # wrong on purpose


@step
async def download(number: int) -> int:
    """Takes an hour."""
    await asyncio.sleep(3600)
    return number


@task
async def downloads(number: int) -> int:
    """A step that takes longer than any lease."""
    return await download(number) + await add_later(number, 1)


@task
def gives_up(number: int) -> int:
    """Fails by itself."""
    raise NonRetryable(f"not {add(number, 1)}")


def test_a_run_that_fails_by_itself_is_noted(harness: Harness) -> None:
    """It fails in the same way after each crash, which proves little if it was not meant to fail."""
    found = harness.explore(gives_up, 1)
    found.assert_safe()
    assert "without any fault the run ends as failed: NonRetryable('not 2')" in repr(found)


class TestTime:
    """How long a run may take."""

    def test_a_step_under_way_takes_its_time_again(self, harness: Harness) -> None:
        """D3: a crash in a step of an hour costs another hour; that is no timer which starts over."""
        harness.explore(downloads, 1).assert_safe()


class TestOrders:
    """Orders of completion."""

    def test_other_orders_are_tried(self, harness: Harness) -> None:
        """Three steps side by side have three times three orders of one or two latecomers."""
        found = harness.explore(side_by_side, 1)
        found.assert_safe()
        assert found.orders == 9
        assert "9 of 9 orders of completion tried" in repr(found)

    def test_each_order_replays_to_itself(self, harness: Harness) -> None:
        """A run whose result depends on the order comes to the same after every crash (rule I4)."""
        harness.explore(first_of_two, 1).assert_safe()


class TestBudget:
    """How much it may take."""

    def test_what_is_left_is_said(self, harness: Harness) -> None:
        """And counts as uncovered."""
        found = harness.explore(trip, 1, budget=5)
        assert found.runs == 5
        with pytest.raises(AssertionError, match=r"\d+ of \d+ planned faults happened"):
            found.assert_safe()
        found.assert_safe(min_coverage=0)
        assert "faults were not tried: the budget of 5 runs was spent" in repr(found)

    def test_time_is_a_budget_too(self, harness: Harness) -> None:
        """A long one is not spent by a short workflow."""
        harness.explore(trip, 1, budget="5m").assert_safe()

    @pytest.mark.parametrize("budget", [0, "0s"])
    def test_nothing_is_no_budget(self, budget: int | str, harness: Harness) -> None:
        """It would prove nothing."""
        with pytest.raises(ValueError, match="allows nothing"):
            harness.explore(trip, 1, budget=budget)


class TestKept:
    """The folder of what has broken something."""

    def test_it_is_tried_first(self, harness: Harness, tmp_path: Path) -> None:
        """A schedule that broke a test is kept, and found at once the next time."""
        kept = Regressions(tmp_path / "kept", "test_it[one/two]")
        again = Harness(open_storage("memory:"), regressions=kept)
        with pytest.raises(AssertionError):
            again.explore(careless, 5, world=lambda: dict(ledger), reset=ledger.clear).assert_safe()
        [schedule] = kept.schedules()
        assert kept.path.name == "test_it-one-two-.txt"
        second = again.explore(careless, 5, world=lambda: dict(ledger), reset=ledger.clear)
        assert [violation.schedule for violation in second.violations] == [schedule]
        assert second.runs == 2
        again.explore(careful, 5, world=lambda: dict(ledger), reset=ledger.clear).assert_safe()
        del harness

    def test_damaged_lines_are_passed_over(self, tmp_path: Path) -> None:
        """A folder edited by hand breaks nothing."""
        kept = Regressions(tmp_path, "test_it")
        kept.path.write_text("nonsense\n\nfk1-damaged\n")
        assert kept.schedules() == ()


class TestOnDisk:
    """Exploring another storage."""

    def test_the_trials_share_it(self, tmp_path: Path) -> None:
        """Each has a part of its own; the verdicts are those in memory."""
        storage = open_storage(f"disk:{tmp_path / 'flowkit'}?durability=process")
        on_disk, in_memory = Harness(storage), Harness(open_storage("memory:"))
        try:
            for workflow, args in ((trip, (1,)), (patient, ())):
                found, wanted = on_disk.explore(workflow, *args), in_memory.explore(workflow, *args)
                found.assert_safe()
                assert [(t.schedule, t.verdict) for t in found.tried] == [(t.schedule, t.verdict) for t in wanted.tried]
                assert (found.states, found.resumes) == (wanted.states, wanted.resumes)
        finally:
            on_disk.close()
            storage.close()
