"""The homes of limits on a Cluster: the shards that count places, whoever dies, and whatever they forget."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest
from redis.crc import key_slot

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
