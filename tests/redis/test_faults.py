"""Connections that break at the worst moment, servers that forget, fill up and restart: nothing lost, nothing twice."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from attrs import evolve

from flowkit.patience import PatientStorage
from flowkit.records import (
    AnyOf,
    Commit,
    Delivery,
    Done,
    Finish,
    Grant,
    Lease,
    LeaseState,
    Message,
    MessageKind,
    NewRun,
    RunQuery,
    RunStatus,
    Suspend,
    Verdict,
)
from flowkit_redis import RedisStorage, redis_storage
from flowkit_redis.failures import NO_ANSWER, NotNow
from flowkit_redis.waiting import Ears
from flowkit_testing.proxy import Fault, Proxy
from flowkit_testing.redis_audit import audit
from flowkit_testing.servers import Server
from tests.redis.conftest import HOUR_MS, born

ANY = AnyOf(("task",))


@pytest.fixture
def proxy(flowkit_redis_server: Server) -> Iterator[Proxy]:
    """The way to the shared server that a test may disturb."""
    with Proxy(flowkit_redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def near(storage: RedisStorage) -> RedisStorage:
    """A storage that nothing disturbs."""
    return storage


@pytest.fixture
def far(url: str, proxy: Proxy, flowkit_redis_server: Server) -> Iterator[PatientStorage]:
    """A storage on the same data behind the proxy, asked with patience as flowkit asks."""
    there = url.replace(f":{flowkit_redis_server.port}/", f":{proxy.port}/") + "&timeout=0.5"
    storage = PatientStorage(redis_storage(there), 20.0, lambda _: None)
    storage.open()
    yield storage
    proxy.release()
    storage.close()


def write(lease: Lease, base: int, *entries: bytes, finish: bool = False, **more: tuple[object, ...]) -> Commit:
    """A commit under a lease."""
    end = {"then": Finish(RunStatus.SUCCEEDED, b"result")} if finish else {}
    return Commit(lease.run_id, lease.owner, lease.fence, f"commit-{base}", base, entries, **more, **end)  # type: ignore[arg-type]  # a few fields


def entries(storage: RedisStorage, run_id: str = "run") -> tuple[bytes, ...]:
    """The journal."""
    snapshot = storage.load(run_id)
    assert snapshot is not None
    return snapshot.entries


def lengths(verdicts: list[Verdict]) -> list[int]:
    """How long the journals are after commits that were applied."""
    return [verdict.length for verdict in verdicts if isinstance(verdict, Done)]


each_fault = pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name.lower())


@each_fault
class TestLostConnections:
    """D7: whatever breaks on the way, what was asked happens once, and the answer is the same."""

    def test_a_step(self, fault: Fault, proxy: Proxy, near: RedisStorage, far: PatientStorage) -> None:
        """The entry is in the journal, once."""
        lease = born(far)
        assert type(far.commit([write(lease, 0, b"one")])[0]) is Done
        proxy.arm(fault, b"EVALSHA")

        (verdict,) = far.commit([write(lease, 1, b"two")])

        assert proxy.happened
        assert isinstance(verdict, Done)
        assert verdict.length == 2
        assert entries(near) == (b"one", b"two")

    def test_an_end_with_children(self, fault: Fault, proxy: Proxy, near: RedisStorage, far: PatientStorage) -> None:
        """E3: the run is finished, its child is there once."""
        lease = born(far)
        proxy.arm(fault, b"EVALSHA")

        (verdict,) = far.commit([write(lease, 0, b"last", finish=True, spawn=(NewRun("child", "task", b""),))])

        assert proxy.happened
        assert isinstance(verdict, Done)
        counts = near.stats()
        assert {status: n for status, n in counts.by_status.items() if n} == {
            RunStatus.SUCCEEDED: 1,
            RunStatus.PENDING: 1,
        }
        assert [each.ready for each in counts.queues] == [1]

    def test_a_claim(self, fault: Fault, proxy: Proxy, near: RedisStorage, far: PatientStorage) -> None:
        """X1: what was granted is granted to whoever asked; the other run stays for others."""
        near.submit([NewRun(run_id, "task", b"") for run_id in ("a", "b")])
        proxy.arm(fault, b"EVALSHA")

        claimed = far.claim(Grant("worker", "token", HOUR_MS), ANY, 1)

        assert proxy.happened
        assert [lease.run_id for lease in claimed.leases] == ["a"]
        others = near.claim(Grant("other", "another", HOUR_MS), ANY, 5)
        assert [lease.run_id for lease in others.leases] == ["b"]

    def test_a_run_born_claimed(self, fault: Fault, proxy: Proxy, near: RedisStorage, far: PatientStorage) -> None:
        """X1: it exists once, and is leased to whoever asked."""
        born(far, "before")
        proxy.arm(fault, b"EVALSHA")

        lease = born(far)

        assert proxy.happened
        assert near.renew("worker", [lease], HOUR_MS) == [LeaseState(held=True)]
        assert len(near.list_runs(RunQuery()).headers) == 2

    def test_a_message(self, fault: Fault, proxy: Proxy, near: RedisStorage, far: PatientStorage) -> None:
        """E5: it is received once, and its sender is told so."""
        near.submit([NewRun("run", "task", b"")])
        far.send("run", Message("before", MessageKind.EVENT, "event", b"w"))  # the first one asks for its queue, too
        proxy.arm(fault, b"EVALSHA")

        assert far.send("run", Message("id", MessageKind.EVENT, "event", b"x")) is Delivery.DELIVERED

        assert proxy.happened
        snapshot = near.load("run")
        assert snapshot is not None
        assert [message.payload for message in snapshot.inbox] == [b"w", b"x"]

    def test_reading(self, fault: Fault, proxy: Proxy, far: PatientStorage) -> None:
        """A read is made again."""
        born(far)
        proxy.arm(fault, b"EVALSHA")

        snapshot = far.load("run")

        assert proxy.happened
        assert snapshot is not None
        assert snapshot.input == b"input"

    def test_a_renewal(self, fault: Fault, proxy: Proxy, near: RedisStorage, far: PatientStorage) -> None:
        """X1: it may fail, for the heartbeat asks again; the lease is not lost by it, and nobody else's."""
        lease = born(far)
        proxy.arm(fault, b"EVALSHA")

        with contextlib.suppress(*NO_ANSWER):
            far.renew("worker", [lease], HOUR_MS)

        assert proxy.happened
        assert far.insist("renew", lambda: far.renew("worker", [lease], HOUR_MS)) == [LeaseState(held=True)]
        assert near.claim(Grant("other", "another", HOUR_MS), ANY, 1).leases == ()

    def test_a_wait(self, fault: Fault, proxy: Proxy, near: RedisStorage, far: PatientStorage) -> None:
        """E4, E5: the run waits once, for what it was to wait for; what it has received is received."""
        lease = born(far)
        far.send("run", Message("first", MessageKind.EVENT, "event", b"x"))
        waits = Suspend(wake_at_ms=10**15, inbox_at_least=1)
        proxy.arm(fault, b"EVALSHA")

        (verdict,) = far.commit([evolve(write(lease, 0, b"one"), consume=("first",), then=waits)])

        assert proxy.happened
        assert isinstance(verdict, Done)
        snapshot = near.load("run")
        assert snapshot is not None
        assert (snapshot.header.status, snapshot.header.wake_at_ms, snapshot.inbox) == (
            RunStatus.WAITING,
            10**15,
            (),
        )
        assert near.claim(Grant("other", "another", HOUR_MS), ANY, 1).leases == ()
        far.send("run", Message("second", MessageKind.EVENT, "event", b"y"))
        assert len(near.claim(Grant("other", "another", HOUR_MS), ANY, 2).leases) == 1

    def test_a_run_that_is_reopened(self, fault: Fault, proxy: Proxy, near: RedisStorage, far: PatientStorage) -> None:
        """X2: it is ready once, and its sender is told so."""
        lease = born(far)
        far.commit([evolve(write(lease, 0, b"one"), then=Finish(RunStatus.FAILED, b"error"))])
        assert (
            far.send("run", Message("late", MessageKind.EVENT)) is Delivery.CLOSED
        )  # this one asks for its queue, too
        proxy.arm(fault, b"EVALSHA")

        assert far.send("run", Message("again", MessageKind.REOPEN)) is Delivery.DELIVERED

        assert proxy.happened
        assert [each.ready for each in near.stats().queues] == [1]
        assert len(near.claim(Grant("other", "another", HOUR_MS), ANY, 2).leases) == 1

    def test_forgetting(self, fault: Fault, proxy: Proxy, near: RedisStorage, far: PatientStorage) -> None:
        """X3: what is old is forgotten, and nothing else."""
        for run_id in ("old", "older"):
            far.commit([write(born(far, run_id), 0, b"x", finish=True)])
        born(far)
        proxy.arm(fault, b"EVALSHA")

        far.purge(10**15)

        assert proxy.happened
        assert [header.run_id for header in near.list_runs(RunQuery()).headers] == ["run"]

    def test_a_shared_value(self, fault: Fault, proxy: Proxy, near: RedisStorage, far: PatientStorage) -> None:
        """A write whose answer is lost may have happened, once; whoever reads it again can go on from there."""
        far.insist("set", lambda: far.compare_and_set("key", 0, b"first"))
        assert near.get("key") == (b"first", 1)
        proxy.arm(fault, b"EVALSHA")

        with contextlib.suppress(*NO_ANSWER):
            far.compare_and_set("key", 1, b"second")

        assert proxy.happened
        found = near.get("key")
        assert found in {(b"first", 1), (b"second", 2)}
        assert found is not None
        far.insist("set", lambda: far.compare_and_set("key", found[1], b"third"))
        assert near.get("key") == (b"third", found[1] + 1)


