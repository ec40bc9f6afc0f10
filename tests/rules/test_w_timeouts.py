"""W2, W3, E4: `wait_for_work` with a timeout; what had ended in time is recorded, so that a replay tells the same."""

import threading
from typing import Any

import pytest

import flowkit
from flowkit import Flow, WorkOutcome, step, work
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, Crash, FakeClock, Store, at_once, crash_once, eventually
from tests.rules.effects import noting

Outcomes = list[WorkOutcome]


def converge(colour: Colour, **options: Any) -> Any:  # noqa: ANN401  # a coroutine, or outcomes
    """`wait_for_work` in a colour."""
    return (flowkit.aio if colour.awaits else flowkit).wait_for_work(**options)


class TestTooLate:
    """Work that had not ended when the wait was over."""

    @pytest.mark.parametrize("fails", [False, True])
    def test_a_replay_takes_the_same_side(self, store: Store, colour: Colour, *, fails: bool) -> None:
        """W3: it is told as not done on each replay, also if it has ended since; a later wait tells how."""
        go, ran, crashes = threading.Event(), list[str](), [Crash(), Crash()]

        @step(retry=at_once(1))
        def slow() -> str:
            assert go.wait(PATIENCE_S)
            ran.append("slow")
            if fails:
                raise OSError("slow")
            return "value"

        effect = noting(colour, ran)

        @colour.task
        def body() -> Body[list[object]]:
            handle = work(slow)
            outcomes: Outcomes = yield converge(colour, timeout=0, fail_on_error=True)
            side: str = yield effect("in time" if outcomes[0].done else "too late")
            go.set()
            later: Outcomes = yield converge(colour)
            if crashes:
                raise crashes.pop()
            return [side, outcomes[0].ok, handle.done, later[0].done, later[0].value, repr(later[0].error)]

        for _ in range(2):
            crash_once(store, body)

        error = repr(OSError("slow")) if fails else repr(None)
        found = ["too late", False, True, True, None if fails else "value", error]
        assert store.flow().run(body.options(run_id="r")) == found
        assert ran == ["too late", "slow"]

    def test_it_was_over_before_the_crash(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """E4: until when to wait is recorded: a process that takes over waits for the rest of the time only."""

        @colour.task
        def nap() -> Body[str]:
            yield colour.sleep("1d")
            return "slept"

        @colour.task
        def body() -> Body[list[object]]:
            work(nap)
            first: Outcomes = yield converge(colour, timeout="2h")
            now = flowkit.now()
            second: Outcomes = yield converge(colour)
            return [first[0].done, second[0].value, now.timestamp()]

        start = clock.ms
        with Flow(store.storage(), clock=clock) as flow:
            flow.start(body.options(run_id="r"))
            eventually(lambda: store.header("r").wake_at_ms == start + 2 * 3_600_000)
        clock.advance(hours=1)

        found = store.flow(clock=clock).run(body.options(run_id="r"))
        assert found == [False, "slept", start / 1000 + 2 * 3600]
        assert clock.ms == start + 86_400_000


class TestInTime:
    """Work that had ended when the wait was over."""

    def test_the_wait_ends_with_the_work(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """W3: a wait is over when all has ended, however long it might take; a replay tells the same."""
        crashes = [Crash()]

        @step
        def note(text: str) -> str:
            return text

        @colour.task
        def body() -> Body[list[object]]:
            work(note, "a")
            work(note, "b")
            outcomes: Outcomes = yield converge(colour, timeout="1h")
            if crashes:
                raise crashes.pop()
            return [outcome.value for outcome in outcomes]

        start = clock.ms
        flow = store.flow(clock=clock)
        with pytest.raises(Crash):
            flow.run(body.options(run_id="r"))
        flow.close()

        assert store.flow(clock=clock).run(body.options(run_id="r")) == ["a", "b"]
        assert clock.ms == start

    def test_none_is_queued(self, flow: Flow, colour: Colour) -> None:
        """W3: without work there is nothing to wait for."""

        @colour.task
        def body() -> Body[int]:
            outcomes: Outcomes = yield converge(colour, timeout="1h")
            return len(outcomes)

        assert flow.run(body) == 0
