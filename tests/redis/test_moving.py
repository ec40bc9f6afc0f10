"""A Cluster in motion: slots that move while runs go on, nodes that are down, messages between shards."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count

import pytest
from redis.crc import key_slot

from flowkit import Flow, gather, step, task
from flowkit.records import (
    AnyOf,
    Commit,
    Done,
    Finish,
    Grant,
    Lease,
    Message,
    MessageKind,
    NewRun,
    RunStatus,
    Send,
)
from flowkit_redis import RedisStorage, outbox, redis_storage
from flowkit_redis.failures import NotNow
from flowkit_redis.keys import Shard
from flowkit_testing.auditor import EffectLog, audit, ended
from flowkit_testing.clusters import Cluster, until
from flowkit_testing.servers import Server
from tests.redis.conftest import HOUR_MS, born

ANY = AnyOf(("task",))


@pytest.fixture
def url(cluster_url: str) -> str:
    """All of this is about a Cluster."""
    return cluster_url


def slot_of(storage: RedisStorage, run_id: str) -> int:
    """The slot of the Cluster that a run lies in."""
    return key_slot(storage.opened.layout.of(run_id).own)


def another_node(cluster: Cluster, slot: int) -> Server:
    """A node that has not this slot."""
    owner = cluster.owner(slot)
    return next(node for node in cluster.nodes if node is not owner)


def elsewhere(storage: RedisStorage, run_id: str, name: str) -> str:
    """An id that begins with a name and lies in another shard than a run."""
    of = storage.opened.layout.of
    return next(one for one in (f"{name}-{number}" for number in count()) if of(one) is not of(run_id))


class TestSlots:
    """Redirections are followed, by calls and by whoever waits."""

    def test_a_slot_that_has_moved(self, storage: RedisStorage, flowkit_redis_cluster: Cluster) -> None:
        """MOVED: the next step is recorded where the run is now, and the one after it goes there at once."""
        lease, slot = born(storage, "run"), slot_of(storage, "run")
        target = another_node(flowkit_redis_cluster, slot)
        flowkit_redis_cluster.move(slot, target)

        for base in range(2):
            (verdict,) = storage.commit([Commit("run", lease.owner, lease.fence, f"c{base}", base, (b"entry",))])
            assert isinstance(verdict, Done)

        snapshot = storage.load("run")
        assert snapshot is not None
        assert snapshot.entries == (b"entry", b"entry")
        assert flowkit_redis_cluster.owner(slot) is target

    def test_a_slot_on_its_way(self, storage: RedisStorage, flowkit_redis_cluster: Cluster) -> None:
        """ASK: what is not here any more is asked for there; what is torn apart has to wait, and nothing is applied."""
        lease, slot = born(storage, "run"), slot_of(storage, "run")
        name = next(key for key in map(str, count()) if slot_of(storage, key) == slot)
        target = another_node(flowkit_redis_cluster, slot)
        flowkit_redis_cluster.begin_move(slot, target)

        assert storage.compare_and_set(name, 0, b"value") == 1  # not here, so it is written there
        assert storage.get(name) == (b"value", 1)
        commit = Commit("run", lease.owner, lease.fence, "c", 0, (b"entry",), then=Finish(RunStatus.SUCCEEDED, b""))
        with pytest.raises(NotNow):  # some of its keys are here, others do not exist yet
            storage.commit([commit])

        flowkit_redis_cluster.move_keys(slot, target)
        with pytest.raises(NotNow):  # nor may one node say that they do not exist
            storage.commit([commit])
        flowkit_redis_cluster.end_move(slot, target)
        assert isinstance(storage.commit([commit])[0], Done)
        snapshot = storage.load("run")
        assert snapshot is not None
        assert snapshot.entries == (b"entry",)

    def test_whoever_waits_is_not_deaf_afterwards(self, url: str, flowkit_redis_cluster: Cluster) -> None:
        """A worker that waits while each slot of its namespace moves finds what comes after it."""
        with redis_flow(url) as flow:
            assert flow.start(echo, 1).result(timeout=60) == 1
            assert isinstance(flow.engine.storage.inner, RedisStorage)
            for shard in flow.engine.storage.inner.opened.layout.shards:
                slot = key_slot(shard.own)
                target = another_node(flowkit_redis_cluster, slot)
                flowkit_redis_cluster.move(slot, target)
            handles = [flow.start(echo, number) for number in range(16)]
            assert [handle.result(timeout=60) for handle in handles] == list(range(16))


def redis_flow(url: str) -> Flow:
    """A flow with a worker of its own, which is silent for a moment while a slot moves."""
    return Flow(url, lease="10s", worker=True, concurrency=8)


@step
def same(number: int) -> int:
    """Gives back what it got."""
    return number


@task(id="moving-echo")
def echo(number: int) -> int:
    """Gives back what it got."""
    return same(number)


def test_runs_go_on_while_slots_move(url: str, flowkit_redis_cluster: Cluster, effects: EffectLog) -> None:
    """Parents and children in all shards, every slot moved under them: all end, no step is done twice."""

    @step
    def work(number: int) -> str:
        return effects.note(f"work {number}")

    @task(id="moving-child")
    def child(number: int) -> str:
        return work(number)

    @task(id="moving-parent")
    def parent(number: int) -> int:
        for each in range(3):
            work(each)
        return len(gather(child.bind(number), child.bind(number + 1)))

    with redis_flow(url) as flow:
        handles = [flow.start(parent, number) for number in range(12)]
        storage = flow.engine.storage.inner
        assert isinstance(storage, RedisStorage)
        for shard in storage.opened.layout.shards:
            slot = key_slot(shard.own)
            target = another_node(flowkit_redis_cluster, slot)
            flowkit_redis_cluster.move(slot, target)
        assert [handle.result(timeout=60) for handle in handles] == [2] * 12
        until(lambda: ended(flow.engine.storage))
    storage.open()
    audit(storage, acknowledged=[handle.id for handle in handles], effects=effects.read()).assert_clean()
    storage.close()


class TestBetweenShards:
    """What a commit does in other shards is kept with it, and carried over once, whoever dies in between."""

    @pytest.fixture
    def dying(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
        """The process dies after the commit, before anything is carried over; call it to go on as another one."""

        def die(*_: object) -> None:
            raise Died

        monkeypatch.setattr(outbox, "pump", die)
        return monkeypatch.undo

    def test_children_and_messages_survive(self, storage: RedisStorage, dying: Callable[[], None]) -> None:
        """E3, E5: a claim by anyone carries them over."""
        lease = born(storage, "run")
        child, other = elsewhere(storage, "run", "child"), elsewhere(storage, "run", "other")
        born(storage, other)
        message = Message("m", MessageKind.EVENT, "name", b"payload")
        commit = Commit(
            "run",
            lease.owner,
            lease.fence,
            "c",
            0,
            (b"entry",),
            spawn=(NewRun(child, "task", b"", tags=("tag",)),),
            send=(Send(other, message),),
        )
        with pytest.raises(Died):
            storage.commit([commit])
        assert storage.load(child) is None
        dying()

        second = storage.sibling()
        second.open()
        grants = [Grant("w", f"token-{number}", HOUR_MS) for number in range(3)]
        claimed = [lease.run_id for grant in grants for lease in second.claim(grant, ANY, 5).leases]

        assert claimed == [child]
        snapshot = second.load(other)
        assert snapshot is not None
        assert snapshot.inbox == (message,)
        second.close()

    def test_carried_over_twice_is_once(self, storage: RedisStorage, dying: Callable[[], None]) -> None:
        """Two who find the same letters, and one who carries them over long after the other, do no harm."""
        lease = born(storage, "run")
        child, other = elsewhere(storage, "run", "child"), elsewhere(storage, "run", "other")
        other_lease = born(storage, other)
        message = Message("m", MessageKind.EVENT, "name", b"payload")
        commit = Commit(
            "run", lease.owner, lease.fence, "c", 0, spawn=(NewRun(child, "task", b""),), send=(Send(other, message),)
        )
        with pytest.raises(Died):
            storage.commit([commit])
        opened, shard = storage.opened, storage.opened.layout.of("run")
        letters = opened.link.command(shard.number, b"LRANGE", shard.prefix + b"out", 0, -1)
        assert len(letters) == 2
        dying()
        outbox.pump(opened, shard)
        storage.commit([Commit(other, other_lease.owner, other_lease.fence, "o", 0, consume=("m",))])
        (claimed,) = storage.claim(Grant("w", "token", HOUR_MS), ANY, 5).leases

        for letter in letters:  # as one has them in hand who stood still meanwhile
            opened.link.command(shard.number, b"RPUSH", shard.prefix + b"out", letter)
        outbox.pump(opened, shard)

        snapshot = storage.load(other)
        assert snapshot is not None
        assert snapshot.inbox == ()
        assert storage.claim(Grant("w", "another", HOUR_MS), ANY, 5).leases == ()
        assert storage.load(child) is not None
        assert claimed.run_id == child

    def test_a_commit_that_is_sent_again_carries_over(self, storage: RedisStorage, dying: Callable[[], None]) -> None:
        """D7: the answer was lost with the process's connection; the same commit again sees to the rest."""
        lease = born(storage, "run")
        child = elsewhere(storage, "run", "child")
        commit = Commit("run", lease.owner, lease.fence, "c", 0, spawn=(NewRun(child, "task", b""),))
        with pytest.raises(Died):
            storage.commit([commit])
        dying()
        assert isinstance(storage.commit([commit])[0], Done)
        assert storage.load(child) is not None


