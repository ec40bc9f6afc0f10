"""What a test can make go wrong, and that it goes wrong just so."""

from __future__ import annotations

import pytest

from flowkit import NonRetryable, Retry, aio, sleep, step, task
from flowkit.errors import StepTimeout
from flowkit.records import RunStatus
from flowkit_testing import FaultNeverFired, Harness

HURRY = Retry(attempts=3, delay=0.1, jitter=0)


@step
def reserve(order: str) -> str:
    """First."""
    return f"reserved {order}"


@step(retry=HURRY, timeout=10)
async def charge(order: str, amount: int = 1) -> str:
    """Second."""
    return f"charged {order} {amount}"


@step(retry=HURRY, timeout=10)
def ship(order: str) -> str:
    """Third."""
    return f"shipped {order}"


@task
async def checkout(order: str) -> list[str]:
    """Three steps."""
    return [reserve(order), await charge(order), ship(order)]


@task
def checkout_plain(order: str) -> list[str]:
    """Sync steps."""
    return [reserve(order), ship(order)]


@task
async def charges(order: str) -> list[str]:
    """The same step several times."""
    return [await charge(order, 1), await charge.options(key="second")(order, 2), await charge(order, 3)]


@task
def naps(order: str) -> str:
    """Two days."""
    sleep("1d")
    reserve(order)
    sleep("1d")
    return reserve(order)


class TestFail:
    """`harness.fail`."""

    def test_as_often_as_told(self, harness: Harness) -> None:
        """Attempts fail that often, and then the body runs."""
        harness.fail("charge", error=TimeoutError("slow"), times=2)
        run = harness.run(checkout, "7")
        assert run.output == ["reserved 7", "charged 7 1", "shipped 7"]
        run.assert_calls((charge, 3), reserve=1, ship=1)

    def test_every_attempt(self, harness: Harness) -> None:
        """Without a number the step fails for good, and the run with it."""
        harness.fail(ship, error=OSError("no carrier"))
        run = harness.run(checkout, "7")
        assert run.status is RunStatus.FAILED
        assert isinstance(run.error, OSError)
        assert run.output is None
        assert run.calls(ship) == 3

    def test_with_a_class(self, harness: Harness) -> None:
        """An error class will do."""
        harness.fail("reserve", NonRetryable)
        assert isinstance(harness.run(checkout_plain, "7").error, NonRetryable)

    def test_one_call_of_several(self, harness: Harness) -> None:
        """A step's second call, by number, by key, or by its arguments."""
        harness.fail("charge#2", times=1)
        harness.fail("charge[second]", times=1)
        harness.fail(charge, times=1, when=lambda _order, amount: amount == 3)
        run = harness.run(charges, "7")
        assert run.calls("charge#1") == 1
        assert run.calls("charge#2") == 3
        assert run.calls("charge#3") == 2

    def test_by_function(self, harness: Harness) -> None:
        """An inline step is found by the function that it runs."""

        def write(text: str) -> str:
            return text

        @task
        def inline() -> str:
            return step.run("note", write, "a")

        harness.fail(write, times=1)
        run = harness.run(inline)
        assert run.output == "a"
        assert run.calls("note") == run.calls(write) == 2


class TestMock:
    """`harness.mock`."""

    def test_a_result_without_the_body(self, harness: Harness) -> None:
        """The step gives what the test says."""
        harness.mock("charge", "a present")
        harness.mock("ship", "by hand")
        assert harness.run(checkout, "7").output == ["reserved 7", "a present", "by hand"]

    def test_after_failures(self, harness: Harness) -> None:
        """Faults of one step follow one another."""
        harness.fail("ship", times=2)
        harness.mock("ship", "by hand")
        run = harness.run(checkout, "7")
        assert run.output is not None
        assert run.output[2] == "by hand"
        assert run.calls("ship") == 3


class TestTime:
    """`harness.timeout` and `harness.delay`."""

    @pytest.mark.parametrize("which", ["charge", "ship"])
    def test_timeout(self, which: str, harness: Harness) -> None:
        """An attempt takes as long as it may and is over."""
        harness.timeout(which, times=1)
        before_ms = harness.clock.now_ms()
        run = harness.run(checkout, "7")
        assert run.ok
        assert run.calls(which) == 2
        assert harness.clock.now_ms() - before_ms >= 10_000

    def test_timeouts_for_good(self, harness: Harness) -> None:
        """The error is the one that a real timeout raises."""
        harness.timeout("charge")
        assert isinstance(harness.run(checkout, "7").error, StepTimeout)

    @pytest.mark.parametrize("which", ["charge", "ship"])
    def test_delay(self, which: str, harness: Harness) -> None:
        """An attempt takes longer; too long is a timeout."""
        harness.delay(which, "9s", times=1)
        before_ms = harness.clock.now_ms()
        assert harness.run(checkout, "7").ok
        assert 9_000 <= harness.clock.now_ms() - before_ms < 10_000
        harness.delay(which, "11s")
        assert isinstance(harness.run(checkout, "8").error, StepTimeout)


