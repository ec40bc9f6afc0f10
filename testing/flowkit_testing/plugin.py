"""The pytest plugin: the fixture `harness`, on every storage that `--flowkit-storage` names."""

from __future__ import annotations

import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from flowkit.active import in_context
from flowkit.storage import open_storage
from flowkit_testing.clusters import Cluster
from flowkit_testing.harness import Harness, enter
from flowkit_testing.points import schedule_of
from flowkit_testing.servers import Server

_URLS = {"memory": "memory:", "disk": "disk:{path}?durability=process", "redis": "{server}?namespace={unique}"}
_harness_key = pytest.StashKey[Harness]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("flowkit", "durable workflows")
    group.addoption(
        "--flowkit-storage",
        default="memory",
        metavar="NAMES",
        help="run each test that uses `harness` on each of these storages: memory, disk, redis (default: memory)",
    )
    group.addoption(
        "--flowkit-always-replay",
        action="store_true",
        help="unwind and replay every run after every recorded step",
    )
    group.addoption(
        "--flowkit-replay",
        default=None,
        metavar="TOKEN",
        help="let harness.explore try only the schedule of this token, which a failing exploration has printed",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse options that mean nothing before a test has run."""
    _storages(config)
    token = config.getoption("--flowkit-replay")
    if token is not None:
        try:
            schedule_of(token)
        except ValueError as error:
            raise pytest.UsageError(f"--flowkit-replay: {error}") from error


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that uses a storage of the harness on each one asked for."""
    names = _storages(metafunc.config)
    if "flowkit_storage_url" in metafunc.fixturenames and names != ["memory"]:
        metafunc.parametrize("flowkit_storage_url", names, indirect=True)


def _storages(config: pytest.Config) -> list[str]:
    names = [name.strip() for name in str(config.getoption("--flowkit-storage")).split(",") if name.strip()]
    for name in names:
        if name not in _URLS:
            raise pytest.UsageError(f"--flowkit-storage={name}: write one or more of {', '.join(_URLS)}")
    return names or ["memory"]


@pytest.fixture
def flowkit_storage_url(request: pytest.FixtureRequest) -> str:
    """The storage that `harness` keeps its runs in."""
    name = getattr(request, "param", "memory")
    url = _URLS[name]
    if "{server}" in url:
        server: Server = request.getfixturevalue("flowkit_redis_server")
        return url.format(server=server.url, unique=f"test-{uuid.uuid4().hex}")
    if "{path}" in url:
        path: Path = request.getfixturevalue("tmp_path")
        return url.format(path=path / "flowkit")
    return url


@pytest.fixture(scope="session")
def flowkit_redis_server() -> Iterator[Server]:
    """A server of the test process's own, which keeps nothing. Tests share it, each in a namespace of its own."""
    with Server() as server:
        yield server


@pytest.fixture
def harness(request: pytest.FixtureRequest, flowkit_storage_url: str) -> Generator[Harness]:
    """Runs tasks in virtual time and makes happen what should not; see `flowkit_testing.Harness`."""
    storage = open_storage(flowkit_storage_url)
    made = Harness(
        storage,
        always_replay=bool(request.config.getoption("--flowkit-always-replay")),
        replay=request.config.getoption("--flowkit-replay"),
    )
    request.node.stash[_harness_key] = made
    token = enter(made)
    try:
        yield made
    finally:
        in_context.reset(token)
        made.close()
        storage.close()


@pytest.fixture(scope="session")
def flowkit_redis_cluster() -> Iterator[Cluster]:
    """A Cluster of three masters of the test process's own, which keeps nothing. Tests share it by namespaces."""
    with Cluster() as cluster:
        yield cluster


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Fail a test that asked for a fault which never happened."""
    result = yield
    made = pyfuncitem.stash.get(_harness_key, None)
    if made is not None:
        made.check()
    return result
