"""Users with the rights that the docs tell and no more, TLS, namespaces that do not see each other, no secret shown."""

from __future__ import annotations

import contextlib
import logging
import re
import shlex
import socket
import ssl
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import trustme

from flowkit import Flow, task
from flowkit.errors import StorageError
from flowkit.records import AnyOf, Grant, NewRun, RunQuery
from flowkit.storage import Storage
from flowkit_redis import RedisStorage, redis_storage
from flowkit_testing.clusters import Cluster
from flowkit_testing.contract.claiming import Claiming
from flowkit_testing.contract.committing import Committing
from flowkit_testing.contract.keeping import Purging, Values
from flowkit_testing.contract.limiting import Limiting
from flowkit_testing.contract.messages import Sending
from flowkit_testing.contract.reading import Listing, Loading
from flowkit_testing.contract.waiting import Waiting
from flowkit_testing.servers import Server

DOCS = Path(__file__).parents[2] / "docs" / "redis-security.md"
PASSWORD = "p@ss/w:rd"  # noqa: S105  # it opens nothing
QUOTED = "p%40ss%2Fw%3Ard"
ANY = AnyOf(("task",))

_numbers = count()
_urls: list[str] = []


def documented_rule(namespace: str) -> list[str]:
    """The words of the rule in the docs, for a namespace."""
    found = re.search(r"redis-cli ACL SETUSER (?P<rule>.*?)\n```", DOCS.read_text(), re.DOTALL)
    assert found is not None
    name, *words = shlex.split(found["rule"].replace("\\\n", " "))
    assert name == "shop"
    return [
        namespace,
        *(word.replace("{fk:shop:*", "{fk:" + namespace + "*").replace("password", PASSWORD) for word in words),
    ]


def limited(server: Server, namespace: str) -> str:
    """Make the documented user; the URL of the server for it."""
    answer = server.ask("ACL", "SETUSER", *documented_rule(namespace))
    assert answer == b"+OK\r\n", answer
    return server.url.replace("://", f"://{namespace}:{QUOTED}@")


@pytest.fixture(scope="module", autouse=True)
def _shared(flowkit_redis_server: Server) -> Iterator[None]:
    """What the storages of this module lie on."""
    _urls.append(limited(flowkit_redis_server, "limited"))
    yield
    _urls.pop()


class TestLeastPrivilege(Claiming, Committing, Limiting, Listing, Loading, Purging, Sending, Values, Waiting):
    """A user with the rule of the docs can do all that the contract asks."""

    def make_storage(self, tmp_path: Path) -> Storage:
        """A new namespace."""
        del tmp_path
        return redis_storage(f"{_urls[-1]}?namespace=limited{next(_numbers)}")

    def another(self, storage: Storage) -> Storage:
        """As a second process would open it."""
        assert isinstance(storage, RedisStorage)
        other = storage.sibling()
        other.open()
        return other


def test_a_flow_under_the_rule(caplog: pytest.LogCaptureFixture) -> None:
    """Runs, items, events and a worker: nothing asks for more."""

    @task(id="under-the-rule")
    def body(number: int) -> int:
        return number + 1

    with Flow(f"{_urls[-1]}?namespace=limited-flow", worker=True) as flow, caplog.at_level(logging.DEBUG):
        assert flow.start(body, 1).result(timeout=60) == 2
        assert [header.task for header in flow.runs()] == ["under-the-rule"]
        flow.prune(older_than=0)
    assert "does not let this user" not in caplog.text
    assert PASSWORD not in caplog.text


def test_another_namespace_is_refused() -> None:
    """The server itself keeps the user out of what is not theirs, and the error tells where to read on."""
    with pytest.raises(StorageError, match="What Redis must be configured to") as caught:
        redis_storage(f"{_urls[-1]}?namespace=other").open()
    assert PASSWORD not in str(caught.value)
    assert QUOTED not in str(caught.value)


def test_a_cluster_under_the_rule(flowkit_redis_cluster: Cluster) -> None:
    """The same rule on each node does for a Cluster."""
    for node in flowkit_redis_cluster.nodes:
        limited(node, "limited")
    url = flowkit_redis_cluster.url.replace("://", f"://limited:{QUOTED}@")
    storage = redis_storage(f"{url}?namespace=limited{next(_numbers)}")
    storage.open()
    storage.submit([NewRun(f"run-{number}", "task", b"") for number in range(20)])
    assert len(storage.claim(Grant("worker", "token", 60_000), ANY, 20).leases) == 20
    storage.close()


def test_namespaces_do_not_see_each_other(flowkit_redis_server: Server) -> None:
    """X4: the same ids, tasks and keys, and each has its own."""
    one, other = (redis_storage(f"{flowkit_redis_server.url}?namespace=apart{name}") for name in ("", "-too"))
    one.open()
    other.open()
    one.submit([NewRun("run", "task", b"mine", tags=("tag",))])
    assert one.compare_and_set("key", 0, b"mine") == 1

    assert other.load("run") is None
    assert other.get("key") is None
    assert other.list_runs(RunQuery()).headers == ()
    assert other.claim(Grant("worker", "token", 60_000), ANY, 5).leases == ()
    assert other.purge(2**52) == 0
    other.submit([NewRun("run", "task", b"theirs")])

    (lease,) = one.claim(Grant("worker", "token", 60_000), ANY, 5).leases
    mine = one.load(lease.run_id)
    assert mine is not None
    assert mine.input == b"mine"
    assert sum(other.stats().by_status.values()) == 1
    one.close()
    other.close()


