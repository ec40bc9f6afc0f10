"""The verdicts of the real tier over the corpus, held against those of the pretended one. `nox -s real` runs it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from flowkit.memory import MemoryStorage
from flowkit.tasks import Runnable
from flowkit_testing import Harness
from flowkit_testing.corpus import CASES, Case
from flowkit_testing.exploration import Exploration
from flowkit_testing.forks import Processes
from flowkit_testing.real import RealTier
from flowkit_testing.subject import Subject
from tests.harness import unsafe_tasks
from tests.harness.test_real import UNSAFE

DETERMINED = [case for case in CASES if not case.racing]  # threads and clocks may let the others end otherwise


@pytest.fixture(params=["disk", "redis"])
def real(request: pytest.FixtureRequest, tmp_path: Path, flowkit_processes: Processes) -> Callable[[Subject], RealTier]:
    """Tries subjects in processes, on disk and on a Redis server."""
    numbers = itertools.count()
    if request.param == "redis":
        url = request.getfixturevalue("flowkit_redis_server").url
        return lambda subject: RealTier(subject, flowkit_processes, lambda: f"{url}?namespace={uuid.uuid4().hex}")
    return lambda subject: RealTier(
        subject, flowkit_processes, lambda: f"disk:{tmp_path / f's{next(numbers)}'}?durability=process"
    )


def differences(found: Exploration) -> list[str]:
    """Where the tiers disagree."""
    assert found.real
    return [note for note in found.notes if note.endswith("in real processes")]


@pytest.mark.timeout(0)
@pytest.mark.parametrize("case", DETERMINED, ids=lambda case: case.name)
def test_verdicts_are_the_same(case: Case, real: Callable[[Subject], RealTier]) -> None:
    """Each sampled schedule: killed, stopped or overtaken there, a run ends as when its process only pretends to be."""
    harness = Harness(MemoryStorage(), real=real)
    found = harness.explore(case.task, *case.args)
    harness.close()

    found.assert_safe()
    assert not differences(found)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("unsafe", UNSAFE, ids=lambda unsafe: unsafe.spec.id)
def test_what_is_unsafe_is_so_in_both(
    unsafe: Runnable[[str], object], real: Callable[[Subject], RealTier], tmp_path: Path
) -> None:
    """Each sampled schedule that breaks a workflow in one process breaks it in real ones, and no other does."""
    file = tmp_path / "world"
    harness = Harness(MemoryStorage(), real=real)
    found = harness.explore(
        unsafe, str(file), world=lambda: unsafe_tasks.lines(str(file)), reset=lambda: file.write_text("")
    )
    harness.close()

    assert not found.safe
    assert not differences(found)
    assert not any("in real processes only:" in each.wrong for each in found.violations)