def test_a_late_answer_is_not_taken_for_another_ones(proxy: Proxy, far: PatientStorage, near: RedisStorage) -> None:
    """D7: a connection on which an answer is outstanding is not used again."""
    lease, other = born(far), born(far, "other")
    proxy.arm(Fault.HOLD_REPLY, b"EVALSHA")
    with ThreadPoolExecutor() as pool:
        late = pool.submit(far.commit, [write(lease, 0, b"one", b"two", b"three")])
        proxy.wait()
        assert lengths(far.commit([write(other, 0, b"x")])) == [1]
        proxy.release()
        assert lengths(late.result()) == [3]
    assert (len(entries(near)), len(entries(near, "other"))) == (3, 1)


def test_all_connections_killed(flowkit_redis_server: Server, near: RedisStorage) -> None:
    """CLIENT KILL between two steps is not noticed; waiters come back at once and find work again."""
    lease = born(near)
    for base in range(3):
        flowkit_redis_server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert lengths(near.commit([write(lease, base, b"entry")])) == [base + 1]
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(_listen_twice, near)
        while b"cmd=blpop" not in flowkit_redis_server.ask("CLIENT", "LIST"):
            pass
        flowkit_redis_server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        near.submit([NewRun("next", "task", b"")])
        waiting.result(timeout=50)
    assert [lease.run_id for lease in near.claim(Grant("w", "t", HOUR_MS), ANY, 1).leases] == ["next"]


