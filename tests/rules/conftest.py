"""What the tests of the rules share: stored states, a process that dies, and a clock."""

import asyncio
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import attrs
import pytest

import flowkit
import flowkit.reasons
import flowkit.run
from flowkit import Flow, Retry, RunCancelled, RunStatus
from flowkit.clock import Clock
from flowkit.engine import Engine
from flowkit.records import RunHeader
from flowkit.storage import Storage, open_storage
from flowkit_testing.servers import Server

T0_MS = 1_700_000_000_000
PATIENCE_S = 60.0  # how long to wait for what must come; nothing takes that long unless it is broken


class Crash(BaseException):
    """The process ends here, as far as flowkit can tell: no `except Exception` holds it."""


# ---- stored states --------------------------------------------------------------------------------------------------


@attrs.define
class Store:
    """One stored state, on which flows come and go as processes do."""

    url: str
    flows: list[Flow] = attrs.Factory(list)

    def storage(self) -> Storage:
        """Another storage on this state, not opened yet."""
        return open_storage(self.url)

    def flow(self, storage: Storage | None = None, *, clock: Clock | None = None, worker: bool = False) -> Flow:
        """Open a flow, as another process would; the fixture closes it."""
        flow = Flow(storage or self.storage(), clock=clock, worker=worker).open()
        self.flows.append(flow)
        return flow

    def header(self, run_id: str) -> RunHeader:
        """What the storage holds of a run."""
        storage = self.storage()
        storage.open()
        snapshot = storage.load(run_id)
        storage.close()
        assert snapshot is not None
        return snapshot.header

    def close(self) -> None:
        """Close what is still open, newest first."""
        for flow in reversed(self.flows):
            flow.close()


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Store]:
    """An empty stored state in memory, for what no storage has a say in."""
    url = f"memory:rules-{tmp_path.name}-{tmp_path.parent.name}"
    kept = open_storage(url)  # a named memory lasts as long as something holds it
    store = Store(url)
    yield store
    store.close()
    kept.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Store]:
    """An empty stored state on disk."""
    store = Store(f"disk:{tmp_path / 'state'}?durability=process")
    yield store
    store.close()


@pytest.fixture
def redis(flowkit_redis_server: Server) -> Iterator[Store]:
    """An empty stored state on a Redis server."""
    store = Store(f"{flowkit_redis_server.url}?namespace=rules-{uuid.uuid4().hex}")
    yield store
    store.close()


