"""Starts a Cluster of masters, and a master with a replica behind Sentinels, for tests: on free loopback ports."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from flowkit_testing.servers import PATIENCE_S, Server

SLOTS = 16384
MASTER = "flowkit"  # what the Sentinels call it
DOWN_AFTER_MS = 700  # a master that was killed
NEVER_DOWN_MS = 600_000  # one that is slow


class Cluster:
    """Masters that share the slots among them. A test may kill one, and move slots.

    Args:
        masters: how many.
        name: `valkey`, `redis` or a path (see `servers.Server`).
        settings: of each server.
    """

    def __init__(self, masters: int = 3, name: str = "", **settings: str) -> None:
        own = {"cluster_enabled": "yes", "cluster_node_timeout": "3000", "cluster_require_full_coverage": "no"}
        self.nodes = [Server(name, **(own | settings)) for _ in range(masters)]
        for node in self.nodes:
            node.settings.setdefault("cluster-port", str(node.reserve_port()))

    @property
    def url(self) -> str:
        """Where it is, as a storage URL."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> Self:
        """Start the nodes, and wait until they agree on who has which slots."""
        count = len(self.nodes)
        for number, node in enumerate(self.nodes):
            node.start()
            first = SLOTS * number // count
            last = SLOTS * (number + 1) // count - 1
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            node.ask("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
        for node in self.nodes[1:]:
            self.nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", str(node.port), node.settings["cluster-port"])
        until(lambda: self.complete)
        return self

    @property
    def complete(self) -> bool:
        """Whether each node knows a node for each slot, and takes it to be there."""
        return all(self._complete(node) for node in self.nodes)

    def _complete(self, node: Server) -> bool:
        info = node.ask("CLUSTER", "INFO")
        return b"cluster_state:ok" in info and b"cluster_slots_ok:%d\r" % SLOTS in info

    def identity(self, node: Server) -> str:
        """What the others call a node."""
        return node.ask("CLUSTER", "MYID").split(b"\r\n")[1].decode()

    def owner(self, slot: int) -> Server:
        """The node that has a slot."""
        for node in self.nodes:
            if _has(node, slot):
                return node
        raise LookupError(slot)

    def move(self, slot: int, target: Server) -> None:
        """Move a slot with all its keys, while others go on using it."""
        self.begin_move(slot, target)
        self.move_keys(slot, target)
        self.end_move(slot, target)

    def begin_move(self, slot: int, target: Server) -> None:
        """Let a slot be on its way: what its node has not, the target is asked for."""
        until(lambda: self.settled)
        source = self.owner(slot)
        target.ask("CLUSTER", "SETSLOT", str(slot), "IMPORTING", self.identity(source))
        source.ask("CLUSTER", "SETSLOT", str(slot), "MIGRATING", self.identity(target))

    def move_keys(self, slot: int, target: Server) -> None:
        """Carry over all the keys of a slot."""
        source = self.owner(slot)
        while keys := _bulks(source.ask("CLUSTER", "GETKEYSINSLOT", str(slot), "10")):
            source.ask("MIGRATE", "127.0.0.1", str(target.port), "", "0", "5000", "KEYS", *keys)

    def end_move(self, slot: int, target: Server) -> None:
        """Give a slot to a node for good, and wait until all agree on who has what since when.

        While two nodes have one epoch, one of them takes a later one, and may say once more that a slot is its own
        which it is just being told to give away: then neither has it.
        """
        identity = self.identity(target)

        def agreed() -> bool:
            for node in (target, *(node for node in self.nodes if node is not target)):
                node.ask("CLUSTER", "SETSLOT", str(slot), "NODE", identity)
            target.ask("CLUSTER", "BUMPEPOCH")
            return self.settled and _has(target, slot)

        until(agreed)

    @property
    def settled(self) -> bool:
        """Whether all nodes say the same of each, and each has an epoch of its own."""
        first, *others = (_view(node) for node in self.nodes)
        epochs = {epoch for epoch, _ in first.values()}
        return all(other == first for other in others) and len(epochs) == len(self.nodes)

    def stop(self) -> None:
        """End all of it for good."""
        for node in self.nodes:
            node.stop()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def catch_up(replica: Server, master: Server) -> None:
    """Wait until a replica has all that its master has acknowledged so far.

    `WAIT` would not tell: it counts only what was written over the connection that asks.
    """
    acknowledged = _number(master, b"master_repl_offset:")
    until(lambda: _number(replica, b"slave_repl_offset:") >= acknowledged)


class Sentinel(Server):
    """One that watches a master, and makes a replica the master when it is gone."""

    def __init__(self, master: Server, name: str = "", quorum: int = 1, down_after_ms: int = NEVER_DOWN_MS) -> None:
        super().__init__(name)
        self._master = master
        self._quorum = quorum
        self._down_after_ms = down_after_ms

    def command(self) -> list[str | Path]:
        """It keeps what it knows in its configuration file."""
        file = self.folder / "sentinel.conf"
        if not file.exists():
            file.write_text(
                f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
                f"sentinel monitor {MASTER} 127.0.0.1 {self._master.port} {self._quorum}\n"
                f"sentinel down-after-milliseconds {MASTER} {self._down_after_ms}\n"
                f"sentinel failover-timeout {MASTER} 3000\n"
            )
        return [self.program, file, "--sentinel"]


class Watched:
    """A master, a replica, and Sentinels that let the replica take over.

    Args:
        sentinels: how many; all of them have to agree.
        name: `valkey`, `redis` or a path (see `servers.Server`).
        down_after_ms: how long the master may be silent. Unless given, nobody takes over from one that is only slow:
            `fail_over` lets it happen.
        settings: of the two servers.
    """

    def __init__(
        self, sentinels: int = 1, name: str = "", *, down_after_ms: int = NEVER_DOWN_MS, **settings: str
    ) -> None:
        self.servers = [Server(name, **settings), Server(name, **({"repl_diskless_sync_delay": "0"} | settings))]
        self.sentinels = [Sentinel(self.servers[0], name, sentinels, down_after_ms) for _ in range(sentinels)]

    @property
    def url(self) -> str:
        """Where it is, as a storage URL."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{MASTER}/0"

    @property
    def master(self) -> Server:
        """The server that is the master by what the Sentinels know."""
        answer = _bulks(self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER))
        return next(server for server in self.servers if server.port == int(answer[1]))

    def start(self) -> Self:
        """Start them, and wait until the replica follows and the Sentinels know of it."""
        first, second = (server.start() for server in self.servers)
        first.ask("CONFIG", "SET", "repl-diskless-sync-delay", "0")
        second.ask("REPLICAOF", "127.0.0.1", str(first.port))
        until(lambda: b"master_link_status:up" in second.ask("INFO", "replication"))
        for sentinel in self.sentinels:
            sentinel.start()
        until(lambda: all(self._known(sentinel) for sentinel in self.sentinels))
        return self

    def _known(self, sentinel: Sentinel) -> bool:
        told = sentinel.ask("INFO", "sentinel")
        return b"slaves=1" in told and f"sentinels={len(self.sentinels)}".encode() in told

    @property
    def behind(self) -> int:
        """How many bytes of what the master has acknowledged the replica lacks."""
        return _number(self.master, b"master_repl_offset:") - _number(self.replica, b"slave_repl_offset:")

    def caught_up(self) -> None:
        """Wait until the replica has all that the master has acknowledged so far."""
        catch_up(self.replica, self.master)

    def cut_off_replica(self) -> None:
        """From now on the replica gets nothing of what the master acknowledges: it has the wrong password for it."""
        self.replica.ask("CONFIG", "SET", "masteruser", "nobody", "masterauth", "wrong")
        self.master.ask("CLIENT", "KILL", "TYPE", "REPLICA")

    @property
    def replica(self) -> Server:
        """The other server."""
        master = self.master
        return next(server for server in self.servers if server is not master)

    def fail_over(self) -> None:
        """Kill the master, and wait until the other one has taken over and the Sentinels say so."""
        before = self.master
        before.kill()
        self._set_down_after(DOWN_AFTER_MS)
        until(lambda: self.master is not before and b"role:master" in self.master.ask("INFO", "replication"))
        self._set_down_after(NEVER_DOWN_MS)

    def _set_down_after(self, ms: int) -> None:
        for sentinel in self.sentinels:
            answer = sentinel.ask("SENTINEL", "SET", MASTER, "down-after-milliseconds", str(ms))
            assert answer == b"+OK\r\n", answer

    def stop(self) -> None:
        """End all of it for good."""
        for server in (*self.sentinels, *self.servers):
            server.stop()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def until(what: Callable[[], bool]) -> None:
    """Wait until something that must become true is true."""
    for _ in range(int(PATIENCE_S / 0.02)):
        with suppress(OSError):
            if what():
                return
        time.sleep(0.02)
    raise TimeoutError("what had to become true did not")


def _number(server: Server, name: bytes) -> int:
    """What a server tells about its replication."""
    _, _, after = server.ask("INFO", "replication").partition(name)
    return int(after.split(b"\r\n")[0])


def _view(node: Server) -> dict[bytes, tuple[bytes, tuple[bytes, ...]]]:
    """What a node says of each: its epoch and its slots, without those that are on their way."""
    lines = (line.split() for line in node.ask("CLUSTER", "NODES").splitlines())
    return {
        words[0]: (words[6], tuple(piece for piece in words[8:] if not piece.startswith(b"[")))
        for words in lines
        if len(words) > 7  # noqa: PLR2004  # as every line that tells of a node
    }


def _has(node: Server, slot: int) -> bool:
    """Whether a node says of itself that it has a slot."""
    _, ranges = _view(node)[node.ask("CLUSTER", "MYID").split(b"\r\n")[1]]
    return any(
        int(first) <= slot <= int(last or first) for first, _, last in (piece.partition(b"-") for piece in ranges)
    )


def _bulks(answer: bytes) -> list[str]:
    """The pieces of an array of short texts."""
    return [line.decode() for line in answer.split(b"\r\n")[1:] if line and not line.startswith(b"$")]
