"""An auditor for a namespace on Redis: nothing is orphaned, counted twice, or in two places (rule X1).

It reads everything, so it is for tests and for a namespace that nobody writes to meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from attrs import frozen

from flowkit.records import Limit, NewRun
from flowkit_redis import RedisStorage
from flowkit_redis.keys import STATUSES, Shard, decoded, encoded, split_lane
from flowkit_redis.opening import Opened

_REACH = 2047  # priorities beyond it count as it (see places.lua)


@frozen
class _Row:
    """A header as the scripts keep it: what an audit needs of it."""

    name: bytes
    number: int
    lane: bytes
    priority: int
    status: bytes
    place: bytes
    due_ms: int | None
    length: int
    inbox: int
    has_result: bool
    offered: bool
    limit: bytes | None

    @property
    def member(self) -> bytes:
        """What stands for it in the orders."""
        level = max(-_REACH, min(_REACH, self.priority))
        return b"%016d%04d" % (self.number, level + _REACH) + self.name


def audit(storage: RedisStorage) -> list[str]:
    """What is wrong with a namespace; nothing, if all is well."""
    opened = storage.opened
    return [text for shard in opened.layout.shards for text in _Shard(opened, shard).complaints()]


class _Shard:
    """One shard, read whole."""

    def __init__(self, opened: Opened, shard: Shard) -> None:
        self._opened = opened
        self._shard = shard
        self._live = set(self._ask(b"HKEYS", shard.own))
        finished = {name[20:] for name in self._ask(b"ZRANGE", shard.prefix + b"fin", 0, -1)}
        self._rows = list(self._read(sorted(self._live | finished)))
        self._guests = set(self._ask(b"HKEYS", shard.prefix + b"gu"))

    def complaints(self) -> Iterator[str]:
        """Everything that does not fit together."""
        for row in self._rows:
            for text in self._about(row):
                yield f"run {row.name!r} ({row.status!r}, place {row.place!r}): {text}"
        yield from self._counts()
        yield from self._strangers()
        if self._ask(b"LLEN", self._shard.prefix + b"out"):
            yield "something lies in the outbox"

    def _about(self, row: _Row) -> Iterator[str]:
        yield from self._about_place(row)
        statuses = [status for status in STATUSES if self._listed(b"st:" + status.value.encode(), row)]
        if [status.value.encode() for status in statuses] != [row.status]:
            yield f"it is listed under {statuses}"
        stored = self._ask(b"LLEN", self._shard.prefix + b"j:" + row.name)
        if stored != 1 + row.length + row.has_result:
            yield f"its journal has {row.length} entries, and {stored} elements are stored"
        if self._ask(b"HLEN", self._shard.prefix + b"i:" + row.name) != row.inbox:
            yield "its inbox is not as long as it says"

    def _about_place(self, row: _Row) -> Iterator[str]:
        ready, due = self._in(b"q:", row), self._in(b"due:", row)
        offered = self._has_offer(row) if row.limit is not None else ready
        home = self._home(row)
        if home is not self._shard:
            yield from self._about_guest(row, home, due=due)
            due, offered = due and row.place != b"R", row.place == b"R"
        match row.place:
            case b"R" if not offered:
                yield "it is ready and nobody can find it"
            case b"L" if not (due or offered):
                yield "it is leased and nobody will learn when the lease ends"
            case b"W" if row.due_ms is not None and not (due or offered):
                yield "its timer is lost"
            case b"B" | b"F" if ready or due or offered:
                yield "it can be claimed"
            case b"F" if row.name in self._live:
                yield "it has finished and is kept among the unfinished"
        if row.place in {b"R", b"L", b"W"} and due and offered:
            yield "it is both due and on offer"

    def _home(self, row: _Row) -> Shard:
        """Where its places are counted."""
        layout, name = self._opened.layout, decoded(row.name)
        if row.limit is None:
            return self._shard
        queue, task = split_lane(row.lane)
        limit = Limit(1, decoded(row.limit))
        return layout.home(NewRun(name, task, b"", queue=queue, limit=limit)) or self._shard

    def _about_guest(self, row: _Row, home: Shard, *, due: bool) -> Iterator[str]:
        """A run whose places another shard counts stands in line there."""
        known = self._opened.link.command(home.number, b"HEXISTS", home.prefix + b"gu", row.name)
        if row.place in {b"R", b"L"} and not known:
            yield "it wants a place or has one, and the shard that counts them does not know"
        if row.place == b"R" and not due:
            yield "it would not ask again for its place"

    def _counts(self) -> Iterator[str]:
        words = self._ask(b"HGETALL", self._shard.prefix + b"cnt")
        said = {field: int(number) for field, number in zip(words[::2], words[1::2], strict=True)}
        found = Counter(row.place.lower() + row.lane for row in self._rows if row.place in {b"R", b"L"})
        if said != dict(found):
            yield f"counts say {said}, there are {dict(found)}"

    def _strangers(self) -> Iterator[str]:
        """Members of orders that no run stands behind."""
        names = {row.name for row in self._rows} | self._guests
        for guest in self._guests:
            place = _place(self._opened, decoded(guest))
            if place not in {b"R", b"L"}:
                yield f"{guest!r} (place {place!r} in its own shard) is a guest here and wants nothing"
        for lane in {row.lane for row in self._rows}:
            for kind in (b"q:", b"due:"):
                for member in self._ask(b"ZRANGE", self._shard.prefix + kind + lane, 0, -1):
                    if member[20:] not in names:
                        yield f"{kind!r} of {lane!r} has {member!r}, which is no run"
        for status in STATUSES:
            for name in self._ask(b"ZRANGE", self._shard.prefix + b"st:" + status.value.encode(), 0, -1):
                if name not in names:
                    yield f"{status} lists {name!r}, which is no run"

    def _read(self, names: list[bytes]) -> Iterator[_Row]:
        for begin in range(0, len(names), 500):
            some = names[begin : begin + 500]
            keys = [self._shard.own, *(self._shard.prefix + b"r:" + name for name in some)]
            for words in self._opened.link.run(self._shard.number, "headers", keys, [b"", *some]):
                yield _Row(
                    name=words[0],
                    number=words[1],
                    lane=words[2],
                    priority=words[3],
                    status=words[8],
                    place=words[9],
                    due_ms=words[10],
                    length=words[12],
                    inbox=words[13],
                    has_result=bool(words[21]),
                    offered=words[23] is not None,
                    limit=words[25],
                )

    def _in(self, kind: bytes, row: _Row) -> bool:
        return self._ask(b"ZSCORE", self._shard.prefix + kind + row.lane, row.member) is not None

    def _listed(self, index: bytes, row: _Row) -> bool:
        return self._ask(b"ZSCORE", self._shard.prefix + index, row.name) is not None

    def _has_offer(self, row: _Row) -> bool:
        members: list[bytes] = self._ask(b"ZRANGE", self._shard.prefix + b"of:" + row.lane, 0, -1)
        return any(member.endswith(row.member) for member in members)

    def _ask(self, *words: bytes | int) -> Any:  # noqa: ANN401  # the answer of a command
        return self._opened.link.command(self._shard.number, *words)


def _place(opened: Opened, run_id: str) -> bytes | None:
    """Where a run stands in its own shard; None if it is not there."""
    shard = opened.layout.of(run_id)
    keys = (shard.own, shard.key(b"r:", run_id))
    (words,) = opened.link.run(shard.number, "headers", keys, (b"", encoded(run_id)))
    return None if words is None else words[9]