# ---- TLS


class TlsFront:
    """Speaks TLS on a port of its own, and plainly with the server behind it.

    Args:
        port: the server's.
        context: the certificate, and whether clients have to show one.
    """

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._port = port
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._sockets: list[socket.socket] = []
        self._threads[0].start()

    def close(self) -> None:
        """Hang up on everyone."""
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, plain)

    def _start(self, target: object, *args: object) -> None:
        assert callable(target)
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            near = self._context.wrap_socket(plain, server_side=True)
        except (OSError, ssl.SSLError):  # it was not convinced, or not convincing
            plain.close()
            return
        far = socket.create_connection(("127.0.0.1", self._port))
        self._sockets += [near, far]
        self._start(_pass_on, far, near)
        _pass_on(near, far)


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for each in (source, sink):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


class Certificates:
    """An authority that nobody knows, a server's certificate, and a client's, in files."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self.client = folder / "client.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        authority.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(str(self.client))
        self._authority = authority

    def context(self, host: str = "127.0.0.1", *, mutual: bool = False) -> ssl.SSLContext:
        """What a server at that host has."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(host).configure_cert(context)
        if mutual:
            self._authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Made once: keys take time."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@contextlib.contextmanager
def tls(server: Server, context: ssl.SSLContext) -> Iterator[str]:
    """The URL of a server behind TLS, with the password of the limited user."""
    front = TlsFront(server.port, context)
    try:
        yield f"rediss://limited:{QUOTED}@127.0.0.1:{front.port}/0?namespace=limited-tls"
    finally:
        front.close()


class TestTls:
    """Who is at the other end is proven before the password is sent."""

    def test_a_known_authority(self, flowkit_redis_server: Server, certificates: Certificates) -> None:
        """Runs go over TLS, waits included."""

        @task(id="over-tls")
        def body(number: int) -> int:
            return number

        with (
            tls(flowkit_redis_server, certificates.context()) as url,
            Flow(f"{url}&tls_ca={certificates.ca}", worker=True) as flow,
        ):
            assert flow.start(body, 7).result(timeout=60) == 7

    @pytest.mark.parametrize(
        ("host", "options"),
        [("127.0.0.1", ""), ("elsewhere.example", "&tls_ca={ca}")],
        ids=["unknown authority", "another host"],
    )
    def test_a_server_that_proves_nothing(
        self, host: str, options: str, flowkit_redis_server: Server, certificates: Certificates
    ) -> None:
        """It is refused, and no secret is in the error."""
        with (
            tls(flowkit_redis_server, certificates.context(host)) as url,
            pytest.raises(Exception, match=r"(?i)certificate") as caught,
        ):
            redis_storage(url + options.format(ca=certificates.ca)).open()
        assert PASSWORD not in repr(caught.value)
        assert QUOTED not in repr(caught.value)

    def test_the_host_may_be_left_out(self, flowkit_redis_server: Server, certificates: Certificates) -> None:
        """`tls_verify=ca` asks for the authority alone, `none` for nothing."""
        with tls(flowkit_redis_server, certificates.context("elsewhere.example")) as url:
            for options in (f"&tls_ca={certificates.ca}&tls_verify=ca", "&tls_verify=none"):
                storage = redis_storage(url + options)
                storage.open()
                storage.close()

    def test_a_client_that_has_to_show_a_certificate(
        self, flowkit_redis_server: Server, certificates: Certificates
    ) -> None:
        """With one it is let in, without it is not."""
        with tls(flowkit_redis_server, certificates.context(mutual=True)) as url:
            with pytest.raises(Exception, match=r"(?i)ssl|tls|reset|closed"):
                redis_storage(f"{url}&tls_ca={certificates.ca}").open()
            storage = redis_storage(
                f"{url}&tls_ca={certificates.ca}&tls_cert={certificates.client}&tls_key={certificates.client}"
            )
            storage.open()
            storage.close()


def test_a_password_that_changes_is_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    """A server that lets nobody in any more: neither logs nor errors tell what was tried."""
    with Server(requirepass=PASSWORD) as server, caplog.at_level(logging.DEBUG):
        storage = redis_storage(server.url.replace("://", f"://:{QUOTED}@"))
        storage.open()
        server.kill()
        server.start(requirepass="another")
        with pytest.raises(Exception, match="does not accept the user or password") as caught:
            _until_an_answer(storage)
        storage.close()
    for secret in (PASSWORD, QUOTED):
        assert secret not in caplog.text
        assert secret not in repr(caught.value)
        assert secret not in repr(storage)


def _until_an_answer(storage: RedisStorage) -> None:
    for _ in range(3):
        with contextlib.suppress(OSError):
            storage.stats()
