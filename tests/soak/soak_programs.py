"""Every workflow of up to three operations, in both colours, with a crash at every point: `nox -s explore`.

Programs of which a part is never come to are left out: they do what a shorter one does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from flowkit.memory import MemoryStorage
from flowkit_testing import Harness
from flowkit_testing.corpus.programs import (
    FAILING,
    LONGEST,
    PLAIN,
    Program,
    ends_early,
    parallel_programs,
    program,
    program_async,
    up_to,
)
from flowkit_testing.plan import Kind

SHARDS = 24
FAULTS: tuple[Kind, ...] = ("crash",)


def chosen(shard: int, *, awaits: bool) -> Iterator[Program]:
    """The programs of one shard, dealt out one by one so that all shards take as long."""
    different = (program for program in up_to(LONGEST) if not ends_early(program))
    everything = [*different, *(parallel_programs() if awaits else ())]
    yield from everything[shard::SHARDS]


@pytest.mark.timeout(0)
@pytest.mark.parametrize("awaits", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("shard", range(SHARDS))
def test_every_small_workflow_survives(shard: int, awaits: bool) -> None:  # noqa: FBT001  # a case
    """D2, I3, G1, G3, X1: whatever three operations a workflow is made of, it ends as without the crashes."""
    wrong: dict[str, str] = {}
    for operations in chosen(shard, awaits=awaits):
        harness = Harness(MemoryStorage())
        try:
            found = harness.explore(program_async if awaits else program, operations, faults=FAULTS)
            if not found.safe or found.unreached:
                wrong[json.dumps(operations)] = "\n".join(map(str, found.violations[:2])) or repr(found)
        except Exception as error:  # noqa: BLE001  # the others are explored all the same
            wrong[json.dumps(operations)] = repr(error)
        finally:
            harness.close()
    assert not wrong, f"{len(wrong)} programs: " + "\n\n".join(f"{name}\n{text}" for name, text in wrong.items())


def test_the_operations_are_all_there() -> None:
    """A program of each length is made of each operation."""
    assert {len(program) for program in up_to(LONGEST)} >= {1, 2, 3}
    assert [[operation] for operation in (*PLAIN, *FAILING)] == list(up_to(1))
