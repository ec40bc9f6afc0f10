"""What the tests of the rules share: stored states, a process that dies, a clock, and bodies in both colours."""

import asyncio
import inspect
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast, get_args, overload

import attrs
import pytest

import flowkit
import flowkit.reasons
import flowkit.run
from flowkit import Flow, Retry, RunCancelled, RunStatus, Step, Task, step, task
from flowkit.clock import Clock
from flowkit.durations import Duration
from flowkit.engine import Engine
from flowkit.records import RunHeader
from flowkit.storage import Storage, open_storage
from flowkit_testing.servers import Server

P = ParamSpec("P")
R = TypeVar("R")
Body = Generator[Any, Any, R]  # what a body in both colours is written as

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


def crash_once(store: Store, body: Any, *args: object) -> None:  # noqa: ANN401  # a task of either colour
    """Run a task as `r` in a process that dies in it."""
    flow = store.flow()
    with pytest.raises(Crash):
        flow.run(body.options(run_id="r"), *args)
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


# ---- colours --------------------------------------------------------------------------------------------------------


class Colour:
    """Makes the same steps and tasks synchronous or asynchronous. A body yields the calls that it would await."""

    def __init__(self, *, awaits: bool) -> None:
        self.awaits = awaits

    @overload
    def step(self, fn: Callable[P, R], /) -> Step[P, Any]: ...
    @overload
    def step(self, /, **options: Any) -> Callable[[Callable[P, R]], Step[P, Any]]: ...  # noqa: ANN401  # as `flowkit.step`
    def step(self, fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Like `@step`, around a plain function."""
        make = step(**options)
        if fn is None:
            return lambda function: make(_awaited(function) if self.awaits else function)
        return make(_awaited(fn) if self.awaits else fn)

    @overload
    def task(self, fn: Callable[P, Body[R]], /) -> Task[P, R]: ...
    @overload
    def task(self, /, **options: Any) -> Callable[[Callable[P, Body[R]]], Task[P, R]]: ...  # noqa: ANN401  # as `flowkit.task`
    def task(self, fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Like `@task`, around a generator that yields its calls."""
        make = task(**options)
        if fn is None:
            return lambda body: make(_awaiting(body) if self.awaits else _calling(body))
        return make(_awaiting(fn) if self.awaits else _calling(fn))

    def sleep(self, duration: Duration) -> Any:  # noqa: ANN401  # a coroutine, or nothing
        """`flowkit.sleep`, in this colour."""
        if self.awaits:
            return flowkit.aio.sleep(duration)
        flowkit.sleep(duration)
        return None

    def sleep_until(self, when: datetime) -> Any:  # noqa: ANN401  # a coroutine, or nothing
        """`flowkit.sleep_until`, in this colour."""
        if self.awaits:
            return flowkit.aio.sleep_until(when)
        flowkit.sleep_until(when)
        return None

    def wait_for_event(self, name: str, *, timeout: Duration | None = None, type: type[Any] = object) -> Any:  # noqa: ANN401  # a coroutine, or the payload
        """`flowkit.wait_for_event`, in this colour."""
        waits = flowkit.aio.wait_for_event if self.awaits else flowkit.wait_for_event
        return waits(name, timeout=timeout, type=type)

    def start(self, body: Any) -> Any:  # noqa: ANN401  # a coroutine, or a handle
        """`trigger`, in this colour."""
        return self.form(body).trigger()

    def form(self, thing: Any) -> Any:  # noqa: ANN401  # a task, a handle or a batch
        """The form of it that a body of this colour uses."""
        return thing.aio if self.awaits else thing

    @property
    def cancelled(self) -> type[BaseException]:
        """What a cancelled body sees."""
        return asyncio.CancelledError if self.awaits else BaseException


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Colour:
    """Synchronous and asynchronous alike."""
    return Colour(awaits=request.param == "async")


def _dress(body: Callable[..., Any], fn: Callable[..., Any]) -> Callable[..., Any]:
    """Give a wrapper the name and signature of what it wraps, without the generator."""
    signature = inspect.signature(fn)
    result = signature.return_annotation
    if inspect.isgeneratorfunction(fn):
        result = get_args(result)[2]
    setattr(body, "__signature__", signature.replace(return_annotation=result))  # noqa: B010  # mypy knows no such name
    body.__annotations__ = {**fn.__annotations__, "return": result}
    body.__name__, body.__qualname__, body.__module__ = fn.__name__, fn.__qualname__, fn.__module__
    body.__doc__ = fn.__doc__
    return body


def _awaited(fn: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """An async function that does the same."""

    async def body(*args: P.args, **kwargs: P.kwargs) -> R:
        return fn(*args, **kwargs)

    return _dress(body, fn)


def _calling(fn: Callable[P, Body[R]]) -> Callable[P, R]:
    """A plain body: a call that is yielded has been made already."""

    def body(*args: P.args, **kwargs: P.kwargs) -> R:
        generator = fn(*args, **kwargs)
        value: Any = None
        while True:
            try:
                value = generator.send(value)
            except StopIteration as stop:
                return cast("R", stop.value)

    return _dress(body, fn)


def _awaiting(fn: Callable[P, Body[R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """An async body: a call that is yielded is awaited where it stands, errors included."""

    async def body(*args: P.args, **kwargs: P.kwargs) -> R:
        generator = fn(*args, **kwargs)
        resume: Callable[[], Any] = lambda: next(generator)  # noqa: E731  # one of three ways to go on
        while True:
            try:
                call = resume()
            except StopIteration as stop:
                return cast("R", stop.value)
            try:
                value = await call if inspect.isawaitable(call) else call
            except BaseException as error:  # noqa: BLE001  # the body decides what to do about it
                resume = _partial(generator.throw, error)
            else:
                resume = _partial(generator.send, value)

    return _dress(body, fn)


def _partial(fn: Callable[[Any], Any], argument: object) -> Callable[[], Any]:
    return lambda: fn(argument)
