"""The storages that `--flowkit-storage` can name, and how a test gets an empty one."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping

import pytest

from flowkit_testing.servers import Server

StorageMaker = Callable[[pytest.FixtureRequest], str]
"""Gives the URL of an empty storage that a test may use; asked again, of another one."""


def memory(request: pytest.FixtureRequest) -> str:
    """In this process."""
    del request
    return "memory:"


def disk(request: pytest.FixtureRequest) -> str:
    """In a folder of its own. What survives a killed process will do, since no test cuts the power."""
    factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
    return f"disk:{factory.mktemp('flowkit') / 'state'}?durability=process"


def redis(request: pytest.FixtureRequest) -> str:
    """In a namespace of its own on a real server, which is started once for each test process and ended with it."""
    server: Server = request.getfixturevalue("flowkit_redis_server")
    return f"{server.url}?namespace=test-{uuid.uuid4().hex}"


BUILT_IN: Mapping[str, StorageMaker] = {"memory": memory, "disk": disk, "redis": redis}


class Hooks:
    """What other plugins can add."""

    @pytest.hookspec
    def pytest_flowkit_storages(self) -> Mapping[str, StorageMaker]:  # type: ignore[empty-body]  # a declaration
        """Storages that `--flowkit-storage` can name besides the built-in ones, each with its maker.

        Example, in a `conftest.py`:

            def pytest_flowkit_storages():
                return {"sqlite": lambda request: f"sqlite:{request.getfixturevalue('tmp_path')}/runs.db"}
        """