# On Redis those rules are tried in which a storage has the most say; the contract and the state machine hold the rest.
ON_REDIS = {
    "test_d_owners",
    "test_d_steps",
    "test_e_children_and_timers",
    "test_e_event_payloads",
    "test_e_event_timeouts",
    "test_e_events",
    "test_x_finished",
    "test_x_runs",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Try each rule that asks for a stored state on all storages, or on those that `--flowkit-storage` names."""
    if "store" in metafunc.fixturenames:
        names = ["memory", "disk"] + ["redis"] * (Path(metafunc.module.__file__).stem in ON_REDIS)
        asked_for = str(metafunc.config.getoption("--flowkit-storage"))
        metafunc.parametrize("store", names if asked_for == "memory" else asked_for.split(","), indirect=True)


@pytest.fixture
def store(request: pytest.FixtureRequest) -> Store:
    """An empty stored state of each kind."""
    return cast("Store", request.getfixturevalue(request.param))


@pytest.fixture
def flow(store: Store) -> Flow:
    """A flow without a worker of its own: runs advance where they are called."""
    return store.flow()


@pytest.fixture
def working(store: Store) -> Flow:
    """A flow with a worker of one slot."""
    flow = Flow(store.storage(), concurrency=1).open()
    store.flows.append(flow)
    return flow


@attrs.frozen
class Process:
    """Runs a program in a process of its own, which may be killed; the storage's URL and more are its arguments."""

    folder: Path

    def run(self, program: str, *args: str) -> "subprocess.CompletedProcess[str]":
        """Run it to its end, whichever that is."""
        script = self.folder / "program.py"
        script.write_text(program)
        return subprocess.run(
            [sys.executable, "-W", "error", str(script), *args],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )


@pytest.fixture
def process(tmp_path: Path) -> Process:
    """Another process."""
    return Process(tmp_path)


class Wire:
    """The way from one process to its storage. `before` and `after` may raise: the call is lost, or its answer is."""

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.before: Callable[[str, tuple[Any, ...]], None] | None = None
        self.after: Callable[[str, tuple[Any, ...]], None] | None = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # a storage's method, whichever it is
        method = getattr(self.inner, name)
        if not callable(method) or name == "sibling":
            return method

        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # as the method it stands for
            if self.before:
                self.before(name, args)
            answer = method(*args, **kwargs)
            self.calls.append((name, args))
            if self.after:
                self.after(name, args)
            return answer

        return call

    @property
    def storage(self) -> Storage:
        """This, as a flow takes it."""
        return cast("Storage", self)

    def commits(self) -> int:
        """How many commits went through."""
        return sum(len(args[0]) for name, args in self.calls if name == "commit")


@pytest.fixture
def wire(store: Store) -> Wire:
    """A way to the stored state that a test may disturb."""
    return Wire(store.storage())


# ---- time -----------------------------------------------------------------------------------------------------------


class FakeClock:
    """Time that passes only when someone sleeps, and then at once; several processes may share it."""

    virtual = True

    def __init__(self) -> None:
        self.ms = T0_MS
        self.slept: list[float] = []
        self.on_sleep: Callable[[float], None] | None = None

    def now_ms(self) -> int:
        """The time that was set."""
        return self.ms

    def advance(self, **span: float) -> None:
        """Let time pass, in the words of `timedelta`."""
        self.ms += timedelta(**span) // timedelta(milliseconds=1)

    def sleep(self, seconds: float) -> None:
        """Pass the time at once."""
        self.slept.append(seconds)
        if self.on_sleep:
            self.on_sleep(seconds)
        self.ms += round(seconds * 1000)

    async def sleep_async(self, seconds: float) -> None:
        """Pass the time at once, after giving others a turn."""
        await asyncio.sleep(0)
        self.sleep(seconds)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until someone sleeps."""
    return FakeClock()


@pytest.fixture
def aside() -> Iterator[Executor]:
    """Threads for what must go on beside the test."""
    with ThreadPoolExecutor() as executor:
        yield executor


def is_closing(engine: Engine, run_id: str) -> bool:
    """Whether a run that is advanced has been asked to stop."""
    run = engine._leases._active.get(run_id)  # noqa: SLF001  # there is no other sign of it
    return run is not None and run.closing is not None


def at_once(attempts: int = 3) -> Retry:
    """A policy that does not wait."""
    return Retry(attempts=attempts, delay=0, jitter=0)


def crash_once(store: Store, body: Any, *args: object, run_id: str = "r") -> None:  # noqa: ANN401  # a task of either colour
    """Run a task in a process that dies in it."""
    flow = store.flow()
    with pytest.raises(Crash):
        flow.run(body.options(run_id=run_id), *args)
    flow.close()


def eventually(what: Callable[[], bool]) -> None:
    """Wait until something that must become true is true."""
    tick = threading.Event()
    for _ in range(int(PATIENCE_S / 0.005)):
        if what():
            return
        tick.wait(0.005)
    raise AssertionError("what had to become true did not")


def waiting(flow: Flow, run_id: str = "r") -> None:
    """Wait until a run waits."""
    eventually(lambda: flow.handle(run_id).status() is RunStatus.WAITING)


def cancel_as_it_waits(flow: Flow, body: Any) -> None:  # noqa: ANN401  # a task of either colour
    """Start a task as `r`, cancel it as soon as it waits, and see it end by that."""
    handle = flow.start(body.options(run_id="r"))
    waiting(flow)
    assert handle.cancel()
    with pytest.raises(RunCancelled):
        handle.result(timeout=PATIENCE_S)
    assert handle.status() is RunStatus.CANCELLED


def is_cancellation(error: BaseException) -> bool:
    """False of what only takes a body off its stack for a while."""
    run = flowkit.run.current.get()
    assert run is not None
    return not isinstance(error, flowkit.reasons.Unwind) and run.run.reason is None
