"""E4: timers, which are points in time."""

from flowkit import RunStatus
from flowkit_testing import Harness
from tests.rules.colours import Body, Colour

DAY_MS = 86_400_000


def test_a_timer_is_a_point_in_time(harness: Harness, colour: Colour) -> None:
    """E4: it does not start over, whoever dies meanwhile, and each on the way."""

    @colour.step
    def note(text: str) -> str:
        return text

    @colour.task
    def naps() -> Body[str]:
        yield colour.sleep("1d")
        yield note("between")
        yield colour.sleep("2h")
        return (yield note("woken"))

    begun_ms = harness.clock.now_ms()
    harness.crash("sleep#1", at="before_effect")
    harness.crash("note#1", at="before_commit")
    harness.crash("sleep#2", at="after_commit")
    run = harness.run(naps)
    assert run.output == "woken"
    took_ms = harness.clock.now_ms() - begun_ms
    leases_ms = 3 * 30_000
    assert DAY_MS + 7_200_000 <= took_ms <= DAY_MS + 7_200_000 + leases_ms


def test_a_replay_does_not_prolong_a_timer(harness: Harness, colour: Colour) -> None:
    """E4: nor does a run that is taken up early for something else."""

    @colour.task
    def naps() -> Body[list[object]]:
        first = yield colour.wait_for_event("early")
        yield colour.sleep("10h")
        return [first]

    run = harness.start(naps)
    harness.clock.advance("1h")
    harness.send_event(run, "early", 1)
    for number in range(9):
        harness.clock.advance("1h")
        harness.send_event(run, "unasked", number)
    assert run.status is RunStatus.WAITING
    harness.clock.advance("1h")
    assert run.output == [1]


def test_timers_at_every_crash(harness: Harness, colour: Colour) -> None:
    """E4: the run ends when it would have without."""

    @colour.task
    def naps() -> Body[str]:
        yield colour.sleep("1d")
        yield colour.sleep("1d")
        return "woken"

    harness.explore(naps).assert_safe()
