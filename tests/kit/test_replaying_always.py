"""The whole corpus with a replay after every single step, and what else may happen meanwhile."""

import pytest

from flowkit.memory import MemoryStorage
from flowkit_testing import Harness
from flowkit_testing.corpus import CASES, Case
from tests.promises.tasks import Seats
from tests.rules.colours import Colour


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


def test_a_lost_lease_beside_it(colour: Colour) -> None:
    """D4: a process that lets go of a run which is another's by then goes quietly."""
    storage = MemoryStorage()
    harness = Harness(storage, always_replay=True)
    seats = Seats(colour, "1a", "1b")

    try:
        harness.lose_lease("book#2", at="after_commit")
        run = harness.run(seats.trip)
        assert run.output == ["1a", "1b"]
        run.assert_calls(book=2)
        harness.check()
    finally:
        harness.close()
        storage.close()
