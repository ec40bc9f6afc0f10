"""Workflows of all shapes on Redis, with a crash at every point, any number of times."""

from __future__ import annotations

from itertools import count

import pytest

from flowkit.storage import Storage
from flowkit_redis import redis_storage
from flowkit_testing import Harness
from flowkit_testing.corpus import CASES, Case
from flowkit_testing.servers import Server

_namespaces = count()
# Each workflow of the corpus is tried in memory; here those in which the storage has the most to do.
CHOSEN = {
    "chain",
    "saga",
    "saga-nested",
    "parent",
    "rescuing-parent",
    "sleeps",
    "retries",
    "finally",
    "work-must",
    "each",
}
EXPLORED = [case for case in CASES if case.name in CHOSEN]


@pytest.mark.parametrize("case", EXPLORED, ids=lambda case: case.name)
def test_survives_a_crash_at_every_point(case: Case, flowkit_redis_server: Server) -> None:
    """Wherever its process dies, it ends as without a crash; the storage is a real server."""

    def make() -> Storage:
        return redis_storage(f"{flowkit_redis_server.url}?namespace=corpus{next(_namespaces)}")

    storage = make()
    harness = Harness(storage, make_storage=make)
    try:
        harness.explore(case.task, *case.args).assert_safe()
    finally:
        harness.close()
        storage.close()
