"""Creating runs: those of one shard in one change."""

from __future__ import annotations

from collections.abc import Sequence

from flowkit.records import Created, Exactly, Exists, Lease, NewRun, Submitted
from flowkit_redis import answers, claims, outbox
from flowkit_redis.keys import Shard
from flowkit_redis.opening import Opened
from flowkit_redis.packing import Word, run_words


def create(opened: Opened, shard: Shard, runs: Sequence[NewRun], now: Word) -> list[Submitted]:
    """Create runs of one shard whose ids are free."""
    keys = dict.fromkeys(shard.common)
    words: list[Word] = [now]
    afar = set[int]()
    for at, new in enumerate(runs):
        home = opened.layout.home(new)
        if home is not None:
            afar.add(at)
        keys.update(dict.fromkeys(shard.of_new(new)))
        words += run_words(new, home)
    now_ms, *told = opened.link.run(shard.number, "submit", list(keys), words)
    submitted: list[Submitted] = []
    for at, (new, kind, header) in enumerate(zip(runs, told[::2], told[1::2], strict=True)):
        opened.lanes.learn(new.run_id, header[2])
        if kind == 0:
            submitted.append(Created(_claimed(opened, new, now) if at in afar else _born(new, header), now_ms))
        else:
            submitted.append(Exists(answers.header(header), now_ms))
    if afar:
        outbox.try_to_pump(opened, shard)
    return submitted


def _born(new: NewRun, header: answers.Answer) -> Lease | None:
    return None if new.grant is None else answers.born(header)


def _claimed(opened: Opened, new: NewRun, now: Word) -> Lease | None:
    """A run whose places are counted elsewhere is born ready, and claimed as soon as it exists."""
    if new.grant is None:
        return None
    leases = claims.claim(opened, new.grant, Exactly(new.run_id), 1, now).leases
    return leases[0] if leases else None
