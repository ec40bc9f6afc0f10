"""Forgetting finished runs, a few at a time (rule X3)."""

from __future__ import annotations

from collections.abc import Sequence

from flowkit_redis import answers
from flowkit_redis.keys import Shard, indexes_of
from flowkit_redis.opening import Opened
from flowkit_redis.wire import Word

_AT_ONCE = 100
_NAME_AT = 20  # what stands before a run's id in `fin` (see `member` in places.lua)


def purge(opened: Opened, before_ms: int, limit: int) -> int:
    """Forget at most so many runs that finished before that time, the oldest of each shard first."""
    forgotten = 0
    for shard in opened.layout.shards:
        while forgotten < limit:
            size = min(limit - forgotten, _AT_ONCE)
            names = opened.link.command(
                shard.number, b"ZRANGEBYSCORE", shard.prefix + b"fin", b"-inf", f"({before_ms}", b"LIMIT", 0, size
            )
            gone = _forget(opened, shard, before_ms, [name[_NAME_AT:] for name in names]) if names else 0
            forgotten += gone
            if len(names) < size or not gone:
                break
    return forgotten


def _forget(opened: Opened, shard: Shard, before_ms: int, names: Sequence[bytes]) -> int:
    """Forget these; each is named with the indexes that it is listed in, which its header tells."""
    keys = [shard.own, *(shard.prefix + b"r:" + name for name in names)]
    words: list[Word] = [b"", before_ms]
    touched = [*shard.common]
    for told in opened.link.run(shard.number, "headers", keys, [b"", *names]):
        if told is None:  # someone else has forgotten it
            continue
        header = answers.header(told)
        indexes = indexes_of(header.task, header.tags)
        words += (told[0], len(indexes), *indexes)
        touched += (*shard.of_run(header.run_id), *(shard.prefix + index for index in indexes))
    forgotten: int = opened.link.run(shard.number, "purge", list(dict.fromkeys(touched)), words, again=False)
    return forgotten
