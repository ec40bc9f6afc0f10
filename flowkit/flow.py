"""`Flow`: the application object. Tasks run in one; it owns a storage, a worker, and what they need."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Token
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from flowkit.active import Runner, closed, default_from, in_context, opened
from flowkit.clock import Clock, SystemClock
from flowkit.codec import Codec, JsonCodec
from flowkit.config import storage_url
from flowkit.durations import Duration, milliseconds
from flowkit.effects import Raised
from flowkit.engine import Engine
from flowkit.errors import ConfigurationError, RunFinished, RunNotFound
from flowkit.events import event_message, new_event_id
from flowkit.handles import RunHandle
from flowkit.inspection import RunList, fork_of
from flowkit.records import Delivery, RunQuery, RunStatus
from flowkit.registry import TaskSpec
from flowkit.reopening import keys_to_retry
from flowkit.run import current
from flowkit.spawning import Start
from flowkit.storage import Storage, open_storage
from flowkit.tasks import Runnable
from flowkit.worker import DEFAULT_GRACE_S, Closing, Worker, queues_from, workers_from

P = ParamSpec("P")
R = TypeVar("R")


class Flow:
    """Where tasks run: a storage, and a worker inside this process.

    Args:
        storage: a URL (`memory:`, `disk:./path`, ...) or a `Storage`. Unless given: FLOWKIT_STORAGE, else
            `[tool.flowkit] storage` in pyproject.toml, else `disk:.flowkit`.
        lease: how long a run stays with a worker that has gone silent: seconds, `timedelta` or text.
        retention: finished runs are forgotten after this long; None keeps them for ever.
        codec: how values become bytes; replace it to encrypt or compress.
        worker: False for a client only, which takes up no runs by itself.
        concurrency: how many runs its worker advances at a time.
        queues: the queues that its worker serves.

    Example:
        >>> from flowkit import Flow, task
        >>> @task(id="docs-add")
        ... def add(a: int, b: int) -> int:
        ...     return a + b
        >>> with Flow("memory:") as flow:
        ...     flow.run(add, 1, 2)
        3
    """

    def __init__(
        self,
        storage: str | Storage | None = None,
        *,
        lease: Duration = "30s",
        retention: Duration | None = "30d",
        codec: Codec | None = None,
        worker: bool = True,
        concurrency: int = 10,
        queues: Sequence[str] = ("default",),
        clock: Clock | None = None,
    ) -> None:
        self._given = storage
        self._lease_ms = milliseconds(lease, "Flow(lease=...)")
        self._retention_ms = None if retention is None else milliseconds(retention, "Flow(retention=...)")
        if self._lease_ms < _SHORTEST_LEASE_MS:
            raise ConfigurationError(f"Flow(lease={lease!r}): a lease is at least {_SHORTEST_LEASE_MS} ms")
        self._codec = codec or JsonCodec()
        self._clock = clock or SystemClock()
        self._with_worker = worker
        self._concurrency = workers_from(concurrency, "Flow(concurrency=...)")
        self._queues = queues_from(queues, "Flow(queues=...)")
        self._lock = threading.Lock()
        self._entered = 0
        self._engine: Engine | None = None
        self._worker: Worker | None = None
        self._tokens: list[Token[Runner | None]] = []

    # ---- opening and closing ----------------------------------------------------------------------------------

    def open(self) -> Self:
        """Open the storage; with its worker on, take up unfinished runs of the tasks this process has (rule X5)."""
        with self._lock:
            self._entered += 1
            if self._entered > 1:
                return self
            try:
                storage = _storage_of(self._given)
                self._engine = Engine(storage, self._codec, self._clock, lease_ms=self._lease_ms)
            except BaseException:
                self._entered = 0
                raise
            if self._with_worker:
                self._worker = Worker(self._engine, self._queues, self._concurrency, self._retention_ms)
                self._worker.start()
        opened(self)
        return self

    def close(self) -> None:
        """Hand back unfinished runs after the steps in flight, wherever they are advanced, and close the storage.

        A `flow.run` on another thread ends with an error there. A step may take 30 seconds; if it takes longer, its run
        is taken over when its lease has ended.
        """
        with self._lock:
            if self._entered == 0:
                return
            self._entered -= 1
            if self._entered:
                return
            worker, engine, self._worker, self._engine = self._worker, self._engine, None, None
        closed(self)
        if engine is None:
            return
        until_s = time.monotonic() + DEFAULT_GRACE_S
        engine.let_go(Closing("the flow is closing"))
        if worker is not None:
            worker.stop()
        engine.let_go_all(Closing("the flow is closing"), until_s - time.monotonic())  # those of callers as well
        engine.close()

    def __enter__(self) -> Self:
        self.open()
        self._tokens.append(in_context.set(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        in_context.reset(self._tokens.pop())
        self.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        in_context.reset(self._tokens.pop())
        await asyncio.to_thread(self.close)

    @property
    def engine(self) -> Engine:
        """What advances its runs.

        Raises:
            ConfigurationError: the flow is not open.
        """
        engine = self._engine
        if engine is None:
            raise ConfigurationError("this Flow is not open: use `with Flow(...) as flow:`, or call flow.open()")
        return engine

    @property
    def aio(self) -> AioFlow:
        """The same flow, awaitable."""
        return AioFlow(self)

    # ---- running ----------------------------------------------------------------------------------------------

    def run(self, task: Runnable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a task here, to its end, sync or async alike; returns its value or raises its error.

        Raises:
            RunConflict: the run id is taken by other work.
            RunBlocked: the run cannot go on until something is mended.
        """
        if _inside_a_task():
            return cast(
                "R", cast("Callable[..., object]", task)(*args, **kwargs)
            )  # a child run, so that a replay finds it again
        return cast("R", self.run_spec(spec_of_task(task), args, kwargs))

    def start(self, task: Runnable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]:
        """Start a task in the background; durable when this returns."""
        if _inside_a_task():
            return task.trigger(*args, **kwargs)
        return RunHandle(self.engine, self.submit_spec(spec_of_task(task), args, kwargs), task.id)

    def run_spec(self, spec: TaskSpec, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
        """Run here, to the end."""
        engine = self.engine
        token = in_context.set(self)
        try:
            result = engine.run_to_end(engine.new_run(spec, args, kwargs, grant=engine.grant()))
        finally:
            in_context.reset(token)
        return self._value_of(spec, result)

    async def run_spec_async(self, spec: TaskSpec, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
        """Run here, to the end, awaited."""
        engine = self.engine
        token = in_context.set(self)
        try:
            result = await engine.run_to_end_async(engine.new_run(spec, args, kwargs, grant=engine.grant()))
        finally:
            in_context.reset(token)
        return self._value_of(spec, result)

    def _value_of(self, spec: TaskSpec, result: bytes) -> object:
        outcome = self.engine.outcome_of(spec.id, result)
        if isinstance(outcome, Raised):
            raise outcome.error
        return outcome.value

    def submit_spec(self, spec: TaskSpec, args: tuple[object, ...], kwargs: Mapping[str, object]) -> str:
        """Put a run into its queue; returns its id."""
        engine = self.engine
        new = engine.new_run(spec, args, kwargs)
        engine.create(new)
        if self._worker is not None:
            self._worker.poke()
        return new.run_id

    def submit_batch(self, starts: Sequence[Start]) -> tuple[str, ...]:
        """Put many runs into their queues; returns their ids."""
        engine = self.engine
        runs = [engine.new_run(start.spec, start.args, start.kwargs) for start in starts]
        engine.create_all(runs)
        if self._worker is not None:
            self._worker.poke()
        return tuple(new.run_id for new in runs)

    # ---- runs -------------------------------------------------------------------------------------------------

    def handle(self, run_id: str) -> RunHandle[Any]:
        """A run by its id."""
        return RunHandle(self.engine, run_id)

    def cancel(self, run_id: str) -> bool:
        """Ask a run to stop, as `RunHandle.cancel` does; False if it had finished already."""
        return self.handle(run_id).cancel()

    def send_event(self, run_id: str, name: str, payload: object = None, id: str | None = None) -> bool:
        """Send a run an event that it waits for with `wait_for_event`, or will wait for.

        Called in a task or a step without an id, it is sent once, however often that runs again.

        Args:
            run_id: whom to send it to; it need not be waiting, nor even have begun.
            name: of the event.
            payload: anything that a step might return.
            id: what makes it one event; sent twice with one id to a run, it is received once.

        Returns:
            True; False if an event of that id was sent to the run before.

        Raises:
            RunFinished: the run has ended, so nobody would ever receive it.
            RunNotFound: there is no such run.
            SerializationError: the payload cannot be stored.
        """
        engine = self.engine
        event_id = new_event_id(name) if id is None else id
        message = event_message(engine.codec, name, payload, event_id, engine.clock.now_ms())
        match engine.tell(run_id, message):
            case Delivery.MISSING:
                raise RunNotFound(f"there is no run {run_id!r} in this storage to send event {name!r} to")
            case Delivery.CLOSED:
                status = engine.snapshot(run_id).header.status
                raise RunFinished(f"run {run_id!r} is {status}, so event {name!r} cannot be received")
            case delivery:
                if self._worker is not None:
                    self._worker.poke()
                return delivery is Delivery.DELIVERED

    def retry(self, run_id: str) -> RunHandle[Any]:
        """Reopen a failed or blocked run; only what failed runs again (rule X2).

        Raises:
            RunNotFound, RunFinished: there is no such run, or it did not fail.
            RunRolledBack: its compensation has run; fork it instead.
        """
        engine = self.engine
        snapshot = engine.load(run_id)
        engine.reopen(snapshot, keys_to_retry(engine.codec, snapshot))
        if self._worker is not None:
            self._worker.poke()
        return RunHandle(engine, run_id)

    def fork(self, run_id: str, from_step: str | None = None, *, new_id: str | None = None) -> RunHandle[Any]:
        """A new run of the same task and arguments that reuses the results before a step.

        Args:
            run_id: the run to start from, in whatever state.
            from_step: the name of the first step to run anew (`name#2` for its second call); None: everything.
            new_id: the id of the new run.
        """
        engine = self.engine
        new = fork_of(engine.codec, engine.load(run_id), from_step, new_id or uuid.uuid4().hex)
        engine.create(new)
        if self._worker is not None:
            self._worker.poke()
        return RunHandle(engine, new.run_id)

    def runs(
        self,
        status: RunStatus | str | None = None,
        task: str | Runnable[..., Any] | None = None,
        tag: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> RunList:
        """Runs, newest first, a page at a time; `.cursor` of one page is where the next begins.

        Raises:
            ConfigurationError: there is no such status.
        """
        if status is not None and status not in list(RunStatus):
            raise ConfigurationError(f"runs(status={status!r}): write one of {', '.join(RunStatus)}")
        name = task.id if isinstance(task, Runnable) else task
        query = RunQuery(None if status is None else RunStatus(status), name, tag)
        page = self.engine.storage.list_runs(query, cursor, limit)
        return RunList(page.headers, page.cursor)

    def worker(
        self,
        queues: Sequence[str] = ("default",),
        concurrency: int = 10,
        liveness: str | os.PathLike[str] | None = None,
    ) -> Worker:
        """A worker on this flow's storage; `.run()` works until it is stopped, by SIGTERM or Ctrl-C for example.

        Args:
            queues: those that it serves.
            concurrency: how many runs it advances at a time.
            liveness: a file that it touches three times in a lease while all is well, for health checks.
        """
        file = None if liveness is None else Path(liveness)
        return Worker(self.engine, queues, concurrency, self._retention_ms, file)

    def prune(self, older_than: Duration = "30d") -> int:
        """Forget runs that finished this long ago or longer; unfinished ones never (rule X3). Returns how many."""
        engine = self.engine
        before_ms = engine.clock.now_ms() - milliseconds(older_than, "prune(older_than=...)")
        total = 0
        while pruned := engine.storage.purge(before_ms + 1):  # what ended at that very millisecond too
            total += pruned
        return total


class AioFlow:
    """The awaitable form of `Flow`."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    def run(self, task: Runnable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run a task here, to its end, awaited; a sync one runs on a thread."""
        if _inside_a_task():
            return task.aio(*args, **kwargs)
        return cast("Coroutine[Any, Any, R]", self._flow.run_spec_async(spec_of_task(task), args, kwargs))

    async def start(self, task: Runnable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]:
        """Start a task in the background."""
        return await _off_loop(lambda: self._flow.start(task, *args, **kwargs))

    async def cancel(self, run_id: str) -> bool:
        """Ask a run to stop; False if it had finished already."""
        return await _off_loop(lambda: self._flow.cancel(run_id))

    async def send_event(self, run_id: str, name: str, payload: object = None, id: str | None = None) -> bool:
        """Send a run an event that it waits for, or will wait for."""
        event_id = new_event_id(name) if id is None else id
        return await _off_loop(lambda: self._flow.send_event(run_id, name, payload, event_id))

    async def retry(self, run_id: str) -> RunHandle[Any]:
        """Reopen a failed or blocked run."""
        return await _off_loop(lambda: self._flow.retry(run_id))

    async def fork(self, run_id: str, from_step: str | None = None) -> RunHandle[Any]:
        """A new run that reuses the results before a step."""
        return await _off_loop(lambda: self._flow.fork(run_id, from_step))


async def _off_loop(call: Callable[[], R]) -> R:
    return await asyncio.to_thread(call)


_SHORTEST_LEASE_MS = 100


def _storage_of(given: str | Storage | None) -> Storage:
    """The storage that was given or named; one that hands calls on by `__getattr__` is one too."""
    if given is not None and callable(getattr(given, "commit", None)):
        return cast("Storage", given)
    return open_storage(storage_url(cast("str | None", given)).url)  # which refuses what is no text


def _inside_a_task() -> bool:
    frame = current.get()
    return frame is not None and frame.step_key is None


def spec_of_task(task: object) -> TaskSpec:
    """The definition behind a task, or an error that says what was given instead."""
    if isinstance(task, Runnable):
        return task.spec
    raise ConfigurationError(f"{task!r} is not a task: decorate the function with @task")


def _open_default() -> Runner:
    flow = Flow().open()
    atexit.register(flow.close)
    return flow


default_from(_open_default)
