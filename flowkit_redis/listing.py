"""Which runs there are, newest first, and how many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flowkit.errors import StorageError
from flowkit.records import Counts, Page, QueueCount, RunHeader, RunQuery, RunStatus
from flowkit_redis import answers
from flowkit_redis.keys import STATUSES, Shard, encoded, split_lane
from flowkit_redis.opening import Opened

_SEEN_AT_ONCE = 100
_READY, _LEASED = b"r", b"l"
Numbered = tuple[int, RunHeader]


def page(opened: Opened, query: RunQuery, cursor: str | None, limit: int) -> Page:
    """One page. The cursor is the number of the last run shown, so later runs do not shift pages."""
    shown: list[Numbered] = []
    bound = _bound(cursor)
    while len(shown) <= limit:
        numbers = _newest_below(opened, query, bound)
        shown += (one for one in _headers(opened, numbers) if _fits(one[1], query))
        if len(numbers) < _SEEN_AT_ONCE:
            break
        bound = f"({numbers[-1][0]}"
    more = len(shown) > limit > 0
    shown = shown[: max(limit, 0)]
    return Page(tuple(header for _, header in shown), str(shown[-1][0]) if more else None)


def _bound(cursor: str | None) -> str:
    if cursor is None:
        return "+inf"
    if not cursor.isdecimal():
        raise StorageError(f"{cursor!r} is no cursor of this storage; pass one that an earlier page gave")
    return f"({cursor}"


def _newest_below(opened: Opened, query: RunQuery, bound: str) -> list[tuple[int, Shard, bytes]]:
    """The next numbers and ids over all shards, from the narrowest index of each."""
    found: list[tuple[int, Shard, bytes]] = []
    for shard in opened.layout.shards:
        for index in _indexes(opened, shard, query):
            words = opened.link.command(
                shard.number, b"ZREVRANGEBYSCORE", index, bound, b"-inf", b"WITHSCORES", b"LIMIT", 0, _SEEN_AT_ONCE
            )
            found += ((int(float(score)), shard, name) for name, score in zip(words[::2], words[1::2], strict=True))
    found.sort(key=lambda one: -one[0])
    return found[:_SEEN_AT_ONCE]


def _indexes(opened: Opened, shard: Shard, query: RunQuery) -> Sequence[bytes]:
    """The shortest index that holds all the runs of a query; without one, those of all statuses."""
    candidates: list[bytes] = []
    if query.status is not None:
        candidates.append(shard.by_status[STATUSES.index(query.status)])
    if query.task is not None:
        candidates.append(shard.key(b"tk:", query.task))
    if query.tag is not None:
        candidates.append(shard.key(b"tg:", query.tag))
    if len(candidates) > 1:
        candidates.sort(key=lambda index: int(opened.link.command(shard.number, b"ZCARD", index)))
    return candidates[:1] or shard.by_status


def _headers(opened: Opened, numbers: Sequence[tuple[int, Shard, bytes]]) -> Iterator[Numbered]:
    read: dict[bytes, RunHeader] = {}
    for shard in opened.layout.shards:
        names = [name for _, its, name in numbers if its is shard]
        if names:
            keys = [shard.own, *(shard.prefix + b"r:" + name for name in names)]
            for words in opened.link.run(shard.number, "headers", keys, [b"", *names]):
                if words is not None:  # it was forgotten since
                    read[words[0]] = answers.header(words)
    for number, _, name in numbers:
        if name in read:
            yield number, read[name]


def _fits(header: RunHeader, query: RunQuery) -> bool:
    return (
        query.status in (None, header.status)
        and query.task in (None, header.task)
        and (query.tag is None or query.tag in header.tags)
    )


def counts(opened: Opened) -> Counts:
    """How many runs there are of each status, and how many are ready and leased in each queue."""
    by_status = dict.fromkeys(RunStatus, 0)
    lanes: dict[tuple[str, str], dict[bytes, int]] = {}
    for shard in opened.layout.shards:
        keys = (shard.own, shard.prefix + b"cnt", *shard.by_status)
        fields, numbers = opened.link.run(shard.number, "stats", keys, ())
        for status, number in zip(STATUSES, numbers, strict=True):
            by_status[status] += number
        for field, number in zip(fields[::2], fields[1::2], strict=True):
            lane = lanes.setdefault(split_lane(field[1:]), {_READY: 0, _LEASED: 0})
            lane[field[:1]] += int(number)
    queues = (QueueCount(*name, lane[_READY], lane[_LEASED]) for name, lane in sorted(lanes.items()))
    return Counts(by_status, tuple(queues))


def header_key(shard: Shard, run_id: str) -> bytes:
    """Where a finished run's header is."""
    return shard.prefix + b"r:" + encoded(run_id)
