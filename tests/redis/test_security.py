"""Users with the rights that the docs tell and no more, TLS, namespaces that do not see each other, no secret shown."""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from flowkit import Flow, task
from flowkit.errors import StorageError
from flowkit.records import AnyOf, Grant, NewRun, RunQuery
from flowkit.storage import Storage
from flowkit_redis import RedisStorage, redis_storage
from flowkit_testing.contract.claiming import Claiming
from flowkit_testing.contract.committing import Committing
from flowkit_testing.contract.keeping import Purging, Values
from flowkit_testing.contract.limiting import Limiting
from flowkit_testing.contract.messages import Sending
from flowkit_testing.contract.reading import Listing, Loading
from flowkit_testing.contract.waiting import Waiting
from flowkit_testing.servers import Server
from tests.redis.rule import PASSWORD, QUOTED, limited
from tests.redis.tls import Certificates, TlsFront

ANY = AnyOf(("task",))

_numbers = count()
_urls: list[str] = []


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
    with pytest.raises(StorageError, match="users, rights and TLS") as caught:
        redis_storage(f"{_urls[-1]}?namespace=other").open()
    assert PASSWORD not in str(caught.value)
    assert QUOTED not in str(caught.value)


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
