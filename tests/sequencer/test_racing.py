"""`race` and `then_any`: who wins, and that it is recorded (rule G6)."""

from typing import Any

import pytest

from flowkit import AllFailed, Flow, RunStatus, sequencer, step, task
from flowkit.binding import Bound
from flowkit.entries import Kind
from flowkit.errors import ConfigurationError, WrongColour
from flowkit.racing import race, race_async
from flowkit_testing import Harness
from tests.rules.colours import Body, Colour
from tests.rules.conftest import at_once


class TestWinning:
    """Who wins."""

    def test_the_first_to_succeed_wins_not_the_first_to_end(self, colour: Colour, harness: Harness) -> None:
        """A failure is no win; the first success gives the value."""

        @colour.step(attempts=1)
        def fail(number: int) -> int:
            raise ValueError(number)

        @colour.step
        def double(number: int) -> int:
            return 2 * number

        run = harness.run(sequencer("race-win", input=int).race([fail, double, fail], max_concurrency=1), 4)

        assert run.output == 8
        assert run.calls("fail") == 1  # the third one is never begun

    def test_all_fail(self, colour: Colour, harness: Harness) -> None:
        """The errors of all are raised as one group, in the order of the blocks."""

        @colour.step(attempts=1)
        def fail(number: int) -> int:
            raise ValueError(number)

        @colour.step(attempts=1)
        def miss(number: int) -> int:
            raise KeyError(number)

        for chain in (
            sequencer("race-lose", input=int).race([fail, miss]),
            sequencer("race-none", input=int).then_any([fail, miss]),
        ):
            error = harness.run(chain, 4).error
            assert isinstance(error, AllFailed)
            assert isinstance(error, ExceptionGroup)
            assert [type(each) for each in error.exceptions] == [ValueError, KeyError]

    def test_a_connector_for_each(self, colour: Colour, harness: Harness) -> None:
        """Each block of a list may have a connector of its own."""

        @colour.step
        def double(number: int) -> int:
            return 2 * number

        blocks: list[Any] = [(lambda number: number + 1, double), double]
        assert harness.run(sequencer("race-connected", input=int).race(blocks, max_concurrency=1), 4).output == 10
        assert harness.run(sequencer("any-connected", input=int).then_any(blocks), 4).output == 10

    def test_a_failed_run_is_retried_as_a_whole(self, colour: Colour, harness: Harness) -> None:
        """X2: when all have failed, a retry of the run tries all of them again."""
        tries: list[str] = []

        @colour.step(attempts=1)
        def first(_number: int) -> int:
            tries.append("first")
            raise ValueError("first")

        @colour.step(attempts=1)
        def second(number: int) -> int:
            tries.append("second")
            if len(tries) < 4:
                raise ValueError("second")
            return number

        for method, chain in {
            "any": sequencer("any-again", input=int).then_any([first, second]),
            "race": sequencer("race-again", input=int).race([first, second], max_concurrency=1),
        }.items():
            tries.clear()
            run = harness.run(chain.options(run_id=method), 4)
            assert isinstance(run.error, AllFailed)
            assert harness.flow.retry(run.run_id).result() == 4
            assert tries == ["first", "second"] * 2


class TestRecorded:
    """A replay takes the same one."""

    @pytest.mark.parametrize("method", ["race", "then_any"])
    def test_another_would_win_now(self, method: str, colour: Colour, harness: Harness) -> None:
        """What was chosen stays chosen, even if something impure would choose otherwise after a crash."""
        times: list[int] = []

        def at_first_not(number: int) -> int:
            times.append(number)
            if len(times) == 1:
                raise ValueError(number)
            return -1

        @colour.step
        def double(number: int) -> int:
            return 2 * number

        @colour.step
        def after(number: int) -> int:
            return number

        impure = sequencer(f"impure-{colour.awaits}", input=int).map(at_first_not)
        begin = sequencer(f"recorded-{method}", input=int)
        if method == "race":
            chain = begin.race([impure, double], max_concurrency=1).then(after)
        else:
            chain = begin.then_any([impure, double]).then(after)
        harness.crash("after", at="before_effect")
        run = harness.run(chain, 4)

        assert run.output == 8
        assert len(times) == 2
        assert [entry.data for entry in run.journal if entry.kind == Kind.CHOICE] == [1]
        assert run.calls("double") == 1

    def test_a_winner_that_was_not_recorded_is_found_anew(self, colour: Colour, harness: Harness) -> None:
        """A crash between the success and its record leaves the choice open: nobody has seen it."""

        @colour.step
        def double(number: int) -> int:
            return 2 * number

        chain = sequencer("unrecorded", input=int).race([double, double], max_concurrency=1)
        harness.crash("double", at="after_commit")
        run = harness.run(chain, 4)

        assert run.output == 8
        assert run.skips("double") == 1


