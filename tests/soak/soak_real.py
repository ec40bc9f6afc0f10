"""The verdicts of the real tier over the corpus, held against those of the pretended one. `nox -s real` runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowkit.memory import MemoryStorage
from flowkit_testing import Harness
from flowkit_testing.corpus import CASES, Case
from flowkit_testing.points import Injury
from flowkit_testing.real import RealTier

# Timers of hours, and results that depend on what is done first, are for virtual time.
WAITS = ("nap", "sleep", "long", "told", "items", "waiting", "event", "timer", "delay", "wait-for", "triggering")
QUICK = [case for case in CASES if not case.racing and not any(word in case.name for word in WAITS)]
EVERY = 4  # of the points of a workflow, one in so many


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_verdicts_are_the_same(case: Case, tmp_path: Path) -> None:
    """Each sampled point: killed there, the run ends as it does when its process only pretends to die."""
    harness = Harness(MemoryStorage())
    found = harness.explore(case.task, *case.args, faults=("crash", "lease"))
    harness.close()
    tier = RealTier(case.task.spec, case.args, tmp_path)
    reference = tier.reference()
    sampled = [
        tried
        for tried in found.tried
        if isinstance(tried.schedule[-1], Injury) and tried.schedule[-1].fault in {"crash", "stop"}
    ][::EVERY]
    for tried in sampled:
        verdict = tier.run(tried.schedule[-1:], reference)
        if verdict.reached:
            assert (not verdict.wrong) is (tried.verdict in {"passed", "equal"}), (tried, verdict.wrong)
