"""Names of keys. All keys of a shard carry its hash tag, so that one script may touch them all on a Cluster.

own            hash: id -> header of an unfinished run, packed
r:<id>         header of a finished run
j:<id>         list: input, journal, and the outcome once there is one
i:<id> m:<id>  hashes: messages in the inbox by arrival; message ids received
q:<lane>       zset: ready runs; score = milliseconds - priority * 2^42
due:<lane>     zset: timers and leases by milliseconds
of: ho:<lane>  zsets: runs that wait for a place of their limit, places that are held
gu             hash: those of other shards among them, which stand for a run there (see homes.lua)
wake:<lane>    list of hints for idle workers, capped
st:<status> tk:<task> tg:<tag> fin     zsets: what listings and retention look at
cnt seq        ready and leased runs of each lane; the number of the last run
ct:<token>     what a claim was granted, kept so that it can be asked again
out            messages and runs for other shards
v:<key>        hash: a shared value
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from zlib import crc32

from attrs import define, frozen

from flowkit.records import NewRun, RunStatus

MOST_SHARDS = 32  # the numbers of runs leave room for as many
STATUSES = tuple(RunStatus)
_LANE_KEYS = (b"q:", b"due:", b"of:", b"ho:", b"wake:")


def encoded(name: str) -> bytes:
    """A name as bytes, whatever is in it."""
    return name.encode("utf-8", "surrogatepass")


def decoded(name: bytes) -> str:
    """The name that these bytes stand for."""
    return name.decode("utf-8", "surrogatepass")


def lane_of(queue: str, task: str) -> bytes:
    """One queue and one task as one name; the length keeps `a:b` and `c` apart from `a` and `b:c`."""
    first = encoded(queue)
    return b"%d:%b:%b" % (len(first), first, encoded(task))


def split_lane(lane: bytes) -> tuple[str, str]:
    """The queue and the task of a lane."""
    length, _, names = lane.partition(b":")
    size = int(length)
    return decoded(names[:size]), decoded(names[size + 1 :])


def indexes_of(task: str, tags: Iterable[str]) -> list[bytes]:
    """The indexes that a run is listed in, besides those by status."""
    return [b"tk:" + encoded(task), *dict.fromkeys(b"tg:" + encoded(tag) for tag in tags)]


@define(slots=False)
class Shard:
    """The keys of one shard."""

    number: int
    prefix: bytes

    @cached_property
    def own(self) -> bytes:
        """The headers of unfinished runs: the first key of every script."""
        return self.prefix + b"own"

    @cached_property
    def common(self) -> tuple[bytes, ...]:
        """What every script that changes runs may touch."""
        names = (b"own", b"seq", b"cnt", b"fin", b"out", b"gu")
        return (*(self.prefix + name for name in names), *self.by_status)

    @cached_property
    def by_status(self) -> tuple[bytes, ...]:
        """The index of each status, in the order of `STATUSES`."""
        return tuple(self.prefix + b"st:" + status.value.encode() for status in STATUSES)

    def key(self, kind: bytes, name: str) -> bytes:
        """A key of something that has a name."""
        return self.prefix + kind + encoded(name)

    def of_run(self, run_id: str) -> Iterator[bytes]:
        """The keys of one run."""
        name = encoded(run_id)
        for kind in (b"r:", b"j:", b"i:", b"m:"):
            yield self.prefix + kind + name

    def of_lane(self, lane: bytes) -> Iterator[bytes]:
        """The keys of one queue and task."""
        for kind in _LANE_KEYS:
            yield self.prefix + kind + lane

    def of_new(self, new: NewRun) -> Iterator[bytes]:
        """The keys that the birth of a run touches."""
        yield from self.of_run(new.run_id)
        yield from self.of_lane(lane_of(new.queue, new.task))
        for index in indexes_of(new.task, new.tags):
            yield self.prefix + index
        if new.grant is not None:
            yield self.key(b"ct:", new.grant.token)


@frozen
class Layout:
    """The shards of one namespace. How many there are is fixed when the namespace is first used."""

    namespace: str
    shards: tuple[Shard, ...]

    def of(self, run_id: str) -> Shard:
        """The shard that a run, or a shared value, lies in."""
        return self.shards[crc32(encoded(run_id)) % len(self.shards)] if len(self.shards) > 1 else self.shards[0]

    def home(self, new: NewRun) -> Shard | None:
        """Where the places of a run's limit are counted, if that is another shard than its own."""
        if new.limit is None or len(self.shards) == 1:
            return None
        key = lane_of(new.queue, new.task) + b":" + encoded(new.limit.key)
        home = self.shards[crc32(key) % len(self.shards)]
        return None if home is self.of(new.run_id) else home


def layout(namespace: str, shards: int) -> Layout:
    """The layout of a namespace with so many shards."""
    made = (Shard(number, shard_tag(namespace, number)) for number in range(shards))
    return Layout(namespace, tuple(made))


def shard_tag(namespace: str, number: int) -> bytes:
    """The hash tag of a shard: all of its keys begin with it, and so lie in one slot of a Cluster."""
    return b"{fk:%b:%d}" % (namespace.encode(), number)


def meta_key(namespace: str) -> bytes:
    """Where it is written how many shards a namespace has, and which format."""
    return b"{fk:%b:meta}" % namespace.encode()
