"""The Redis storage: what the `Storage` protocol asks for, each change one script where its runs lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flowkit.errors import StorageError
from flowkit.records import (
    AnyOf,
    Capabilities,
    Claimed,
    Commit,
    Counts,
    Delivery,
    Grant,
    Lease,
    LeaseState,
    Message,
    NewRun,
    Page,
    RunHeader,
    RunQuery,
    Send,
    Snapshot,
    Submitted,
    Verdict,
    Want,
)
from flowkit_redis import answers, claims, committing, creating, listing, outbox, purging
from flowkit_redis.asking import Asker
from flowkit_redis.connections import closed
from flowkit_redis.failures import NO_ANSWER
from flowkit_redis.keys import encoded
from flowkit_redis.link import Link
from flowkit_redis.opening import LIMIT, Opened, opened
from flowkit_redis.packing import NONE, Word, message_words
from flowkit_redis.reaching import default_shards, reach
from flowkit_redis.reading import read_header, read_snapshot
from flowkit_redis.url import Address, parse

_CREATED_AT_ONCE = 500  # by one script: others wait meanwhile
_DELIVERIES = (Delivery.DELIVERED, Delivery.DUPLICATE, Delivery.CLOSED, Delivery.MISSING)


def redis_storage(url: str) -> RedisStorage:
    """Make the storage that a URL names (not opened yet): one server, a master behind Sentinels, or a Cluster.

    Args:
        url: `redis://user:password@HOST:PORT/DB?namespace=NAME`, `redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB` or
            `redis+cluster://HOST:PORT,HOST:PORT`; the page "Run on many machines" tells all of it.

    Raises:
        ConfigurationError: names what is wrong in the URL and says what to write.
    """
    address = parse(url)
    return RedisStorage(address, lambda: reach(address), default_shards=default_shards(address))


class RedisStorage:
    """Keeps runs on Redis or Valkey, for any number of processes on any number of machines.

    Args:
        address: where the servers are and how they are to be used.
        reach: makes the way to them.
        default_shards: how many shards a namespace gets when it is first used, unless the address says.

    Every method may be called from any thread; a forked child may go on using it, over connections of its own.
    """

    def __init__(self, address: Address, reach: Callable[[], Link], *, default_shards: int = 1) -> None:
        self._address = address
        self._reach = reach
        self._default_shards = default_shards
        self._now: Opened | None = None

    def __repr__(self) -> str:
        return f"RedisStorage({self._address.where!r}, namespace={self._address.namespace!r})"

    def sibling(self) -> RedisStorage:
        """Another storage on the same data, as a second process would have it (not opened yet)."""
        return RedisStorage(self._address, self._reach, default_shards=self._default_shards)

    @property
    def opened(self) -> Opened:
        """What lies below the protocol: for tests and tools.

        Raises:
            StorageError: the storage is not open.
        """
        if self._now is None:
            raise closed()
        return self._now

    def open(self) -> Capabilities:
        """Get ready for use.

        Raises:
            StorageNotDurable: the server keeps less than was asked for.
            StorageError: it does not answer, lets nobody in, or has the namespace in a newer format or other shards.
        """
        if self._now is None:
            link = self._reach()
            try:
                self._now = opened(self._address, link, default_shards=self._default_shards)
            except NO_ANSWER as error:
                link.close()
                raise StorageError(
                    f"{self._address.where} cannot be opened ({error}): is it running, and is the URL right?"
                ) from error
            except BaseException:
                link.close()
                raise
        return self._now.capabilities

    def close(self) -> None:
        """Hang up, and wake whoever waits. Leases run out by themselves: hand runs back before."""
        before, self._now = self._now, None
        if before is not None:
            before.waiting.close()
            before.link.close()

    def submit(self, runs: Sequence[NewRun], *, now_ms: int | None = None) -> list[Submitted]:
        """Create runs whose ids are free; those of one shard in one change, up to 500."""
        LIMIT.check_runs(runs)
        opened, now = self.opened, _now(now_ms)
        submitted: dict[int, Submitted] = {}
        for shard in opened.layout.shards:
            places = [at for at, new in enumerate(runs) if opened.layout.of(new.run_id) is shard]
            for begin in range(0, len(places), _CREATED_AT_ONCE):
                some = places[begin : begin + _CREATED_AT_ONCE]
                made = creating.create(opened, shard, [runs[at] for at in some], now)
                submitted.update(zip(some, made, strict=True))
        return [submitted[at] for at in range(len(runs))]

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs that are ready, due, or left by their owner."""
        return claims.claim(self.opened, grant, want, limit, _now(now_ms))

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, each atomic for its run, all of a shard in one script."""
        LIMIT.check_commits(commits)
        return committing.commit(self.opened, commits, _now(now_ms))

    def renew(
        self, worker: str, leases: Sequence[Lease], lease_ms: int, *, now_ms: int | None = None
    ) -> list[LeaseState]:
        """Extend leases that are still held."""
        del worker  # a lease knows its owner
        return claims.renew(self.opened, leases, lease_ms, _now(now_ms))

    def send(self, run_id: str, message: Message, *, now_ms: int | None = None) -> Delivery:
        """Deliver a message, mark a run to be cancelled, or reopen it."""
        LIMIT.check(message.payload, "a message", run_id)
        opened = self.opened
        asker = Asker(opened, opened.layout.of(run_id), [run_id])
        words = [_now(now_ms), *message_words(Send(run_id, message))]
        delivery, letters = asker.ask("send", words, again=False)  # sent again, it would be a duplicate
        if letters:
            outbox.try_to_pump(opened, opened.layout.of(run_id))
        return _DELIVERIES[delivery]

    def load(self, run_id: str, after: int = 0, limit: int | None = None) -> Snapshot | None:
        """Read a run."""
        return read_snapshot(self.opened, run_id, after, limit)

    def wait_for_work(self, want: AnyOf, timeout_s: float) -> None:
        """Return when a run became ready, or a timer was set, that nobody else has woken up for."""
        self.opened.waiting.for_work(claims.lanes_of(want), timeout_s)

    def wait_for_run(self, run_id: str, revision: int, timeout_s: float) -> RunHeader | None:
        """Return the header once it has changed, or as it is after the timeout."""
        opened = self.opened
        header = read_header(opened, run_id)
        if header is None or header.revision > revision:
            return header
        shard = opened.layout.of(run_id)
        keys = (shard.own, shard.key(b"r:", run_id))

        def look() -> tuple[RunHeader | None] | None:
            nonlocal header
            words = opened.link.run(shard.number, "watch", keys, (NONE, encoded(run_id), revision))
            header = None if words is None else answers.header(words)
            return None if header is not None and header.revision <= revision else (header,)

        opened.waiting.for_news(shard.key(b"run:", run_id), look, timeout_s)
        return header

    def list_runs(self, query: RunQuery, cursor: str | None = None, limit: int = 100) -> Page:
        """List runs, newest first."""
        return listing.page(self.opened, query, cursor, limit)

    def stats(self) -> Counts:
        """Count runs by status, and ready and leased runs by queue and task."""
        return listing.counts(self.opened)

    def purge(self, before_ms: int, limit: int = 1000) -> int:
        """Forget runs that finished before that time."""
        return purging.purge(self.opened, before_ms, limit)

    def get(self, key: str) -> tuple[bytes, int] | None:
        """Read a small shared value and its revision."""
        shard = self.opened.layout.of(key)
        value, revision = self.opened.link.command(shard.number, b"HMGET", shard.key(b"v:", key), b"value", b"revision")
        return None if value is None else (value, int(revision))

    def compare_and_set(self, key: str, revision: int, value: bytes) -> int | None:
        """Write a shared value if its revision is still this."""
        LIMIT.check(value, "the shared value", key)
        shard = self.opened.layout.of(key)
        written: int | None = self.opened.link.run(
            shard.number, "share", (shard.key(b"v:", key),), (revision, value), again=False
        )
        return written


def _now(now_ms: int | None) -> Word:
    return NONE if now_ms is None else now_ms
