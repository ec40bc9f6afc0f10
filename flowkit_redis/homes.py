"""Limits over shards: what the shard that counts a run's places is told (see `scripts/homes.lua` for how it counts)."""

from __future__ import annotations

from collections.abc import Sequence

from flowkit_redis.opening import Opened
from flowkit_redis.wire import Word

TURN = b"turn"  # the lease of an owner has ended
_LANE_AT = 2

Told = Sequence[Word]  # what, id, lane, priority, number, places, limit, since, when, owner, ms: as host.lua has it


def tell(opened: Opened, home: int, told: Sequence[Told], now: Word) -> list[bool]:
    """Tell a home of runs; for each of them whether its owner has a place now."""
    shard = opened.layout.shards[home]
    keys = dict.fromkeys(shard.common)
    words: list[Word] = [now]
    for one in told:
        lane = one[_LANE_AT]
        assert isinstance(lane, bytes)
        keys.update(dict.fromkeys(shard.of_lane(lane)))
        words += one
    return [answer == 1 for answer in opened.link.run(home, "host", list(keys), words)]


def tell_all(opened: Opened, told: Sequence[Sequence[bytes]], now: Word) -> None:
    """Tell homes, whose numbers stand before what they are told."""
    by_home: dict[int, list[Told]] = {}
    for home, *words in told:
        by_home.setdefault(int(home), []).append(words)
    for home_number, its in by_home.items():
        tell(opened, home_number, its, now)


def gone(run_id: bytes, lane: bytes, token: bytes, when: int) -> Told:
    """A run that wanted no place when its own shard was asked."""
    return (TURN, run_id, lane, 0, 0, 0, b"", 0, when, token, 0)
