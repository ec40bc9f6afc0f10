"""The whole corpus with a replay after every single step."""

from __future__ import annotations

import pytest

from flowkit.memory import MemoryStorage
from flowkit_testing import Harness
from flowkit_testing.corpus import CASES, Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_workflow_survives_it(case: Case) -> None:
    """D2, I3: unwound after each step, the last one included, every workflow ends as it does without."""
    storage = MemoryStorage()
    harness = Harness(storage, always_replay=True)
    try:
        run = harness.run(case.task, *case.args)
        assert run.ok if case.fails is None else isinstance(run.error, case.fails), run.describe()
        harness.check()
    finally:
        harness.close()
        storage.close()
