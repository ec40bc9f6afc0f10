"""E5: events: kept until they are waited for, and received once."""

from flowkit import EventTimeout, RunStatus
from flowkit_testing import Harness
from tests.rules.colours import Body, Colour


def test_an_event_before_its_wait_is_kept(harness: Harness, colour: Colour) -> None:
    """E5: in the order in which they were sent, one for each wait, and those of other names for theirs."""

    @colour.task
    def waits() -> Body[list[object]]:
        yield colour.sleep("1d")
        got = []
        for name in ("a", "b", "a", "a"):
            got.append((yield colour.wait_for_event(name)))  # noqa: PERF401  # no comprehension yields
        return got

    run = harness.start(waits)
    for name, payload in [("a", 1), ("a", 2), ("b", 3), ("a", 4)]:
        harness.send_event(run, name, payload)
    harness.clock.advance("1d")
    assert run.output == [1, 3, 2, 4]


def test_an_event_is_received_once(harness: Harness, colour: Colour) -> None:
    """E5: sent twice with one id it is one, whatever has been received meanwhile."""

    @colour.task
    def waits() -> Body[list[object]]:
        return [(yield colour.wait_for_event("a")), (yield colour.wait_for_event("a"))]

    run = harness.start(waits)
    harness.send_event(run, "a", "first", id="1")
    harness.send_event(run, "a", "again", id="1")
    assert run.status is RunStatus.WAITING
    harness.send_event(run, "a", "second", id="2")
    assert run.output == ["first", "second"]


def test_an_event_that_comes_too_late(harness: Harness, colour: Colour) -> None:
    """E5: the wait that has timed out does not get it, on no replay; the next one does."""
    seen: list[str] = []

    @colour.step
    def end() -> None:
        pass

    @colour.task
    def waits() -> Body[object]:
        try:
            yield colour.wait_for_event("a", timeout="1h")
            seen.append("in time")
        except EventTimeout:
            seen.append("too late")
        yield colour.sleep("1h")
        got = yield colour.wait_for_event("a")
        yield end()
        return got

    run = harness.start(waits)
    harness.clock.advance("90m")
    harness.send_event(run, "a", "late")
    harness.crash("end", at="after_effect")
    harness.clock.advance("2h")
    assert run.output == "late"
    assert set(seen) == {"too late"}


def test_events_at_every_crash(harness: Harness, colour: Colour) -> None:
    """E5: none is lost, none is received twice, wherever the process dies."""

    @colour.task
    def waits() -> Body[list[object]]:
        got = []
        for _ in range(2):
            got.append((yield colour.wait_for_event("a")))
            yield colour.sleep("1h")
        return got

    harness.explore(waits, events=[("a", 1), ("a", 2)]).assert_safe()
