"""What becomes of those that have lost a race: they settle, are recorded, and are undone (rule G6)."""

import asyncio
import threading

from flowkit import CompensationFailed, RunStatus, sequencer, step, task
from flowkit.binding import Bound
from flowkit.racing import race
from flowkit_testing import Harness
from tests.rules.colours import Colour
from tests.rules.conftest import PATIENCE_S


class Late:
    """A sync step that completes when the race has been decided, by the step after it; and what it took back."""

    def __init__(self, colour: Colour) -> None:
        decided = threading.Event()
        self.undone: list[int] = []

        @step
        def slow(number: int) -> int:
            assert decided.wait(PATIENCE_S)
            return number

        @slow.compensate
        def unslow(number: int) -> None:
            self.undone.append(number)

        @colour.step
        def fast(number: int) -> int:
            return 2 * number

        @colour.step
        def after(number: int) -> int:
            decided.set()
            return number + 1

        self.slow, self.fast, self.after = slow, fast, after


class Reserving:
    """A step with an undo, and one that fails."""

    def __init__(self, colour: Colour) -> None:
        @colour.step
        def reserve(number: int) -> int:
            return number

        @reserve.compensate
        def release(_number: int) -> None: ...

        @colour.step(attempts=1)
        def fail(number: int) -> int:
            raise ValueError(number)

        self.reserve, self.release, self.fail = reserve, release, fail


class TestLosing:
    """What becomes of those that have lost."""

    def test_a_late_completion_is_recorded_and_undone(self, colour: Colour, harness: Harness) -> None:
        """G6: a thread cannot be cancelled; what it completes after the race is recorded, and its undo runs."""
        late = Late(colour)

        run = harness.run(
            sequencer(f"late-{colour.awaits}", input=int).race([late.slow, late.fast]).then(late.after), 4
        )

        assert run.output == 9
        assert late.undone == [4]
        assert run.compensated == ["slow"]
        assert run.status is RunStatus.SUCCEEDED

    def test_an_async_step_is_cancelled(self, harness: Harness) -> None:
        """An async step under way is cancelled: the run does not wait for what nobody wants any more."""
        cancelled: list[int] = []

        @step
        async def never(number: int) -> int:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(number)
                raise
            return number

        @step
        async def fast(number: int) -> int:
            await asyncio.sleep(0)
            return 2 * number

        inner = sequencer("never-inner", input=int).race([never, never])
        run = harness.run(sequencer("cancelled", input=int).race([never, inner, fast]), 4)

        assert run.output == 8
        assert cancelled == [4, 4, 4]

    def test_an_async_step_that_completes_all_the_same(self, harness: Harness) -> None:
        """G6: a step that does not let itself be cancelled is recorded, and undone."""
        undone: list[int] = []

        @step
        async def stubborn(number: int) -> int:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return number
            return 0

        @stubborn.compensate
        async def unstubborn(number: int) -> None:
            undone.append(number)

        @step
        async def fast(number: int) -> int:
            return 2 * number

        run = harness.run(sequencer("stubborn", input=int).race([stubborn, fast]), 4)

        assert run.output == 8
        assert undone == [4]

    def test_a_loser_begins_nothing_new(self, harness: Harness) -> None:
        """A line that has lost goes no further than the step that it is in."""
        late = Late(Colour(awaits=False))

        @step
        def never(number: int) -> int:
            return number

        loser = sequencer("loser", input=int).then(late.slow).then(never)
        run = harness.run(sequencer("no-further", input=int).race([loser, late.fast]).then(late.after), 4)

        assert run.output == 9
        assert run.calls("slow") == 1
        assert run.calls("never") == 0

    def test_an_undo_that_fails_ends_the_run(self, colour: Colour, harness: Harness) -> None:
        """G2: what a loser has completed and cannot be undone is no secret."""
        steps = Reserving(colour)

        @colour.step
        def double(number: int) -> int:
            return 2 * number

        loser = sequencer(f"loser-{colour.awaits}", input=int).then(steps.reserve).then(steps.fail)
        harness.fail(steps.release, error=OSError("stuck"))
        run = harness.run(sequencer("stuck", input=int).race([loser, double], max_concurrency=1), 4)

        assert isinstance(run.error, CompensationFailed)
        assert [type(error) for error in run.error.exceptions][1:] == [OSError]

    def test_the_winners_undos_stay(self, colour: Colour, harness: Harness) -> None:
        """What the winner has completed is undone if the run fails later."""
        steps = Reserving(colour)

        chain = sequencer("winner-undone", input=int).race([steps.reserve, steps.fail], max_concurrency=1)
        run = harness.run(chain.then(steps.fail), 4)

        assert isinstance(run.error, ValueError)
        assert run.compensated == ["reserve"]

    def test_a_loser_that_handles_its_loss(self, harness: Harness) -> None:
        """A line that has lost begins nothing, not in `finally` either: its undos are what cleans up."""
        late = Late(Colour(awaits=False))

        def line() -> int:
            try:
                late.slow(1)
                doubled: int = late.fast(1)
                return doubled
            finally:
                late.fast(2)

        @task(id="race-finally")
        def body() -> int:
            loser: Bound[int] = Bound("line", None, False, (), {}, line, None)  # noqa: FBT003  # as x.bind makes it
            ended: int = late.after(race(loser, late.fast.bind(4)))
            return ended

        run = harness.run(body)
        assert run.output == 9
        assert run.calls("fast") == 1
        assert not [entry for entry in run.journal if entry.phase == "cancelled"]
