"""Claims and renewals: who may advance which run."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from flowkit.records import AnyOf, Claimed, Exactly, Grant, Lease, LeaseState, Want
from flowkit_redis import answers, homes, outbox
from flowkit_redis.asking import Asker
from flowkit_redis.failures import NO_ANSWER
from flowkit_redis.keys import Shard, decoded, encoded, lane_of
from flowkit_redis.opening import Opened
from flowkit_redis.packing import Word

RENEWED_AT_ONCE = 200
_WHEN_AT, _TOLD_AT = 3, 4  # in the answer of claim_one.lua


def lanes_of(want: AnyOf) -> list[bytes]:
    """The lanes that a claim looks at, each once. Others are not even seen (rule X4)."""
    return list(dict.fromkeys(lane_of(queue, task) for queue in want.queues for task in want.tasks))


def claim(opened: Opened, grant: Grant, want: Want, limit: int, now: Word) -> Claimed:
    """Lease runs that are ready, due, or left by their owner."""
    if isinstance(want, Exactly):
        return _one(opened, grant, want.run_id, limit, now)
    look = _Look(opened, grant, want, limit, now)
    look.over_shards()
    if look.carried and not look.leases:
        look.over_shards()  # what was carried over may stand in a shard that was asked before
    if look.failure is not None and not look.leases:
        raise look.failure
    return Claimed(tuple(look.leases.values()), min(look.dues, default=None), look.now_ms)


class _Look:
    """A claim that looks into each shard."""

    def __init__(self, opened: Opened, grant: Grant, want: AnyOf, limit: int, now: Word) -> None:
        self._opened = opened
        self._grant = grant
        self._lanes = lanes_of(want)
        self._limit = limit
        self._now = now
        self.leases: dict[str, Lease] = {}
        self.dues: list[int] = []
        self.failure: Exception | None = None
        self.now_ms = 0
        self.carried = False

    def over_shards(self) -> None:
        """Ask one after the other for what is missing yet. Who has enough looks again as soon as there is room."""
        self.dues.clear()
        for shard in _from(self._opened.layout.shards, self._grant.token):
            if self.leases and len(self.leases) >= self._limit:
                break
            try:
                self._into(shard)
            except NO_ANSWER as error:
                self.failure = error  # a shard whose server is down does not keep the others from being worked on

    def _into(self, shard: Shard) -> None:
        opened, lanes = self._opened, self._lanes
        keys = [*shard.common, shard.key(b"ct:", self._grant.token)]
        keys += (key for lane in lanes for key in shard.of_lane(lane))
        words = [*_grant_words(self._grant, self._limit - len(self.leases), self._now), *lanes]
        answer = opened.link.run(shard.number, "claim", keys, words)
        self._add(_claimed(opened, self._grant, answer))
        letters, passes = answer[3:]
        for run_id, lane in passes:
            opened.lanes.learn(decoded(run_id), lane)
            try:
                self._add(_by_pass(opened, self._grant, shard, (run_id, lane), self._now))
            except NO_ANSWER as error:
                self.failure = error  # its place is free again when the lease would have ended
        if letters:
            self.carried |= outbox.try_to_pump(opened, shard)

    def _add(self, claimed: Claimed) -> None:
        self.leases.update((lease.run_id, lease) for lease in claimed.leases)
        self.now_ms = max(self.now_ms, claimed.now_ms)
        if claimed.next_due_ms is not None:
            self.dues.append(claimed.next_due_ms)


def _from(shards: tuple[Shard, ...], token: str) -> tuple[Shard, ...]:
    """All shards, beginning with any: each is the first one equally often, so that none waits for the others."""
    first = crc32(encoded(token)) % len(shards)  # asked again it begins there again, and finds its own
    return shards[first:] + shards[:first]


def _one(opened: Opened, grant: Grant, run_id: str, limit: int, now: Word) -> Claimed:
    shard = opened.layout.of(run_id)
    asker = Asker(opened, shard, [run_id], [shard.key(b"ct:", grant.token)])
    words = [*_grant_words(grant, limit, now), encoded(run_id)]
    answer = asker.ask("claim_one", words)
    if len(answer) > _TOLD_AT:  # its places are counted elsewhere
        home, *told = answer[_TOLD_AT]
        (has_place,) = homes.tell(opened, int(home), [told], now)
        if has_place:
            return _by_pass(opened, grant, opened.layout.shards[int(home)], (encoded(run_id), told[2]), now)
    return _claimed(opened, grant, answer)


def _by_pass(opened: Opened, grant: Grant, home: Shard, guest: tuple[bytes, bytes], now: Word) -> Claimed:
    """Lease a run that was given a place by its home, or say there why it does not need one."""
    name, lane = guest
    run_id = decoded(name)
    shard = opened.layout.of(run_id)
    asker = Asker(opened, shard, [run_id], [shard.key(b"ct:", grant.token)])
    answer = asker.ask("claim_one", [*_grant_words(grant, 1, now), name, 1])
    claimed = _claimed(opened, grant, answer)
    if len(answer) > _TOLD_AT:
        homes.tell(opened, home.number, [answer[_TOLD_AT][1:]], now)
    elif not claimed.leases:
        homes.tell(opened, home.number, [homes.gone(name, lane, encoded(grant.token), answer[_WHEN_AT])], now)
    return claimed


def _grant_words(grant: Grant, limit: int, now: Word) -> tuple[Word, ...]:
    return now, encoded(grant.token), encoded(grant.worker), grant.lease_ms, limit


def _claimed(opened: Opened, grant: Grant, answer: answers.Answer) -> Claimed:
    now_ms, next_due_ms, granted = answer[:3]
    leases = []
    for name, fence, crashes, lane in granted:
        run_id = decoded(name)
        opened.lanes.learn(run_id, lane)
        leases.append(Lease(run_id, grant.token, fence, crashes))
    return Claimed(tuple(leases), next_due_ms, now_ms)


def renew(opened: Opened, leases: Sequence[Lease], lease_ms: int, now: Word) -> list[LeaseState]:
    """Extend leases that are still held."""
    states: dict[int, LeaseState] = {}
    for shard in opened.layout.shards:
        places = [at for at, lease in enumerate(leases) if opened.layout.of(lease.run_id) is shard]
        for begin in range(0, len(places), RENEWED_AT_ONCE):
            some = places[begin : begin + RENEWED_AT_ONCE]
            words: list[Word] = [now, lease_ms]
            for at in some:
                words += (encoded(leases[at].run_id), encoded(leases[at].owner), leases[at].fence)
            answer, held = Asker(opened, shard, [leases[at].run_id for at in some]).ask("renew", words)
            homes.tell_all(opened, held, now)  # before anybody relies on it: a place lasts as long as its lease
            states.update(zip(some, answers.lease_states(answer), strict=True))
    return [states[at] for at in range(len(leases))]
