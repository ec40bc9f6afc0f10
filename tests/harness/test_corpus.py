"""Every workflow of the corpus, without faults, with a replay after every step, and with a crash at every point."""

from __future__ import annotations

import pytest

from flowkit_testing import Harness
from flowkit_testing.corpus import CASES, Case

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each_case
def test_runs(case: Case, harness: Harness) -> None:
    """It ends as it is said to."""
    run = harness.run(case.task, *case.args)
    if case.fails is None:
        assert run.ok, run.describe()
    else:
        assert isinstance(run.error, case.fails), run.describe()


@each_case
def test_survives_a_crash_at_every_point(case: Case, harness: Harness) -> None:
    """Wherever its process dies, any number of times, it ends as without a crash."""
    harness.explore(case.task, *case.args).assert_safe()