def _listen_twice(storage: RedisStorage) -> None:
    """Wait for work as a worker does, which shrugs off errors."""
    for _ in range(2):
        try:
            storage.wait_for_work(ANY, 60.0)
        except Exception:  # noqa: BLE001  # as a worker does
            logging.getLogger(__name__).debug("no hints")
        else:
            return


def test_forgotten_scripts_are_taught_again(flowkit_redis_server: Server, near: RedisStorage) -> None:
    """SCRIPT FLUSH costs a round trip, nothing else; every operation survives it."""
    lease = born(near)
    calls: list[Callable[[], object]] = [
        lambda: near.commit([write(lease, 0, b"one")]),
        lambda: near.renew("worker", [lease], HOUR_MS),
        lambda: near.send("run", Message("id", MessageKind.EVENT)),
        lambda: near.load("run"),
        lambda: near.submit([NewRun("next", "task", b"")]),
        lambda: near.claim(Grant("worker", "token", HOUR_MS), ANY, 1),
        lambda: near.commit([write(lease, 1, b"two", finish=True)]),
        near.stats,
        lambda: near.list_runs(RunQuery()),
        lambda: near.compare_and_set("key", 0, b"value"),
        lambda: near.purge(10**15),
    ]
    for call in calls:
        flowkit_redis_server.ask("SCRIPT", "FLUSH")
        assert call()
    assert near.load("run") is None


def test_a_full_server_takes_nothing_by_halves() -> None:
    """Memory full with noeviction: a write is refused up front, whole; what makes room still works."""
    with Server() as server:
        storage = redis_storage(server.url)
        storage.open()
        lease, old = born(storage), born(storage, "old")
        storage.commit([write(old, 0, b"x", finish=True)])
        storage.commit([write(lease, 0, b"one")])
        server.ask("CONFIG", "SET", "maxmemory", "1mb")
        before = storage.list_runs(RunQuery()).headers

        refused = [
            write(lease, 1, b"two"),
            write(lease, 1, b"two", finish=True, spawn=(NewRun("child", "task", b""),), consume=("id",)),
        ]
        for commit in refused:
            with pytest.raises(NotNow, match=r"no memory left, so it takes no writes .* raise its maxmemory"):
                storage.commit([commit])
        with pytest.raises(NotNow, match="no memory left"):
            storage.submit([NewRun("new", "task", b"")])
        assert storage.list_runs(RunQuery()).headers == before
        assert entries(storage) == (b"one",)
        assert storage.renew("worker", [lease], HOUR_MS) == [LeaseState(held=True)]
        assert storage.purge(10**15) == 1

        server.ask("CONFIG", "SET", "maxmemory", "0")
        assert lengths(storage.commit([refused[1]])) == [2]
        assert audit(storage) == []
        storage.close()


def test_a_killed_server_has_all_that_it_acknowledged() -> None:
    """D1: with an append-only file a killed server loses nothing that was acknowledged, and writers go on after it."""
    with Server(appendonly="yes", appendfsync="always") as server:
        storage = PatientStorage(redis_storage(f"{server.url}?durability=disk"), 50.0)
        storage.open()
        lease = born(storage)
        for base in range(50):
            if base in {10, 30}:
                server.kill()
                server.start()
            (verdict,) = storage.commit([write(lease, base, b"%d" % base)])
            assert isinstance(verdict, Done)
        snapshot = storage.load("run")
        assert snapshot is not None
        assert snapshot.entries == tuple(b"%d" % n for n in range(50))
        storage.close()


def test_a_wait_that_ends_as_the_storage_closes(near: RedisStorage) -> None:
    """Its connection is not kept for a next wait, whichever of the two is first."""
    waiting = near.opened.waiting

    class Idle(deque[Ears]):
        """The moment before a connection is kept."""

        def append(self, ears: Ears) -> None:
            waiting.close()
            super().append(ears)

    waiting._idle = Idle()  # noqa: SLF001  # the moment cannot be met from outside
    assert waiting.for_news(b"channel", lambda: "news", 60.0) == "news"
    assert not waiting._idle  # noqa: SLF001  # as above
