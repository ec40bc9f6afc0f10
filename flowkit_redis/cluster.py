"""The way to the servers of a Cluster: which one has the slot of a shard, and where it has gone since.

redis-py's own Cluster client is not used: its pipelines refuse scripts, and it sends commands again by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from redis.crc import key_slot
from redis.exceptions import AskError, ClusterError, MovedError, RedisError, ResponseError

from flowkit_redis.connections import Pool, closed
from flowkit_redis.failures import NotNow
from flowkit_redis.keys import shard_tag
from flowkit_redis.nodes import Node
from flowkit_redis.wire import Wire, Word

Place = tuple[str, int]  # host and port
_REDIRECTIONS = 5


class _Call(Protocol):
    def __call__(self, node: Node, *, asking: bool) -> Any: ...  # noqa: ANN401  # what the server answers


class ClusterLink:
    """Follows slots over the nodes of a Cluster.

    Args:
        seeds: nodes to ask for the others.
        pool: makes a pool for a node.
        namespace: whose shards are to be found.
        where: what the Cluster is called in errors, without secrets.
    """

    def __init__(self, seeds: Sequence[Place], pool: Callable[[Place], Pool], namespace: str, where: str) -> None:
        self.where = where
        self._seeds = tuple(seeds)
        self._pool = pool
        self._namespace = namespace
        self._lock = threading.Lock()
        self._closed = False
        self._nodes: dict[Place, Node] = {}
        self._slots: list[tuple[int, int, Place]] = []  # first, last, the master that has them
        self._at: dict[int, Place] = {}  # slots that were looked up, or moved

    def run(self, shard: int, name: str, keys: Sequence[bytes], words: Iterable[Word], *, again: bool = True) -> Any:  # noqa: ANN401  # see Link
        """Run a script where its first key is; all of them have the same hash tag."""
        del shard
        words = tuple(words)
        return self._follow(
            key_slot(keys[0]), lambda node, *, asking: node.run(name, keys, words, again=again, asking=asking)
        )

    def command(self, shard: int, *words: Word) -> Any:  # noqa: ANN401  # see Link
        """Send a command."""
        return self._follow(self._slot(shard, *words), lambda node, *, asking: node.command(*words, asking=asking))

    def connection(self, shard: int) -> Wire:
        """A connection for calls that wait."""
        return self._node(self._place(self._slot(shard))).pool.connect()

    def other_servers(self, shards: int) -> Sequence[int]:
        """One shard for each node that has any, without that of the first."""
        found = {self._place(self._slot(shard)): shard for shard in reversed(range(shards))}
        return [shard for shard in found.values() if shard]

    def lost(self, shard: int, error: Exception) -> None:
        """Look for the shard anew."""
        if isinstance(error, MovedError):
            self._at[error.slot_id] = (error.host, error.port)
        elif not isinstance(error, AskError):
            self._forget(self._slot(shard))

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self._closed = True
            nodes, self._nodes = list(self._nodes.values()), {}
        for node in nodes:
            node.pool.close()

    def _slot(self, shard: int, *words: Word) -> int:
        key = words[1] if len(words) > 1 else b""
        if isinstance(key, bytes) and b"{" in key:
            return key_slot(key)
        return key_slot(shard_tag(self._namespace, shard))

    def _follow(self, slot: int, call: _Call) -> Any:  # noqa: ANN401  # what the server answers
        place, asking = self._place(slot), False
        for _ in range(_REDIRECTIONS):
            try:
                return call(self._node(place), asking=asking)
            except MovedError as moved:
                place, asking = (moved.host or place[0], moved.port), False
                self._at[slot] = place
            except AskError as ask:  # on its way: this once, and only for what is not here any more
                place, asking = (ask.host or place[0], ask.port), True
            except ClusterError as error:
                self._forget(slot)
                raise NotNow(f"{self.where} does not serve all of its slots ({error}): is a node down?") from error
            except (RedisError, OSError) as error:
                if not isinstance(error, ResponseError):
                    self._forget(slot)  # whoever asks again finds the node that has taken over
                raise
        raise NotNow(f"{self.where} sends from node to node for slot {slot}: it is being moved")

    def _node(self, place: Place) -> Node:
        node = self._nodes.get(place)
        if node is None:
            with self._lock:
                if self._closed:
                    raise closed()
                node = self._nodes.get(place)
                if node is None:
                    node = self._nodes[place] = Node(self._pool(place))
        return node

    def _place(self, slot: int) -> Place:
        place = self._at.get(slot)
        if place is None:
            if not self._slots:
                self._slots = self._look()
            place = next((master for first, last, master in self._slots if first <= slot <= last), None)
            if place is None:
                self._slots = []
                raise NotNow(f"no node of {self.where} serves slot {slot}: is the Cluster complete?")
            self._at[slot] = place
        return place

    def _forget(self, slot: int) -> None:
        self._slots = []
        self._at.pop(slot, None)

    def _look(self) -> list[tuple[int, int, Place]]:
        """Ask any node which master has which slots."""
        failure: Exception | None = None
        for place in dict.fromkeys((*self._nodes, *self._seeds)):
            try:
                told = self._node(place).command(b"CLUSTER", b"SLOTS")
            except (RedisError, OSError, NotNow) as error:
                failure = error
            else:
                return [(first, last, (_host(master[0], place), master[1])) for first, last, master, *_ in told]
        assert failure is not None  # an address names a host at least
        raise failure


def _host(told: bytes | None, asked: Place) -> str:
    """A node that does not know its own name is where it was asked."""
    return told.decode() if told and told != b"?" else asked[0]