class TestCrash:
    """`harness.crash`."""

    @pytest.mark.parametrize(
        ("at", "calls"), [("before_effect", 2), ("after_effect", 2), ("before_commit", 2), ("after_commit", 1)]
    )
    @pytest.mark.parametrize("which", ["charge", "ship"])
    def test_only_what_was_not_recorded_runs_again(self, at: str, calls: int, which: str, harness: Harness) -> None:
        """The run is resumed by another process and ends as if nothing had happened."""
        harness.crash(which, at=at)  # type: ignore[arg-type]  # one of those
        run = harness.run(checkout, "7")
        assert run.output == ["reserved 7", "charged 7 1", "shipped 7"]
        assert run.calls(which) == calls
        assert run.skips(which) == (1 if calls == 1 else 0)
        run.assert_skipped("reserve")

    def test_at_the_end(self, harness: Harness) -> None:
        """A process that dies just before or after the end of the run changes nothing."""
        harness.crash(checkout, at="before_commit")
        harness.crash(checkout, at="after_commit")
        run = harness.run(checkout, "7")
        assert run.ok
        run.assert_calls(reserve=1, charge=1, ship=1)

    def test_a_timer_keeps_its_time(self, harness: Harness) -> None:
        """A process that dies in a wait does not prolong it (rule E4)."""
        harness.crash("sleep", at="before_effect")
        before_ms = harness.clock.now_ms()
        run = harness.run(naps, "7")
        assert run.ok
        two_days_ms = 2 * 86_400_000
        assert two_days_ms <= harness.clock.now_ms() - before_ms < two_days_ms + 120_000

    def test_nothing_is_written_by_a_dying_process(self, harness: Harness) -> None:
        """Its `finally` blocks run, and what they call is not recorded."""
        ran: list[str] = []

        @task
        def dying(order: str) -> str:
            try:
                return ship(order)
            finally:
                ran.append("finally")
                reserve(order)

        harness.crash("ship")
        run = harness.run(dying, "7")
        assert ran == ["finally", "finally"]
        run.assert_calls(ship=2, reserve=1)
        assert [entry.name for entry in run.journal] == ["ship", "reserve"]

    @pytest.mark.filterwarnings("ignore:the task of run:flowkit_testing.SwallowedWarning")
    def test_a_bare_except_does_not_save_it(self, harness: Harness) -> None:
        """A body that swallows everything goes on, and still records nothing."""

        @task
        def stubborn(order: str) -> str:
            for _ in range(3):
                try:
                    return ship(order)
                except BaseException:  # noqa: BLE001, S112  # what should not be written
                    continue
            return "gave up"

        harness.crash("ship", at="before_effect")
        run = harness.run(stubborn, "7")
        assert run.output == "shipped 7"

    def test_an_unknown_point(self, harness: Harness) -> None:
        """A wrong `at` is refused."""
        with pytest.raises(ValueError, match="before_effect"):
            harness.crash("ship", at="sometime")  # type: ignore[arg-type]  # wrong on purpose


class TestLoseLease:
    """`harness.lose_lease`."""

    @pytest.mark.parametrize("at", ["before_effect", "after_effect", "before_commit", "after_commit"])
    def test_the_zombie_records_nothing(self, at: str, harness: Harness) -> None:
        """Another process takes over; what the first one goes on to do is fenced (rule D4)."""
        harness.lose_lease("charge", at=at)  # type: ignore[arg-type]  # one of those
        run = harness.run(checkout, "7")
        assert run.output == ["reserved 7", "charged 7 1", "shipped 7"]
        names = [entry.name for entry in run.journal]
        assert names == ["reserve", "charge", "ship"]
        assert run.calls("reserve") == 1
        assert run.calls("charge") == (1 if at == "after_commit" else 2)

    def test_at_the_end(self, harness: Harness) -> None:
        """A zombie does not finish the run."""
        harness.lose_lease(checkout_plain, at="before_commit")
        run = harness.run(checkout_plain, "7")
        assert run.ok
        run.assert_calls(reserve=1, ship=1)
        run.assert_skipped("reserve", "ship")


