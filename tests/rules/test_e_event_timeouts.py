"""E5, E4: a wait for an event that is over receives nothing."""

import pytest

from flowkit import (
    EventTimeout,
    Flow,
)
from tests.rules.colours import Body, Colour
from tests.rules.conftest import Crash, FakeClock, Store, cancel_as_it_waits, waiting


class TestTimeouts:
    """A wait that has timed out receives nothing."""

    def test_a_timeout(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """E5: without an event in time the wait raises `EventTimeout`, the same on every replay."""
        raised: list[str] = []
        crashes = [Crash()]

        @colour.task
        def body() -> Body[str]:
            try:
                yield colour.wait_for_event("a", timeout="7d")
            except TimeoutError as error:
                raised.append(f"{type(error).__name__}: {error}")
            if crashes:
                raise crashes.pop()
            return "late"

        start = clock.ms
        flow = store.flow(clock=clock)
        with pytest.raises(Crash):
            flow.run(body.options(run_id="r"))
        flow.close()

        assert store.flow(clock=clock).run(body.options(run_id="r")) == "late"
        assert raised[0] == raised[1]
        assert raised[0].startswith("EventTimeout")
        assert "'a'" in raised[0]
        assert "'r'" in raised[0]
        assert clock.ms == start + 7 * 86_400_000

    def test_the_time_does_not_start_over(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """E4: a wait that is taken up by another process waits for the rest of its time."""

        @colour.task
        def body() -> Body[None]:
            yield colour.wait_for_event("a", timeout="2h")

        start = clock.ms
        with Flow(store.storage(), clock=clock) as flow:
            flow.start(body.options(run_id="r"))
            waiting(flow)
        clock.advance(hours=1)
        with pytest.raises(EventTimeout):
            store.flow(clock=clock).run(body.options(run_id="r"))

        assert clock.ms == start + 2 * 3_600_000

    def test_sent_after_the_time_was_over(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """E5: an event that was sent after the time was over is for the next wait, also if nobody had looked yet."""

        @colour.task
        def body() -> Body[list[object]]:
            got: list[object] = []
            try:
                got.append((yield colour.wait_for_event("a", timeout="1h")))
            except EventTimeout:
                got.append("timeout")
            got.append((yield colour.wait_for_event("a")))
            return got

        with Flow(store.storage(), clock=clock) as flow:
            flow.start(body.options(run_id="r"))
            waiting(flow)
        clock.advance(hours=2)
        with Flow(store.storage(), clock=clock, worker=False) as flow:
            flow.send_event("r", "a", "late")

        assert store.flow(clock=clock).run(body.options(run_id="r")) == ["timeout", "late"]

    def test_sent_in_time_and_looked_at_late(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """E5: an event that was sent in time is received even if no worker was there until the time was over."""

        @colour.task
        def body() -> Body[object]:
            return (yield colour.wait_for_event("a", timeout="1h"))

        with Flow(store.storage(), clock=clock) as flow:
            flow.start(body.options(run_id="r"))
            waiting(flow)
        with Flow(store.storage(), clock=clock, worker=False) as flow:
            flow.send_event("r", "a", "in time")
        clock.advance(hours=2)

        assert store.flow(clock=clock).run(body.options(run_id="r")) == "in time"

    def test_retry_waits_again(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """X2: `flow.retry` of a run that failed by a timeout waits anew."""

        @colour.task
        def body() -> Body[object]:
            return (yield colour.wait_for_event("a", timeout="1h"))

        flow = store.flow(clock=clock)
        with pytest.raises(EventTimeout):
            flow.run(body.options(run_id="r"))
        flow.retry("r")
        flow.send_event("r", "a", "again")

        assert flow.run(body.options(run_id="r")) == "again"

    def test_cancelled_while_it_waits(self, store: Store, colour: Colour) -> None:
        """E2: a run that waits for an event is woken by a cancellation, which its body sees at the wait."""
        seen: list[str] = []

        @colour.task
        def body() -> Body[None]:
            try:
                yield colour.wait_for_event("a", timeout="7d")
            except colour.cancelled:
                seen.append("cancelled")
                raise

        with Flow(store.storage()) as flow:
            cancel_as_it_waits(flow, body)

        assert seen[-1:] == ["cancelled"]
