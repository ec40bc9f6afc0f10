"""Claims and renewals: who may advance which run."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from flowkit.records import AnyOf, Claimed, Exactly, Grant, Lease, LeaseState, Want
from flowkit_redis import answers, outbox
from flowkit_redis.asking import Asker
from flowkit_redis.failures import NO_ANSWER
from flowkit_redis.keys import Shard, decoded, encoded, lane_of
from flowkit_redis.opening import Opened
from flowkit_redis.packing import Word

RENEWED_AT_ONCE = 200


def lanes_of(want: AnyOf) -> list[bytes]:
    """The lanes that a claim looks at, each once. Others are not even seen (rule X4)."""
    return list(dict.fromkeys(lane_of(queue, task) for queue in want.queues for task in want.tasks))


def claim(opened: Opened, grant: Grant, want: Want, limit: int, now: Word) -> Claimed:
    """Lease runs that are ready, due, or left by their owner."""
    if isinstance(want, Exactly):
        return _one(opened, grant, want.run_id, limit, now)
    shards = opened.layout.shards
    leases: list[Lease] = []
    dues: list[int] = []
    failure: Exception | None = None
    now_ms = 0
    for shard in _from(shards, grant.token):
        try:
            claimed = _any(opened, shard, (grant, want), limit - len(leases), now)
        except NO_ANSWER as error:
            failure = error  # a shard whose server is down does not keep the others from being worked on
            continue
        leases += claimed.leases
        now_ms = max(now_ms, claimed.now_ms)
        if claimed.next_due_ms is not None:
            dues.append(claimed.next_due_ms)
    if failure is not None and not leases:
        raise failure
    return Claimed(tuple(leases), min(dues, default=None), now_ms)


def _from(shards: tuple[Shard, ...], token: str) -> tuple[Shard, ...]:
    """All shards, beginning with any: each is the first one equally often, so that none waits for the others."""
    first = crc32(encoded(token)) % len(shards)  # asked again it begins there again, and finds its own
    return shards[first:] + shards[:first]


def _any(opened: Opened, shard: Shard, asked: tuple[Grant, AnyOf], limit: int, now: Word) -> Claimed:
    grant, want = asked
    lanes = lanes_of(want)
    keys = [*shard.common, shard.key(b"ct:", grant.token), *(key for lane in lanes for key in shard.of_lane(lane))]
    answer = opened.link.run(shard.number, "claim", keys, [*_grant_words(grant, limit, now), *lanes])
    if answer[3]:
        outbox.try_to_pump(opened, shard)
    return _claimed(opened, grant, answer)


def _one(opened: Opened, grant: Grant, run_id: str, limit: int, now: Word) -> Claimed:
    shard = opened.layout.of(run_id)
    asker = Asker(opened, shard, [run_id], [shard.key(b"ct:", grant.token)])
    return _claimed(opened, grant, asker.ask("claim_one", [*_grant_words(grant, limit, now), encoded(run_id)]))


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
            answer = Asker(opened, shard, [leases[at].run_id for at in some]).ask("renew", words)
            states.update(zip(some, answers.lease_states(answer), strict=True))
    return [states[at] for at in range(len(leases))]