class TestWaiting:
    """Lines that wait for long."""

    def test_the_shorter_wait_wins(self, colour: Colour, harness: Harness) -> None:
        """E1: the run is let go of while both wait; the one that waits longer is cancelled, and survives crashes."""

        @colour.task(id=f"race-nap-{colour.awaits}")
        def nap(days: int) -> Body[int]:
            yield colour.sleep(days * 86_400)
            return days

        chain = sequencer(f"race-naps-{colour.awaits}", input=int).race([(lambda n: n + 2, nap), nap])

        run = harness.run(chain, 1)
        assert run.output == 1
        children = [each for each in harness.flow.runs(task=nap) if each.parent == run.run_id]
        assert sorted(str(child.status) for child in children) == ["cancelled", "succeeded"]
        found = harness.explore(chain, 1)
        found.assert_safe(min_coverage=1.0 if colour.awaits else 0.9)  # threads take turns as they like

    def test_a_cancelled_run_cancels_its_lines(self, colour: Colour, harness: Harness) -> None:
        """E2: the race of a run that is cancelled is won by nobody."""

        @colour.task(id=f"race-cancelled-{colour.awaits}")
        def nap(days: int) -> Body[int]:
            yield colour.sleep(days * 86_400)
            return days

        run = harness.start(sequencer(f"race-to-cancel-{colour.awaits}", input=int).race([nap, nap]), 5)
        harness.flow.cancel(run.run_id)
        harness.clock.advance("1s")

        assert run.status is RunStatus.CANCELLED
        assert {str(child.status) for child in harness.flow.runs(task=nap)} == {"cancelled"}


class TestByItself:
    """`race` outside of a sequencer."""

    def test_in_a_task(self, harness: Harness) -> None:
        """It is an operation like `gather`."""

        @step(retry=at_once(1))
        def fail(number: int) -> int:
            raise ValueError(number)

        @step
        def double(number: int) -> int:
            return 2 * number

        @task(id="race-itself")
        def body(number: int) -> int:
            return race(fail.bind(number), double.bind(number))

        @task(id="race-itself-async")
        async def body_async(number: int) -> int:
            return await race_async(fail.bind(number), double.bind(number))

        assert harness.run(body, 4).output == 8
        assert harness.run(body_async, 4).output == 8

    async def test_outside_of_a_run(self) -> None:
        """Its calls are tried in order."""

        def fail() -> int:
            raise ValueError("no")

        async def fail_async() -> int:
            raise ValueError("no")

        async def one() -> int:
            return 1

        bad: Bound[int]
        good: Bound[int]
        bad, good = Bound("bad", None, False, (), {}, fail, fail_async), Bound("good", None, False, (), {}, int, one)  # noqa: FBT003  # as x.bind makes them
        assert race(bad, good) == 0
        assert await race_async(bad, good) == 1
        with pytest.raises(AllFailed):
            race(bad)
        with pytest.raises(AllFailed):
            await race_async(bad)

    def test_mistakes(self, harness: Harness) -> None:
        """None to run, and the wrong colour, are told."""
        with pytest.raises(ConfigurationError, match="at least one call"):
            race()

        @step
        def double(number: int) -> int:
            return 2 * number

        @task(id="race-colour", attempts=1)
        async def body(number: int) -> int:
            return race(double.bind(number))

        assert isinstance(harness.run(body, 1).error, WrongColour)


def test_on_disk(tmp_path: object) -> None:
    """The same where it lasts."""

    @step
    def double(number: int) -> int:
        return 2 * number

    with Flow(f"disk:{tmp_path}") as flow:
        chain = sequencer("race-disk", input=int).race([double, double]).then_any([double])
        assert flow.run(chain.options(run_id="r"), 4) == 16
        assert flow.run(chain.options(run_id="r"), 4) == 16
