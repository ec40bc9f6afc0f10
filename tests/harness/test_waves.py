"""Waves: many faults in one run, as if each had been tried by itself."""

from __future__ import annotations

import itertools

import pytest

from flowkit.memory import MemoryStorage
from flowkit_testing import Harness
from flowkit_testing import explorer as explorers
from flowkit_testing.corpus import CASES, Case
from flowkit_testing.exploration import Exploration
from flowkit_testing.points import Injury, Point, Schedule
from flowkit_testing.waves import APART, waves

cases = {case.name: case for case in CASES}
NAMES = ("chain", "saga", "async-chain", "gather", "sleeps", "once", "retries")


def explored(case: Case) -> Exploration:
    """All default faults."""
    harness = Harness(MemoryStorage())
    found = harness.explore(case.task, *case.args)
    harness.close()
    return found


@pytest.mark.parametrize("case", [case for case in CASES if case.name in NAMES], ids=lambda case: case.name)
def test_what_waves_find_is_what_each_fault_finds(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same faults happen with the same verdicts, in a fraction of the runs."""
    together = explored(case)
    monkeypatch.setattr(explorers, "waves", lambda _planned: iter(()))
    apart = explored(case)

    assert together.safe
    assert together.tried == apart.tried
    assert (together.states, together.resumes) == (apart.states, apart.resumes)
    assert together.runs < apart.runs


def lost(number: int) -> Schedule:
    """The nth commit loses its answer."""
    return (Injury("lost_ack", Point("storage: commit", "before", number)),)


def test_lost_answers_are_kept_apart() -> None:
    """Between two lost answers of a wave some commits are answered, and each is counted from the one before."""
    planned = [lost(number) for number in range(1, 9)]
    found = list(waves(planned))

    assert set(itertools.chain.from_iterable(wave.schedules for wave in found)) == set(planned)
    assert [injury.point.nth for injury in found[1].injuries] == [2, APART + 1, APART + 1]


def test_what_is_recorded_is_passed_once() -> None:
    """The end of what was recorded is in another wave than what comes before the next one: nobody passes both."""
    record, invoke = "run-1: record step add (1) done", "run-1: invoke add (2), attempt 1"
    planned: list[Schedule] = [
        (Injury("crash", Point(what, when)),)
        for what in (record, "storage: commit", invoke)
        for when in ("before", "after")
    ]  # fmt: skip
    found = [{str(injury.point) for injury in wave.injuries} for wave in waves(planned)]

    assert {f"after {record}"} not in found  # alone, it is no wave
    assert found == [{f"before {record}", "before storage: commit", f"before {invoke}", f"after {invoke}"}]
