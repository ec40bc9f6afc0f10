"""The way to a master that Sentinels watch: who it is, and who has taken its place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from redis.exceptions import RedisError

from flowkit_redis.connections import Pool, closed
from flowkit_redis.failures import NotNow, NotTheMaster
from flowkit_redis.nodes import Node
from flowkit_redis.wire import Wire, Word

Place = tuple[str, int]
_T = TypeVar("_T")


class SentinelLink:
    """Talks to whoever is the master, and asks again who that is when it fails.

    Args:
        find: tells where the master is.
        pool: makes a pool for a server.
        where: what the master is called in errors, without secrets.
        sentinels: what is to be closed besides.
    """

    def __init__(
        self, find: Callable[[], Place], pool: Callable[[Place], Pool], where: str, sentinels: Sequence[Pool] = ()
    ) -> None:
        self.where = where
        self._find = find
        self._pool = pool
        self._sentinels = sentinels
        self._lock = threading.Lock()
        self._node: Node | None = None
        self._closed = False

    def run(self, shard: int, name: str, keys: Sequence[bytes], words: Iterable[Word], *, again: bool = True) -> Any:  # noqa: ANN401  # see Link
        """Run a script."""
        del shard
        words = tuple(words)
        return self._with_master(lambda node: node.run(name, keys, words, again=again))

    def command(self, shard: int, *words: Word) -> Any:  # noqa: ANN401  # see Link
        """Send a command."""
        del shard
        return self._with_master(lambda node: node.command(*words))

    def connection(self, shard: int) -> Wire:
        """A connection for calls that wait."""
        del shard
        return self._master().pool.connect()

    def other_servers(self, shards: int) -> Sequence[int]:
        """There are none."""
        del shards
        return ()

    def lost(self, shard: int, error: Exception) -> None:
        """Ask anew who the master is."""
        del shard, error
        self._forget(self._node)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self._closed = True
            node, self._node = self._node, None
        for pool in (*self._sentinels, *([] if node is None else [node.pool])):
            pool.close()

    def _with_master(self, call: Callable[[Node], _T]) -> _T:
        node = self._master()
        try:
            return call(node)
        except (RedisError, OSError, NotTheMaster):
            self._forget(node)  # whoever asks again asks the new one
            raise

    def _master(self) -> Node:
        node = self._node
        if node is None:
            with self._lock:
                if self._closed:
                    raise closed()
                if self._node is None:
                    self._node = self._seen_to_be_master(Node(self._pool(self._find())))
                node = self._node
        return node

    def _seen_to_be_master(self, node: Node) -> Node:
        """Sentinels may tell of a master that is one no more; it says so itself."""
        try:
            role = node.command(b"ROLE")[0]
        except BaseException:
            node.pool.close()
            raise
        if role != b"master":
            node.pool.close()
            raise NotNow(f"{node.where} is no master yet: a failover is under way")
        return node

    def _forget(self, node: Node | None) -> None:
        with self._lock:
            if node is None or self._node is not node:
                return
            self._node = None
        node.pool.retire()


def master_by_sentinels(sentinels: Sequence[Pool], service: str) -> Place:
    """Where the master is, as the first Sentinel that answers has it.

    Raises:
        NotNow: none of them answers, or none knows the name.
    """
    failures = []
    for sentinel in sentinels:
        try:
            told = sentinel.ask(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", service.encode())
        except (RedisError, OSError) as error:
            failures.append(f"{sentinel.where}: {error}")
        else:
            if told is not None:
                return told[0].decode(), int(told[1])
            failures.append(f"{sentinel.where} knows no master {service!r}")
    raise NotNow(f"no Sentinel tells who the master is ({'; '.join(failures)})")
