"""The real tier: SIGKILL and SIGSTOP in processes on disk come to the verdicts of the pretended ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowkit import step, task
from flowkit.memory import MemoryStorage
from flowkit_testing import Harness
from flowkit_testing.corpus import CASES
from flowkit_testing.points import Injury, Point, token_of
from flowkit_testing.real import RealTier

cases = {case.name: case for case in CASES}
_memory: dict[str, int] = {}


@step
def remember(number: int) -> int:
    """Leaves something in the process, which a replay does not do again."""
    _memory["remembered"] = number
    return number


@step
def tell(number: int) -> int:
    """Gives back what it gets."""
    return number


@task(id="real-relies-on-the-process")
def relies_on_the_process(number: int) -> int:
    """Reads what a step has left in the process."""
    _memory.pop("remembered", None)
    remember(number)
    tell(1)
    return _memory.get("remembered", 0)


SAMPLE = [
    ("chain", Injury("crash", Point("run-1: invoke add (2), attempt 1", "after"))),
    ("saga", Injury("crash", Point("storage: commit", "after", 7))),
    ("async-chain", Injury("stop", Point("run-1: record step add_later (2) done", "before"))),
]


@pytest.mark.parametrize(("name", "injury"), SAMPLE, ids=str)
def test_a_sample_of_the_corpus(name: str, injury: Injury, tmp_path: Path) -> None:
    """Killed there, or stopped, overtaken and woken, a run ends as in the pretended tier: as if nothing had been."""
    case = cases[name]
    harness = Harness(MemoryStorage(), replay=token_of((injury,)))
    pretended = harness.explore(case.task, *case.args)
    harness.close()
    tier = RealTier(case.task.spec, case.args, tmp_path)
    verdict = tier.run((injury,), tier.reference())
    assert verdict.reached
    assert (not verdict.wrong) is pretended.safe is True, verdict.wrong


def test_an_unsafe_workflow_is_unsafe_here_too(tmp_path: Path) -> None:
    """What a process keeps for itself is gone with it, in both tiers."""
    injury = Injury("crash", Point("run-1: invoke tell (2), attempt 1", "before"))
    tier = RealTier(relies_on_the_process.spec, (3,), tmp_path)
    verdict = tier.run((injury,), tier.reference())
    assert verdict.reached
    assert any("has another result than without the fault" in text for text in verdict.wrong)


def test_a_point_that_is_not_there(tmp_path: Path) -> None:
    """It is told that nothing was hit."""
    tier = RealTier(cases["nothing"].task.spec, (), tmp_path)
    nowhere = Injury("stop", Point("run-1: invoke nothing (9), attempt 1", "before"))
    assert not tier.run((nowhere,)).reached


def test_other_faults_are_refused(tmp_path: Path) -> None:
    """It kills and stops; a lost answer is for the first tier."""
    tier = RealTier(cases["nothing"].task.spec, (), tmp_path)
    with pytest.raises(ValueError, match="one crash or one stop"):
        tier.run((Injury("lost_ack", Point("storage: commit", "before")),))
