"""A master and a replica behind a Sentinel: the contract's core, failover under load, a replica that lacks writes."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest

from flowkit import Flow, RunHandle, RunStatus, step, task
from flowkit.errors import ConfigurationError, StorageError
from flowkit.patience import PatientStorage
from flowkit.records import AnyOf, Commit, Fenced, Gap, Grant, NewRun
from flowkit.storage import Storage
from flowkit_redis import RedisStorage, redis_storage
from flowkit_testing import redis_audit
from flowkit_testing.auditor import EffectLog, audit, ended
from flowkit_testing.clusters import Watched, until
from flowkit_testing.contract.committing import Committing
from flowkit_testing.contract.leasing import Leasing
from flowkit_testing.contract.resending import Resending
from flowkit_testing.contract.waiting import Waiting
from tests.redis.conftest import HOUR_MS, born

T = TypeVar("T")
_numbers = count()
_watched: list[Watched] = []
ANY = AnyOf(("task",))
IDLE_S = 20.0  # an idle worker that finds work later than this is deaf


@pytest.fixture(scope="module", autouse=True)
def sound() -> Iterator[Watched]:
    """A master, a replica and a Sentinel that no test does harm to."""
    with Watched() as started:
        _watched.append(started)
        yield started
        _watched.remove(started)


@pytest.fixture
def watched() -> Iterator[Watched]:
    """A master, a replica and a Sentinel of the test's own."""
    with Watched() as started:
        yield started


@pytest.fixture
def url(watched: Watched) -> str:
    """An empty namespace."""
    return f"{watched.url}?namespace=sentinel{os.getpid()}-{next(_numbers)}"


class TestSentinel(Committing, Leasing, Resending, Waiting):
    """The parts of the contract that have to do with owners and lost answers."""

    def make_storage(self, tmp_path: Path) -> Storage:
        """A new namespace."""
        del tmp_path
        return redis_storage(f"{_watched[-1].url}?namespace=contract{next(_numbers)}")

    def another(self, storage: Storage) -> Storage:
        """As a second process would open it."""
        assert isinstance(storage, RedisStorage)
        other = storage.sibling()
        other.open()
        return other


def patient(ask: Callable[[], T]) -> T:
    """Ask as the core does: again, while there is no answer."""
    return PatientStorage(redis_storage("redis://nowhere"), 60.0).insist("ask", ask)


def outcome(handle: RunHandle[T]) -> T:
    """The result of a run. A failover may take longer than a client asks whose lease is short, so it is asked again."""
    while True:
        with contextlib.suppress(StorageError):
            return handle.result(timeout=90)


def test_a_failover_under_load(watched: Watched, url: str, effects: EffectLog) -> None:
    """Runs that were acknowledged end, after steps that the replica lacked were made again; nobody is deaf."""

    @step
    def work(number: int) -> str:
        return effects.note(f"work {number}")

    @task(id="failing-over")
    def many(number: int) -> int:
        for each in range(20):
            work(number + each)
        return number

    with Flow(url, lease="3s", worker=True, concurrency=8) as flow:
        handles = [flow.start(many, number) for number in range(24)]
        watched.caught_up()  # what a replica has not, a failover may lose: the level says so
        watched.fail_over()
        assert [outcome(handle) for handle in handles] == list(range(24))
        assert flow.start(many, 99).result(timeout=IDLE_S) == 99
        until(lambda: ended(flow.engine.storage))
        storage = redis_storage(url)
        storage.open()
        report = audit(storage, acknowledged=[one.id for one in handles], effects=effects.read(), frozen=True)
        report.assert_clean()
        storage.close()


def test_a_replica_that_lacks_writes(watched: Watched, url: str) -> None:
    """D4, D7: what the promoted server has not seen shows as a gap, or as a lease that it knows nothing of."""
    storage = redis_storage(url)
    storage.open()
    longer = born(storage, "longer")
    storage.submit([NewRun("claimed-later", "task", b"")])
    storage.commit([Commit("longer", longer.owner, longer.fence, "c0", 0, (b"seen",))])
    watched.caught_up()
    watched.cut_off_replica()
    assert watched.behind == 0
    (later,) = storage.claim(Grant("worker", "token", HOUR_MS), ANY, 5).leases
    assert later.run_id == "claimed-later"
    assert watched.behind > 0
    storage.commit([Commit("longer", longer.owner, longer.fence, "c1", 1, (b"unseen",))])
    storage.commit([Commit(later.run_id, later.owner, later.fence, "d0", 0, (b"unseen",))])

    watched.fail_over()

    gap, fenced = patient(
        lambda: storage.commit(
            [
                Commit("longer", longer.owner, longer.fence, "c2", 2, (b"too far",)),
                Commit(later.run_id, later.owner, later.fence, "d1", 1, (b"too far",)),
            ]
        )
    )
    assert gap == Gap(1)
    assert isinstance(fenced, Fenced)
    snapshot = storage.load("longer")
    assert snapshot is not None
    assert snapshot.entries == (b"seen",)
    (again,) = storage.claim(Grant("other", "another", HOUR_MS), ANY, 5).leases
    assert again.run_id == "claimed-later"
    assert again.fence > later.fence  # it comes from the clock, so also one that was lost is passed
    assert redis_audit.audit(storage) == []
    storage.close()


def test_lost_steps_are_made_again(watched: Watched, url: str, effects: EffectLog) -> None:
    """A run whose last step was lost with its server is replayed: that step again, those before it not."""
    lost = threading.Event()

    @step
    def first() -> str:
        return effects.note("first")

    @step
    def second() -> str:
        return effects.note("second")

    @step
    def third() -> str:
        if not lost.is_set():
            lost.set()
            watched.fail_over()
        return effects.note("third")

    @step
    def cut_off() -> None:
        if not lost.is_set():
            watched.caught_up()
            watched.cut_off_replica()

    @task(id="promoted")
    def body() -> list[str]:
        one = first()
        cut_off()
        return [one, second(), third()]

    with Flow(url, lease="3s", worker=True) as flow:
        handle = flow.start(body)
        tokens = outcome(handle)
        assert handle.status() is RunStatus.SUCCEEDED
    found = effects.read()
    assert [effect.name for effect in found].count("first") == 1
    assert [effect.name for effect in found].count("second") == 2
    assert tokens[1] == [effect.token for effect in found if effect.name == "second"][-1]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis+sentinel://127.0.0.1:1", "does not name the master"),
        ("redis+sentinel://127.0.0.1:1/mymaster/first", "database 'first' is no number"),
        ("redis+cluster://127.0.0.1:1/2", "a Cluster has no database 2"),
        ("redis://127.0.0.1:1,127.0.0.1:2/0", "names several servers"),
    ],
)
def test_a_url_that_cannot_be_meant(url: str, says: str) -> None:
    """The mistake is named, and what to write instead."""
    with pytest.raises(ConfigurationError, match=says):
        redis_storage(url).open()


def test_no_sentinel_answers() -> None:
    """The error tells who was asked."""
    with pytest.raises(StorageError, match=r"no Sentinel tells who the master is \(127.0.0.1:1: "):
        redis_storage("redis+sentinel://127.0.0.1:1/mymaster/0").open()


def test_a_master_that_no_sentinel_knows(sound: Watched) -> None:
    """A misspelt name is said."""
    with pytest.raises(StorageError, match="knows no master 'flowkat'"):
        redis_storage(sound.url.replace("/flowkit/", "/flowkat/")).open()
