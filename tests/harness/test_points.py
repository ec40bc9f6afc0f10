"""The points at which a process may die, and how a schedule that breaks something is told."""

from __future__ import annotations

import re
from functools import cache

import pytest

from flowkit.memory import MemoryStorage
from flowkit_testing import Harness
from flowkit_testing.corpus import CASES
from flowkit_testing.explorer import Explorer
from flowkit_testing.points import Injury, Point
from tests.harness.gauntlet.stepping import runs_steps_again

CHAIN = next(case for case in CASES if case.name == "chain")
LISTED = {  # what may be struck, and the workflow that comes by it
    "submit": ("chain", "storage: submit"),
    "claim": ("sleeps", "storage: claim"),
    "journal read": ("sleeps", "storage: load"),
    "effect": ("chain", r"run-1: invoke add \(1\), attempt 1"),
    "commit": ("chain", "storage: commit"),
    "record of a step": ("chain", r"run-1: record step add \(1\) done"),
    "failed attempt": ("retries", r"run-1: record step flaky \(\d\) attempt"),
    "timer set": ("sleeps", r"run-1: record sleep sleep \(1\) begun"),
    "timer fired": ("sleeps", r"run-1: record sleep sleep \(1\) done"),
    "event sent": ("event-late", "storage: send"),
    "event awaited": ("event-late", r"run-1: record event go \(2\) begun"),
    "event received": ("event-late", r"run-1: record event go \(2\) done"),
    "side work begun": ("work", r"run-1: invoke note \(.*\), attempt 1"),
    "side work done": ("work", r"run-1: record step note \(.*\) done"),
    "child begun": ("waiting-parent", r"run-1: child corpus-napping-child \(\d\)"),
    "child ended": ("waiting-parent", r"run-1/\d: end succeeded"),
    "parent woken": ("waiting-parent", r"run-1: record child corpus-napping-child \(\d\) done"),
    "undo": ("saga", r"run-1: invoke book \(\d~undo\), attempt 1"),
    "record of an undo": ("saga", r"run-1: record undo book \(\d~undo\) done"),
    "rollback": ("saga", r"run-1: record run corpus-saga \(\) rollback"),
    "suspension": ("sleeps", "run-1: end suspend"),
    "finish": ("chain", "run-1: end succeeded"),
    "body": ("chain", "run-1: body"),
}


@cache
def planned(name: str) -> frozenset[tuple[str, str, str]]:
    """All faults that an exploration of a workflow plans: kind, before or after, and what."""
    case = next(case for case in CASES if case.name == name)
    harness = Harness(MemoryStorage())
    found = harness.explore(case.task, *case.args, budget=1)
    harness.close()
    return frozenset(
        (injury.fault, injury.point.when, injury.point.what) for tried in found.tried for injury in tried.schedule
    )


@pytest.mark.parametrize("what", LISTED)
def test_it_is_among_the_points(what: str) -> None:
    """A process dies before and after it; effects are struck by lost leases, calls of the storage go unanswered."""
    workflow, pattern = LISTED[what]
    faults = planned(workflow)

    def struck(fault: str, when: str) -> bool:
        return any(kind == fault and at == when and re.fullmatch(pattern, it) for kind, at, it in faults)

    assert struck("crash", "before")
    assert struck("crash", "after")
    if pattern.startswith("storage"):
        assert struck("not_applied", "before")
        assert struck("lost_ack", "before") is (what != "journal read")
    else:
        assert struck("lease", "before")
        assert struck("stop", "before")


def test_a_schedule_is_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two crashes of which one is enough, one is left."""
    runs_steps_again(monkeypatch)
    harness = Harness(MemoryStorage())
    explorers: list[Explorer] = []
    begin = Explorer.explore

    def remember(explorer: Explorer) -> object:
        explorers.append(explorer)
        return begin(explorer)

    monkeypatch.setattr(Explorer, "explore", remember)
    harness.explore(CHAIN.task, *CHAIN.args, budget=3)
    enough = Injury("crash", Point("run-1: record step add (3) done", "after"))
    needless = Injury("crash", Point("run-1: invoke add (1), attempt 1", "after"))

    found = explorers[0].replay((needless, enough))

    assert any(violation.schedule == (enough,) for violation in found.violations)
