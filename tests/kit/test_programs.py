"""A sample of the workflows that are made of data; `nox -s explore` tries them all."""

from __future__ import annotations

import json

import pytest

from flowkit_testing import Harness
from flowkit_testing.corpus.programs import (
    LONGEST,
    Program,
    ends_early,
    parallel_programs,
    program,
    program_async,
    up_to,
)

EVERY = 211  # a prime, so that the sample meets every operation at every place
SAMPLE = [*up_to(1), *list(up_to(LONGEST))[EVERY::EVERY]]
ASYNC_SAMPLE = [*SAMPLE, *list(parallel_programs())[::9]]


@pytest.mark.parametrize("operations", SAMPLE, ids=json.dumps)
def test_survives(operations: Program, harness: Harness) -> None:
    """D2, I3, G3, X1: wherever its process dies, it ends as without a crash."""
    harness.explore(program, operations).assert_safe()


@pytest.mark.parametrize("operations", ASYNC_SAMPLE, ids=json.dumps)
def test_survives_async(operations: Program, harness: Harness) -> None:
    """D2, I3, G3, X1: also in async code."""
    harness.explore(program_async, operations).assert_safe()


@pytest.mark.parametrize(
    ("operations", "early"),
    [
        ([["add"], ["broken"]], False),
        ([["broken"], ["add"]], True),
        ([["try", [["raise"]]], ["add"]], False),
        ([["saga", [["raise"]]], ["add"]], True),
        ([["try", [["raise"], ["add"]]]], True),
        ([["finally", [["add"], ["raise"]]]], False),
    ],
    ids=json.dumps,
)
def test_what_is_never_come_to(operations: Program, early: bool) -> None:  # noqa: FBT001  # a case
    """A program of which a part never runs is told from one that runs to its end."""
    assert ends_early(operations) is early
