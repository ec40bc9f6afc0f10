"""Limits on a Cluster: they hold over all shards, workers and nodes, whoever dies, and whatever a home forgets."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import accumulate, count
from pathlib import Path

import pytest
from redis.crc import key_slot

from flowkit import Concurrency, Flow, gather, task
from flowkit.records import (
    AnyOf,
    Commit,
    Created,
    Done,
    Exactly,
    Finish,
    Grant,
    Lease,
    Limit,
    Message,
    MessageKind,
    NewRun,
    RunStatus,
    Suspend,
    Then,
    Yield,
)
from flowkit_redis import RedisStorage, homes, outbox, redis_storage
from flowkit_redis.keys import Shard
from flowkit_testing.clusters import Cluster, until
from flowkit_testing.redis_audit import audit
from tests.redis import limited_child

ANY = AnyOf(("task",))
ONE = Limit(1)
LANE = b"7:default:task"
T0 = 1_700_000_000_000
LEASE_MS = 1_000
MINUTE_MS = 60_000


@pytest.fixture
def url(cluster_url: str) -> str:
    """All of this is about a Cluster."""
    return cluster_url


def afar(storage: RedisStorage, name: str = "run", limit: Limit = ONE) -> str:
    """An id that begins so, of a run whose places are counted in another shard."""
    layout = storage.opened.layout
    ids = (f"{name}-{number}" for number in count())
    return next(one for one in ids if layout.home(NewRun(one, "task", b"", limit=limit)))


def home(storage: RedisStorage, limit: Limit = ONE) -> Shard:
    """The shard that counts the places."""
    found = storage.opened.layout.home(NewRun(afar(storage, limit=limit), "task", b"", limit=limit))
    assert found is not None
    return found


def submit(storage: RedisStorage, *run_ids: str, now_ms: int = T0) -> None:
    """Create ready runs of one limit, each a moment after the other."""
    for age, run_id in enumerate(run_ids):
        storage.submit([NewRun(run_id, "task", b"", limit=ONE)], now_ms=now_ms + age)


def claim(storage: RedisStorage, token: str, now_ms: int = T0 + 10, lease_ms: int = LEASE_MS) -> list[Lease]:
    """What a worker gets."""
    return list(storage.claim(Grant("worker", token, lease_ms), ANY, 10, now_ms=now_ms).leases)


def write(storage: RedisStorage, lease: Lease, then: Then, now_ms: int = T0 + 10) -> None:
    """Let go of a run."""
    (verdict,) = storage.commit(
        [Commit(lease.run_id, lease.owner, lease.fence, f"c-{lease.owner}", 0, then=then)], now_ms=now_ms
    )
    assert isinstance(verdict, Done)


def finish(storage: RedisStorage, lease: Lease, now_ms: int = T0 + 10) -> None:
    """End a run."""
    write(storage, lease, Finish(RunStatus.SUCCEEDED, b""), now_ms)


class TestHomes:
    """A run's own shard is right about the run; its home only counts, and is put right when it is wrong."""

    def test_a_guest_that_wants_nothing_is_dismissed(self, storage: RedisStorage) -> None:
        """A letter that is carried over long after its time leaves a guest, which holds up nobody for long."""
        first, second = afar(storage, "first"), afar(storage, "second")
        submit(storage, first)
        letters = self._letters_of(storage, lambda: submit(storage, second))
        (lease,) = claim(storage, "one", T0 + 5)
        finish(storage, lease)
        self._carry(storage, letters)
        (lease,) = claim(storage, "two")
        assert lease.run_id == second
        finish(storage, lease)

        self._carry(storage, letters)

        third = afar(storage, "third")
        submit(storage, third, now_ms=T0 + 20)
        claimed = [lease.run_id for token in "ab" for lease in claim(storage, token, T0 + 30)]
        assert claimed == [third]

    @staticmethod
    def _letters_of(storage: RedisStorage, act: Callable[[], None]) -> list[tuple[int, bytes]]:
        """What lies in outboxes after an act, since nobody carries it over."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(outbox, "pump", lambda *_: False)
            act()
        opened = storage.opened
        return [
            (shard.number, letter)
            for shard in opened.layout.shards
            for letter in opened.link.command(shard.number, b"LRANGE", shard.prefix + b"out", 0, -1)
        ]

    @staticmethod
    def _carry(storage: RedisStorage, letters: list[tuple[int, bytes]]) -> None:
        """Carry letters over, again if they were before."""
        opened = storage.opened
        for number, letter in letters:
            its = opened.layout.shards[number]
            opened.link.command(number, b"LREM", its.prefix + b"out", 0, letter)
            opened.link.command(number, b"RPUSH", its.prefix + b"out", letter)
            outbox.pump(opened, its)

    @pytest.mark.parametrize("then", [Finish(RunStatus.SUCCEEDED, b""), Suspend(wake_at_ms=T0 + 500), Yield()])
    def test_a_worker_that_dies_after_its_commit(self, storage: RedisStorage, then: Then) -> None:
        """The place is given back by whoever claims next, for the letter lies with the commit."""
        held, waits = afar(storage, "held"), afar(storage, "waits")
        submit(storage, held, waits)
        (lease,) = claim(storage, "one")
        assert lease.run_id == held
        letters = self._letters_of(storage, lambda: write(storage, lease, then))
        assert len(letters) == 1

        (lease,) = claim(storage, "two")
        assert lease.run_id == waits
        finish(storage, lease)
        if not isinstance(then, Finish):
            (lease,) = claim(storage, "three", T0 + 900)
            finish(storage, lease, T0 + 900)

    def test_a_worker_that_dies_with_a_place_before_it_has_the_run(self, storage: RedisStorage) -> None:
        """The place is free when the lease would have ended, and the run is claimed as if nothing had been."""
        run_id = afar(storage)
        submit(storage, run_id)
        self._take_place_alone(storage, run_id)

        assert claim(storage, "early", T0 + LEASE_MS - 1) == []
        (lease,) = claim(storage, "late", T0 + LEASE_MS)
        assert lease.run_id == run_id
        finish(storage, lease, T0 + LEASE_MS)

    @staticmethod
    def _take_place_alone(storage: RedisStorage, run_id: str) -> None:
        """The first half of a claim by `dead`."""
        shard = home(storage)
        keys = [*shard.common, shard.key(b"ct:", "dead"), *shard.of_lane(LANE)]
        answer = storage.opened.link.run(shard.number, "claim", keys, [T0, b"dead", b"worker", LEASE_MS, 10, LANE])
        assert answer[4] == [[run_id.encode(), LANE]]

    def test_a_run_that_asks_while_it_is_said_to_want_nothing(self, storage: RedisStorage) -> None:
        """Its own shard was asked before it asked for a place: what it said last counts."""
        run_id = afar(storage)
        submit(storage, run_id)
        self._take_place_alone(storage, run_id)

        homes.tell(storage.opened, home(storage).number, [homes.gone(run_id.encode(), LANE, b"dead", 1)], T0)

        (lease,) = claim(storage, "next", T0 + 1)
        finish(storage, lease)

    def test_a_clock_that_was_set_back(self, storage: RedisStorage) -> None:
        """A guest that asked by a clock which was ahead, and wants nothing, is handed out once more and then gone."""
        run_id = afar(storage)
        submit(storage, run_id)
        (lease,) = claim(storage, "one")
        finish(storage, lease)
        asks = (homes.TURN, run_id.encode(), LANE, 0, 1, 1, b"", T0, 2**52, b"", 1)
        homes.tell(storage.opened, home(storage).number, [asks], T0)

        for token in "ab":
            assert claim(storage, token) == []

        assert storage.opened.link.command(home(storage).number, b"HLEN", home(storage).prefix + b"gu") == 0

    def test_an_owner_that_is_late_to_say_that_it_has_left(self, storage: RedisStorage) -> None:
        """It does not take the place away from the one who came after it."""
        run_id = afar(storage)
        submit(storage, run_id)
        claim(storage, "first")
        (lease,) = claim(storage, "second", T0 + 2 * LEASE_MS)
        late = homes.gone(run_id.encode(), LANE, b"first", 2**52)

        homes.tell(storage.opened, home(storage).number, [late], T0 + 2 * LEASE_MS)

        submit(storage, afar(storage, "waits"), now_ms=T0 + 2 * LEASE_MS)
        assert claim(storage, "third", T0 + 2 * LEASE_MS + 1) == []
        finish(storage, lease, T0 + 2 * LEASE_MS + 2)
        (lease,) = claim(storage, "fourth", T0 + 2 * LEASE_MS + 3)
        finish(storage, lease, T0 + 2 * LEASE_MS + 3)

    def test_a_claim_is_asked_again(self, storage: RedisStorage) -> None:
        """D7: the same token gets the same runs, and no others besides."""
        run_id = afar(storage)
        submit(storage, run_id, afar(storage, "other"))
        first, again = claim(storage, "token"), claim(storage, "token")
        assert first == again
        assert [lease.run_id for lease in first] == [run_id]

    def test_born_and_claimed_in_one_call(self, storage: RedisStorage) -> None:
        """A run that is to be advanced at once gets its place at once, also if it is asked for twice."""
        run_id, other = afar(storage), afar(storage, "other")
        new = NewRun(run_id, "task", b"", limit=ONE, grant=Grant("worker", "born", LEASE_MS))
        (born,), (again,) = storage.submit([new], now_ms=T0), storage.submit([new], now_ms=T0)
        assert isinstance(born, Created)
        assert born.lease is not None
        assert born == again
        (waits,) = storage.submit(
            [NewRun(other, "task", b"", limit=ONE, grant=Grant("worker", "second", LEASE_MS))], now_ms=T0
        )
        assert waits == Created(None, T0)
        finish(storage, born.lease)
        (lease,) = storage.claim(Grant("worker", "third", LEASE_MS), Exactly(other), 1, now_ms=T0 + 20).leases
        finish(storage, lease, T0 + 20)

    def test_a_home_that_has_forgotten_who_waits(self, storage: RedisStorage) -> None:
        """A server that lost its last writes is asked again, after a minute, then ever more seldom."""
        run_id = afar(storage)
        submit(storage, run_id)
        self._forget(storage)
        assert claim(storage, "early", T0 + MINUTE_MS - 1) == []

        (lease,) = claim(storage, "late", T0 + MINUTE_MS)

        assert lease.run_id == run_id
        finish(storage, lease, T0 + MINUTE_MS)

    def test_a_home_that_has_forgotten_who_holds_a_place(self, storage: RedisStorage) -> None:
        """Whoever renews a lease tells it again."""
        held, waits = afar(storage, "held"), afar(storage, "waits")
        submit(storage, held)
        (lease,) = claim(storage, "one")
        self._forget(storage)
        assert storage.renew("worker", [lease], LEASE_MS, now_ms=T0 + 20)[0].held

        submit(storage, waits, now_ms=T0 + 30)
        assert claim(storage, "two", T0 + 40) == []
        finish(storage, lease, T0 + 50)
        (lease,) = claim(storage, "three", T0 + 60)
        finish(storage, lease, T0 + 60)

    @staticmethod
    def _forget(storage: RedisStorage) -> None:
        shard = home(storage)
        keys = [shard.prefix + b"gu", *shard.of_lane(LANE)]
        storage.opened.link.command(shard.number, b"UNLINK", *keys)

    def test_a_home_that_thinks_the_lease_has_ended(self, storage: RedisStorage) -> None:
        """The run's own shard says that it is leased: nobody else gets it, and its place is taken again."""
        held, waits = afar(storage, "held"), afar(storage, "waits")
        submit(storage, held)
        (lease,) = claim(storage, "one", lease_ms=LEASE_MS)
        own = storage.opened.layout.of(held)
        words: list[bytes | int] = [T0 + 20, 10 * LEASE_MS, held.encode(), lease.owner.encode(), lease.fence]
        keys = [*own.common, *own.of_run(held), *own.of_lane(LANE)]
        storage.opened.link.run(own.number, "renew", keys, words)  # its home is not told
        assert claim(storage, "two", T0 + 2 * LEASE_MS) == []
        submit(storage, waits, now_ms=T0 + 2 * LEASE_MS)

        assert claim(storage, "three", T0 + 9 * LEASE_MS) == []

        finish(storage, lease, T0 + 9 * LEASE_MS)
        (lease,) = claim(storage, "four", T0 + 9 * LEASE_MS)
        assert lease.run_id == waits
        finish(storage, lease, T0 + 9 * LEASE_MS)

    def test_events_cancellations_and_reopening_ask_for_a_place(self, storage: RedisStorage) -> None:
        """What wakes a run sends it to its home, at once if nothing is in the way."""
        run_id = afar(storage)
        submit(storage, run_id)
        (lease,) = claim(storage, "one")
        write(storage, lease, Suspend(inbox_at_least=1))
        assert claim(storage, "nothing") == []
        for kind in (MessageKind.EVENT, MessageKind.CANCEL, MessageKind.REOPEN):
            storage.send(run_id, Message(kind.value, kind, "name"), now_ms=T0 + 20)
            (lease,) = claim(storage, kind.value, T0 + 20)
            if kind is MessageKind.EVENT:
                write(storage, lease, Suspend(inbox_at_least=5), T0 + 20)
            else:
                write(storage, lease, Finish(RunStatus.FAILED, b""), T0 + 20)


