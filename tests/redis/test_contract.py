"""The Redis storage keeps the contract, and answers as the memory storage does."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings

from flowkit.storage import Storage
from flowkit_redis import RedisStorage, nodes, redis_storage
from flowkit_testing.contract import StorageContract
from flowkit_testing.machine import storage_machine
from flowkit_testing.servers import Server, binary
from tests.redis.guard import guarded

_numbers = count()
_servers: list[Server] = []


@pytest.fixture(scope="module", autouse=True)
def _shared(flowkit_redis_server: Server) -> Iterator[None]:
    """What the storages of this module lie on."""
    _servers.append(flowkit_redis_server)
    yield
    _servers.remove(flowkit_redis_server)


@pytest.fixture(scope="module")
def server_of_this_machine() -> Iterator[Server]:
    """The redis-server that is on the PATH."""
    with Server("redis") as server:
        yield server


def _make() -> Storage:
    return redis_storage(f"{_servers[-1].url}?namespace=contract{next(_numbers)}")


class TestRedis(StorageContract):
    """One server, one shard; no script touches a key that it has not declared, whatever it is asked."""

    @pytest.fixture(autouse=True)
    def _keys_are_declared(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Run every script under guard."""
        monkeypatch.setattr(nodes, "script", guarded)

    def make_storage(self, tmp_path: Path) -> Storage:
        """A new namespace."""
        del tmp_path
        return _make()

    def reopen(self, storage: Storage) -> Storage:
        """Another object on the same namespace."""
        storage.close()
        return self.another(storage)

    def another(self, storage: Storage) -> Storage:
        """As a second process would open it."""
        assert isinstance(storage, RedisStorage)
        other = storage.sibling()
        other.open()
        return other


if binary("redis") is not None:

    class TestServerOfThisMachine(TestRedis):
        """The same on the redis-server that is on the PATH: Debian's is Redis 7, which Valkey has left behind."""

        @pytest.fixture(autouse=True)
        def _its_own(self, server_of_this_machine: Server) -> Iterator[None]:
            """What the storages of this class lie on."""
            _servers.append(server_of_this_machine)
            yield
            _servers.remove(server_of_this_machine)


TestRedisAgainstMemory = storage_machine(_make).TestCase
TestRedisAgainstMemory.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