class Died(BaseException):
    """The process has ended here."""


def test_a_node_that_is_down_does_not_stop_the_others() -> None:
    """Runs whose shards are up are worked on; the others go on when their node is back, and keep what they had."""
    with Cluster(appendonly="yes", appendfsync="always") as cluster:
        storage = redis_storage(f"{cluster.url}?namespace=down&connect_timeout=2")
        storage.open()
        born(storage, "held")
        storage.submit([NewRun(f"run-{number}", "task", b"") for number in range(40)])
        victim = cluster.owner(slot_of(storage, "held"))
        down = {shard.number for shard in storage.opened.layout.shards if _is_on(cluster, shard, victim)}
        sender, lost, other = _three_places(storage, down)
        lease = born(storage, sender)
        victim.kill()
        children = tuple(NewRun(child, "child", b"") for child in (lost, other))
        storage.commit([Commit(sender, lease.owner, lease.fence, "c", 0, spawn=children)])
        assert storage.load(other) is not None  # the letter before it waits, and is not in its way

        found = set[str]()
        for number in range(8):
            found |= {lease.run_id for lease in storage.claim(Grant("w", f"t{number}", HOUR_MS), ANY, 40).leases}
            if len(found) > 40 - 8 * len(down):
                break
        assert found
        assert {storage.opened.layout.of(run_id).number for run_id in found}.isdisjoint(down)

        victim.start()
        until(lambda: b"cluster_state:ok" in victim.ask("CLUSTER", "INFO"))
        for number in range(3):
            found |= {lease.run_id for lease in _patient(storage, f"again{number}")}
        assert len(found) == 40
        assert storage.load(lost) is not None
        assert storage.load("held") is not None
        storage.close()


def _three_places(storage: RedisStorage, down: set[int]) -> tuple[str, str, str]:
    """Ids of runs in two shards of which neither is down, and between them in one that is."""

    def of(run_id: str) -> int:
        return storage.opened.layout.of(run_id).number

    first = next(one for one in (f"first-{n}" for n in count()) if of(one) not in down)
    lost = next(one for one in (f"lost-{n}" for n in count()) if of(one) in down)
    return first, lost, next(one for one in (f"other-{n}" for n in count()) if of(one) not in {*down, of(first)})


def _patient(storage: RedisStorage, token: str) -> tuple[Lease, ...]:
    """Claim, as often as it takes."""
    for _ in range(100):
        try:
            return storage.claim(Grant("w", token, HOUR_MS), ANY, 40).leases
        except Exception:  # noqa: BLE001  # as a worker does
            threading.Event().wait(0.05)
    raise AssertionError("the node does not come back")


def _is_on(cluster: Cluster, shard: Shard, node: Server) -> bool:
    return cluster.owner(key_slot(shard.own)) is node