def test_a_lease_is_not_renewed_without_its_place(url: str) -> None:
    """While the shard that counts is down nobody is told that the lease goes on, so the limit is not exceeded."""
    del url
    with Cluster(appendonly="yes", appendfsync="always") as cluster:
        storage = redis_storage(f"{cluster.url}?namespace=down&connect_timeout=2")
        storage.open()
        layout = storage.opened.layout
        nodes = {shard.number: cluster.owner(key_slot(shard.own)) for shard in layout.shards}
        limit, run_id = next(
            (limit, run_id)
            for limit in (Limit(1, f"key-{n}") for n in range(50))
            for run_id in [afar(storage, limit=limit)]
            if nodes[layout.of(run_id).number] is not nodes[home(storage, limit).number]
        )
        storage.submit([NewRun(run_id, "task", b"", limit=limit)])
        (lease,) = storage.claim(Grant("worker", "token", 600_000), ANY, 1).leases
        assert storage.renew("worker", [lease], 600_000)[0].held
        victim = nodes[home(storage, limit).number]
        victim.kill()
        with pytest.raises(Exception, match=r"(?i)refused|serve|broke|closed"):
            storage.renew("worker", [lease], 600_000)
        victim.start()
        until(lambda: cluster.complete)
        until(lambda: _renewed(storage, lease))
        storage.close()


