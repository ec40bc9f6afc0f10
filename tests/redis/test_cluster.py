"""The Redis storage on a Cluster of three masters, each namespace in eight shards: the contract."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from flowkit.records import AnyOf, Grant, NewRun
from flowkit.storage import Storage
from flowkit_redis import RedisStorage, nodes, redis_storage
from flowkit_testing.clusters import Cluster
from flowkit_testing.contract import StorageContract
from flowkit_testing.contract.claiming import Claiming
from flowkit_testing.contract.limiting import Limiting
from tests.redis.guard import guarded

_numbers = count()
_clusters: list[Cluster] = []


@pytest.fixture(scope="module", autouse=True)
def _shared(flowkit_redis_cluster: Cluster) -> Iterator[None]:
    """What the storages of this module lie on."""
    _clusters.append(flowkit_redis_cluster)
    yield
    _clusters.remove(flowkit_redis_cluster)


def _make(options: str = "") -> RedisStorage:
    return redis_storage(f"{_clusters[-1].url}?namespace=contract{next(_numbers)}{options}")


class _Reopening:
    """How a storage is seen by a second process."""

    def reopen(self, storage: Storage) -> Storage:
        """Another object on the same namespace."""
        storage.close()
        return self.another(storage)

    def another(self, storage: Storage) -> Storage:
        """As a second process would open it."""
        assert isinstance(storage, RedisStorage)
        other = storage.sibling()
        other.open()
        return other


class TestCluster(_Reopening, StorageContract):
    """Eight shards: whatever the contract asks that is not about the order of several runs; all keys declared."""

    @pytest.fixture(autouse=True)
    def _keys_are_declared(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Run every script under guard."""
        monkeypatch.setattr(nodes, "script", guarded)

    def make_storage(self, tmp_path: Path) -> Storage:
        """A new namespace."""
        del tmp_path
        return _make()


class TestOneShardOfACluster(_Reopening, Claiming, Limiting):
    """One shard: order and limits too."""

    def make_storage(self, tmp_path: Path) -> Storage:
        """A new namespace."""
        del tmp_path
        return _make("&shards=1")


# A shard keeps the order among its own runs; which shard comes first is left to chance, so that all get their turn.
ORDERED = [
    "test_a_due_run_that_was_not_taken_stays_claimable",
    "test_a_higher_priority_comes_first",
    "test_a_place_that_becomes_free_wakes",
    "test_a_run_handed_back_goes_to_the_end_of_the_line",
    "test_a_token_keeps_only_what_it_still_owns",
    "test_children_are_born_with_the_commit",
    "test_every_call_sent_twice",
    "test_newest_first",
    "test_no_more_than_the_limit",
    "test_only_what_finished_before",
    "test_opened_again_everything_is_there",
    "test_order_holds_across_tasks_and_queues",
    "test_others_keep_their_place",
    "test_runs_of_one_moment_come_in_the_order_of_their_creation",
    "test_the_longest_ready_comes_first",
    "test_the_order_across_keys_is_kept",
    "test_the_pages_of_a_narrowed_list",
    "test_the_same_token_gets_the_same_leases",
    "test_timers_and_lost_leases_stand_in_the_same_line",
]
for _name in ORDERED:
    assert hasattr(StorageContract, _name), _name
    setattr(TestCluster, _name, None)


def test_every_shard_is_used_and_gets_its_turn() -> None:
    """Runs spread over all shards and nodes; claims one by one begin at each shard about equally often."""
    storage = _make()
    storage.open()
    opened = storage.opened
    storage.submit([NewRun(f"run-{number}", "task", b"") for number in range(160)])

    held = {shard.number: opened.link.command(shard.number, b"HLEN", shard.own) for shard in opened.layout.shards}
    assert len(held) == 8
    assert min(held.values()) > 8
    assert len(opened.link.other_servers(8)) == 2  # and the one of the first shard

    first: dict[int, int] = {}
    for number in range(80):
        (lease,) = storage.claim(Grant("worker", f"token-{number}", 60_000), AnyOf(("task",)), 1).leases
        shard = opened.layout.of(lease.run_id).number
        first[shard] = first.get(shard, 0) + 1
    assert len(first) == 8
    storage.close()
