"""The user of the docs, with its rights and no more, on a Cluster and behind Sentinels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from redis.crc import key_slot

from flowkit import Concurrency, Flow, gather, step, task
from flowkit.errors import StorageError
from flowkit.records import RunQuery
from flowkit.storage import Storage
from flowkit_redis import RedisStorage, redis_storage
from flowkit_testing.clusters import DOWN_AFTER_MS, Cluster, Watched, catch_up, until
from flowkit_testing.contract.committing import Committing
from flowkit_testing.contract.keeping import Purging, Values
from flowkit_testing.contract.limiting import Limiting
from flowkit_testing.contract.messages import Sending
from flowkit_testing.contract.reading import Loading
from flowkit_testing.contract.waiting import Waiting
from tests.redis.rule import PASSWORD, QUOTED, limited

_numbers = count()
_clusters: list[Cluster] = []
_watched: list[Watched] = []
NAME = "limited"
OF_SENTINELS = "of-sentinels"


@pytest.fixture(scope="module", autouse=True)
def _shared(flowkit_redis_cluster: Cluster) -> Iterator[None]:
    """What the storages of this module lie on: each server has the user, each Sentinel lets ask who the master is."""
    with Watched() as watched:
        for node in flowkit_redis_cluster.nodes:
            limited(node, NAME)
        _with_rights(watched)
        _clusters.append(flowkit_redis_cluster)
        _watched.append(watched)
        yield
        _clusters.clear()
        _watched.clear()


def _with_rights(watched: Watched) -> None:
    for server in watched.servers:
        limited(server, NAME)
    for sentinel in watched.sentinels:
        rights = (f">{OF_SENTINELS}", "-@all", "+sentinel|get-master-addr-by-name")
        assert sentinel.ask("ACL", "SETUSER", "default", "resetpass", *rights) == b"+OK\r\n"


def of_user(url: str) -> str:
    """An empty namespace, as the user."""
    return url.replace("://", f"://{NAME}:{QUOTED}@") + f"?namespace={NAME}-{os.getpid()}-{next(_numbers)}"


def on_the_cluster() -> str:
    """On the Cluster."""
    return of_user(_clusters[-1].url)


def behind_the_sentinel() -> str:
    """Behind the Sentinel, which wants a password of its own."""
    return _behind(_watched[-1])


def _behind(watched: Watched) -> str:
    return of_user(watched.url) + f"&sentinel_password={OF_SENTINELS}"


class _Twice:
    def another(self, storage: Storage) -> Storage:
        """As a second process would open it."""
        assert isinstance(storage, RedisStorage)
        other = storage.sibling()
        other.open()
        return other


class TestCluster(_Twice, Committing, Limiting, Loading, Purging, Sending, Values, Waiting):
    """In eight shards; limits, which take the most commands, too."""

    def make_storage(self, tmp_path: Path) -> Storage:
        """A new namespace."""
        del tmp_path
        return redis_storage(on_the_cluster())


for _name in (
    "test_the_order_across_keys_is_kept",
    "test_children_are_born_with_the_commit",
    "test_only_what_finished_before",
    "test_others_keep_their_place",
):
    assert hasattr(TestCluster, _name)
    setattr(TestCluster, _name, None)  # between shards there is no order


class TestSentinel(_Twice, Committing, Limiting, Sending, Waiting):
    """On the master that a Sentinel names."""

    def make_storage(self, tmp_path: Path) -> Storage:
        """A new namespace."""
        del tmp_path
        return redis_storage(behind_the_sentinel())


@step
def work(number: int) -> int:
    """A step."""
    return number


@task(id="many-rights-child", concurrency=Concurrency(1, key=lambda number: number % 3))
def child(number: int) -> int:
    """A child under a limit."""
    return work(number)


@task(id="many-rights-parent")
def parent(number: int) -> int:
    """Waits for children in other shards."""
    return sum(gather(*(child.bind(number + each) for each in range(4))))


@pytest.mark.parametrize("place", [on_the_cluster, behind_the_sentinel], ids=["cluster", "sentinel"])
def test_a_flow(place: object) -> None:
    """Parents, children, limits, a worker, listing, retention: nothing asks for more."""
    assert callable(place)
    with Flow(place(), worker=True, concurrency=4) as flow:
        handles = [flow.start(parent, number) for number in range(4)]
        assert [handle.result(timeout=60) for handle in handles] == [4 * number + 6 for number in range(4)]
        assert len(list(flow.runs(task="many-rights-parent"))) == 4
        flow.prune(older_than=0)


def test_a_slot_on_its_way(flowkit_redis_cluster: Cluster) -> None:
    """ASKING, where a slot is about to be."""
    storage = redis_storage(on_the_cluster())
    storage.open()
    slot = key_slot(storage.opened.layout.of("key").own)
    target = next(node for node in flowkit_redis_cluster.nodes if node is not flowkit_redis_cluster.owner(slot))
    flowkit_redis_cluster.begin_move(slot, target)
    assert storage.compare_and_set("key", 0, b"value") == 1
    flowkit_redis_cluster.move_keys(slot, target)
    flowkit_redis_cluster.end_move(slot, target)
    assert storage.get("key") == (b"value", 1)
    storage.close()


def test_another_namespace_is_refused() -> None:
    """On each kind: the servers keep the user out, and the error tells where to read on."""
    for url in (on_the_cluster(), behind_the_sentinel()):
        with pytest.raises(StorageError, match="users, rights and TLS") as caught:
            redis_storage(url.replace(f"namespace={NAME}", "namespace=other")).open()
        for secret in (PASSWORD, QUOTED, OF_SENTINELS):
            assert secret not in repr(caught.value)


def test_a_wrong_password_of_the_sentinels_is_not_shown() -> None:
    """The error names the Sentinel and what it said."""
    with pytest.raises(Exception, match="no Sentinel tells who the master is") as caught:
        redis_storage(behind_the_sentinel().replace(OF_SENTINELS, "guessed")).open()
    assert "guessed" not in repr(caught.value)


def test_a_failover() -> None:
    """The rights are those of whoever is the master: a replica that takes over has the same user."""
    with Watched(down_after_ms=DOWN_AFTER_MS) as watched:
        _with_rights(watched)
        master, replica = watched.servers
        storage = redis_storage(_behind(watched))
        storage.open()
        storage.compare_and_set("key", 0, b"before")
        catch_up(replica, master)  # the Sentinel, which has a password now, is not asked who they are
        master.kill()
        until(lambda: b"role:master" in replica.ask("INFO", "replication"))
        until(lambda: _answers(storage))
        assert storage.get("key") == (b"before", 1)
        assert storage.list_runs(RunQuery()).headers == ()
        storage.close()


def _answers(storage: RedisStorage) -> bool:
    try:
        return storage.get("key") is not None
    except StorageError:
        raise
    except Exception:  # noqa: BLE001  # as the core does, which asks again
        return False