def _renewed(storage: RedisStorage, lease: Lease) -> bool:
    try:
        return storage.renew("worker", [lease], 600_000)[0].held
    except Exception:  # noqa: BLE001  # as a worker does
        return False


class Crew:
    """Workers in processes of their own."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self.folder = folder
        self.workers: list[subprocess.Popen[str]] = []

    def start(self) -> subprocess.Popen[str]:
        """One more; returns when it works."""
        command = [sys.executable, limited_child.__file__, self._url, str(self.folder)]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.workers.append(worker)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        return worker

    def marks(self) -> list[list[str]]:
        """What has begun and ended: what, limit, run, process, time."""
        file = self.folder / "marks"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def end(self) -> None:
        """Leave none behind."""
        for worker in self.workers:
            worker.kill()
            worker.communicate()


@pytest.fixture
def crew(url: str, tmp_path: Path) -> Iterator[Crew]:
    """Workers that are gone after the test."""
    crew = Crew(url, tmp_path)
    yield crew
    crew.end()


def most_at_a_time(crew: Crew, died_ns: dict[int, int]) -> dict[str, int]:
    """For each limit, how many of its steps were under way at one time, in whichever processes."""
    changes: dict[str, list[tuple[int, int]]] = {}
    under_way: dict[tuple[int, str], str] = {}
    for what, limit, run, process, at_ns in crew.marks():
        changes.setdefault(limit, []).append((int(at_ns), 1 if what == "begin" else -1))
        if what == "begin":
            under_way[int(process), run] = limit
        else:
            del under_way[int(process), run]
    for (pid, _), limit in under_way.items():
        changes[limit].append((died_ns[pid], -1))
    return {limit: max(accumulate(change for _, change in sorted(its))) for limit, its in changes.items()}


def test_limits_hold_over_workers_and_shards(crew: Crew, url: str) -> None:
    """By task, by key and by queue, under load of two workers of which one is killed while it holds places."""
    plain, keyed, closed = limited_child.task_limit, limited_child.key_limit, crew.folder / "closed"
    closed.touch()
    with Flow(url, worker=False) as flow:
        handles = [flow.start(plain, f"t{n}", "default") for n in range(24)]
        handles += [flow.start(keyed, f"k{n}", f"customer-{n % 3}") for n in range(24)]
        handles += [flow.start(plain.options(queue="other"), f"q{n}", "other") for n in range(12)]
        crew.start()
        crew.start()
        until(lambda: len(crew.marks()) == 3 * limited_child.PLACES)
        victim = max(crew.workers, key=lambda worker: sum(int(mark[3]) == worker.pid for mark in crew.marks()))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        died = {victim.pid: limited_child.now_ns()}
        crew.start()
        until(lambda: len(crew.marks()) > 3 * limited_child.PLACES)  # its places are free when its leases end
        closed.unlink()
        assert [handle.wait_for_completion(timeout=60).ok for handle in handles] == [True] * len(handles)

        most = most_at_a_time(crew, died)
        assert most.keys() == {"task:default", "task:other", *(f"key:customer-{n}" for n in range(3))}
        assert most["task:default"] == most["task:other"] == limited_child.PLACES  # reached, and never exceeded
        assert all(most[f"key:customer-{n}"] == 1 for n in range(3))
        storage = redis_storage(url)
        storage.open()
        until(lambda: audit(storage) == [])
        storage.close()


@task(id="limits-inner", concurrency=Concurrency(1, key=lambda number: number % 3))
def inner(number: int) -> int:
    """One at a time of each kind."""
    return limited_child.double(number)


@task(id="limits-outer", concurrency=1)
def outer(number: int) -> int:
    """One at a time, with children in its own place and children side by side."""
    return inner(number) + sum(gather(*(inner.bind(number + each) for each in range(3))))


def test_limited_runs_without_a_worker(url: str) -> None:
    """X1: `run` takes and leaves places by itself, and no parent waits for its own place."""
    with Flow(url, worker=False) as flow:
        assert [flow.run(outer, number) for number in range(4)] == [8 * number + 6 for number in range(4)]
    with Flow(url, worker=True, concurrency=4) as flow:
        handles = [flow.start(outer, number) for number in range(6)]
        assert [handle.result(timeout=60) for handle in handles] == [8 * number + 6 for number in range(6)]
        storage = flow.engine.storage.inner
        assert isinstance(storage, RedisStorage)
        until(lambda: audit(storage) == [])
