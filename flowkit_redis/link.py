"""The way to the servers: which one has a shard."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from flowkit_redis.connections import Pool
from flowkit_redis.nodes import Node
from flowkit_redis.wire import Wire, Word


class Link(Protocol):
    """What the storage needs of one server, of a Sentinel's master, or of a Cluster."""

    where: str  # for errors, without secrets

    def run(self, shard: int, name: str, keys: Sequence[bytes], words: Iterable[Word], *, again: bool = True) -> Any:  # noqa: ANN401  # a script's answer
        """Run a script where a shard is. `again`: it may be sent twice."""

    def command(self, shard: int, *words: Word) -> Any:  # noqa: ANN401  # a command's answer
        """Send a command where a shard is; or where the key is that the command names first, if it names one."""

    def connection(self, shard: int) -> Wire:
        """A connection of one's own to where a shard is, for calls that wait."""

    def other_servers(self, shards: int) -> Sequence[int]:
        """Of so many shards, one for each server that has any, without that of the first."""

    def lost(self, shard: int, error: Exception) -> None:
        """Such a connection has failed: the shard may be elsewhere by now."""

    def close(self) -> None:
        """Close all connections."""


class SingleLink:
    """One server has all shards."""

    def __init__(self, pool: Pool) -> None:
        self._node = Node(pool)
        self.where = pool.where

    def run(self, shard: int, name: str, keys: Sequence[bytes], words: Iterable[Word], *, again: bool = True) -> Any:  # noqa: ANN401  # see Link
        """Run a script."""
        del shard
        return self._node.run(name, keys, words, again=again)

    def command(self, shard: int, *words: Word) -> Any:  # noqa: ANN401  # see Link
        """Send a command."""
        del shard
        return self._node.command(*words)

    def connection(self, shard: int) -> Wire:
        """A connection for calls that wait."""
        del shard
        return self._node.pool.connect()

    def other_servers(self, shards: int) -> Sequence[int]:
        """There are none."""
        del shards
        return ()

    def lost(self, shard: int, error: Exception) -> None:
        """It is where it was."""

    def close(self) -> None:
        """Close all connections."""
        self._node.pool.close()
