"""Namespaces on the server of the test process, storages on them, and what the tests do with both."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from flowkit.patience import PatientStorage
from flowkit.records import Created, Grant, Lease, NewRun
from flowkit_redis import RedisStorage, redis_storage
from flowkit_testing.auditor import EffectLog
from flowkit_testing.clusters import Cluster
from flowkit_testing.redis_audit import audit
from flowkit_testing.servers import Server
from tests.redis.tls import Certificates

_namespaces = count()
HOUR_MS = 3_600_000


@pytest.fixture
def url(flowkit_redis_server: Server) -> str:
    """An empty namespace on the shared server."""
    return f"{flowkit_redis_server.url}?namespace=t{next(_namespaces)}-"  # what a test adds to it is nobody else's


@pytest.fixture
def cluster_url(flowkit_redis_cluster: Cluster) -> str:
    """An empty namespace of eight shards."""
    return f"{flowkit_redis_cluster.url}?namespace=t{os.getpid()}-{next(_namespaces)}"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that nobody listens on, nor can begin to as long as the test lasts."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@contextlib.contextmanager
def opened(url: str) -> Iterator[RedisStorage]:
    """A storage, for a while."""
    storage = redis_storage(url)
    storage.open()
    with contextlib.closing(storage):
        yield storage


@pytest.fixture
def storage(url: str) -> Iterator[RedisStorage]:
    """A storage that nothing disturbs; whatever a test has done, nothing is orphaned or in two places (rule X1)."""
    with opened(url) as storage:
        yield storage
        assert audit(storage) == []


def complaints(url: str) -> list[str]:
    """What an auditor finds."""
    with opened(url) as storage:
        return audit(storage)


def born(storage: RedisStorage | PatientStorage, run_id: str = "run") -> Lease:
    """A run that is leased to whoever asks."""
    (answer,) = storage.submit([NewRun(run_id, "task", b"input", grant=Grant("worker", f"born-{run_id}", HOUR_MS))])
    assert isinstance(answer, Created)
    assert answer.lease is not None
    return answer.lease


@pytest.fixture
def effects(tmp_path: Path) -> EffectLog:
    """What steps have done."""
    return EffectLog(tmp_path / "effects")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Made once: keys take time."""
    return Certificates(tmp_path_factory.mktemp("certificates"))