class TestStorageFault:
    """`harness.storage_fault`."""

    @pytest.mark.parametrize("outcome", ["not_applied", "applied_ack_lost"])
    @pytest.mark.parametrize("nth", [1, 2, 3])
    def test_a_commit_is_sent_again(self, nth: int, outcome: str, harness: Harness) -> None:
        """A commit that was not answered is sent again, and applied once (rule D7)."""
        harness.storage_fault("commit", nth=nth, outcome=outcome)  # type: ignore[arg-type]  # one of those
        run = harness.run(checkout, "7")
        assert run.ok
        run.assert_calls(reserve=1, charge=1, ship=1)
        assert len(run.journal) == 3

    @pytest.mark.parametrize("outcome", ["not_applied", "applied_ack_lost"])
    def test_a_submit_is_sent_again(self, outcome: str, harness: Harness) -> None:
        """So is a run that is being created."""
        harness.storage_fault("submit", outcome=outcome)  # type: ignore[arg-type]  # one of those
        assert harness.run(checkout, "7").ok

    def test_an_unknown_operation(self, harness: Harness) -> None:
        """A misspelt operation is refused."""
        with pytest.raises(ValueError, match="commit"):
            harness.storage_fault("comit")

    def test_an_unknown_outcome(self, harness: Harness) -> None:
        """So is a misspelt outcome, which would happen as another one, and a call that is none."""
        with pytest.raises(ValueError, match="not_applied, applied_ack_lost"):
            harness.storage_fault("commit", outcome="ack_lost")  # type: ignore[arg-type]  # wrong on purpose
        with pytest.raises(ValueError, match="counted from 1"):
            harness.storage_fault("commit", nth=0)


class TestNeverFired:
    """A fault that never happens fails the test."""

    def test_it_is_named(self, harness: Harness) -> None:
        """The message names the fault and the steps that ran."""
        harness.fail("chrage", times=1)
        harness.run(checkout, "7")
        with pytest.raises(FaultNeverFired, match=r"fail\('chrage'\).*Steps that ran: reserve, charge, ship"):
            harness.check()
        harness.fail("reserve", times=1)
        harness.mock("chrage", 1)
        _forget_faults(harness)

    def test_all_kinds(self, harness: Harness) -> None:
        """Crashes, lost leases and storage faults too."""
        harness.crash("nothing")
        harness.lose_lease("nothing")
        harness.storage_fault("commit", nth=99)
        harness.run(checkout, "7")
        with pytest.raises(FaultNeverFired, match=r"crash\('nothing', at='after_effect'\); lose_lease\(.*of 4 calls"):
            harness.check()
        _forget_faults(harness)


def _forget_faults(harness: Harness) -> None:
    """So that the end of this test does not fail for what it has shown."""
    faults = harness._faults  # noqa: SLF001  # there is no public way, on purpose
    faults.steps.clear()
    faults.strikes.clear()
    faults.storage.clear()


async def test_in_an_async_test(harness: Harness) -> None:
    """A run may be started from a running event loop, awaited or not."""
    harness.crash("charge")
    run = await harness.aio.run(checkout, "7")
    assert run.ok
    assert harness.run(checkout, "8").ok
    (await harness.aio.explore(checkout, "9", faults=("lost_ack",))).assert_safe()


def test_steps_by_their_number(harness: Harness) -> None:
    """`aio.sleep` and other operations are addressed as steps are."""

    @task
    async def twice() -> None:
        await aio.sleep("1d")
        await aio.sleep("1d")

    harness.crash("sleep#2", at="after_commit")
    assert harness.run(twice).ok


def test_an_error_that_is_raised_twice_is_two_errors(harness: Harness) -> None:
    """Two attempts that fail alike end in one group, each with the note that names it."""

    @step
    def book(number: int) -> int:
        return number

    @book.compensate
    def unbook(number: int) -> None:
        """The undo."""

    @step(attempts=1)
    def broken() -> None:
        raise ValueError

    @task
    def trip() -> None:
        book(1)
        book(2)
        broken()

    harness.fail("undo of book", OSError("closed"))
    run = harness.run(trip)

    assert isinstance(run.error, ExceptionGroup)
    notes = [error.__notes__ for error in run.error.exceptions[1:]]
    assert len(notes) == 2
    assert notes[0] != notes[1]
