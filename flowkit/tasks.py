"""`@task`: the decorator and the frozen objects it makes. Making one only makes its id known."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Generic, ParamSpec, Protocol, Self, TypeVar, cast, overload

from attrs import evolve

from flowkit.active import active_flow
from flowkit.batches import Batch
from flowkit.binding import Bound
from flowkit.cron import Cron, cron_from, takes_tick
from flowkit.durations import Duration, seconds
from flowkit.engine import Engine
from flowkit.errors import ConfigurationError
from flowkit.functions import is_async_function, require_function
from flowkit.handles import RunHandle
from flowkit.limits import Concurrency, concurrency_from
from flowkit.overrides import overridden
from flowkit.registry import TaskSpec, task_spec, tasks
from flowkit.retry import RetryPolicy, policy_from
from flowkit.run import current
from flowkit.saga import undo_spec
from flowkit.spawning import (
    Start,
    call_child,
    call_child_async,
    engine_of,
    trigger_batch,
    trigger_batch_later,
    trigger_child,
    trigger_child_later,
)
from flowkit.waiting import RunResult, trigger_and_wait_async

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., object])
T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Takes(Protocol[T_contra, R_co]):
    """What can be called with one argument: items of a batch need not be bound then."""

    def __call__(self, item: T_contra, /) -> R_co:
        """Call it."""


class Runnable(Generic[P, R]):
    """What can be run by itself under an id: sync and async tasks, and sequencers."""

    def __init__(self, spec: TaskSpec) -> None:
        functools.update_wrapper(cast("Callable[..., object]", self), spec.fn)
        self.spec = spec  # after it, since what is wrapped may have a `spec` too

    @property
    def id(self) -> str:
        """The task's id, under which its runs are stored."""
        return self.spec.id

    def options(
        self,
        *,
        run_id: str | None = None,
        key: str | None = None,
        delay: Duration | None = None,
        priority: int | None = None,
        tags: Sequence[str] | None = None,
        expires: Duration | None = None,
        queue: str | None = None,
        attempts: int | None = None,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = None,
    ) -> Self:
        """The same task with other options; what is not given stays as it is.

        Args:
            run_id: the run's id. Given twice it is one run: the second caller joins it, resumes it, or gets its result.
            key: names the child run within its parent's scope, instead of its ordinal.
            delay: how long a triggered run waits before it starts.
            priority: runs of higher priority are started first.
            tags: words to find the run by.
            expires: a run not started by then is cancelled.
            queue: the queue that triggered runs wait in.
            attempts: tries of each piece of its work, in all.
            retry: a `Retry`, or a function `(error, attempt) -> seconds | None`.
            timeout: how long a run may take, from the time when it was triggered, or is to start after its delay.

        `attempts`, `retry` and `timeout` are kept with the run, so that they hold wherever it is taken up; a `retry`
        that is a function cannot be, and belongs to `@task`.
        """
        where = f"task {self.id!r}"
        for name, text in (("run_id", run_id), ("key", key), ("queue", queue)):
            if text is not None and (not isinstance(text, str) or not text):
                raise ConfigurationError(f"{where}: {name}={text!r} must be a text that is not empty")
        if priority is not None and (not isinstance(priority, int) or abs(priority) > _MOST_PRIORITY):
            raise ConfigurationError(f"{where}: priority={priority!r} must be a whole number within ±{_MOST_PRIORITY}")
        spec = _for_one_run(self._definition(), attempts, retry, timeout)
        given: dict[str, Any] = {
            "run_id": run_id,
            "key": key,
            "priority": priority,
            "queue": queue,
            "tags": None if tags is None else _tags(tags, where),
            "delay_s": None if delay is None else seconds(delay, f"{where}: delay"),
            "expires_s": None if expires is None else seconds(expires, f"{where}: expires"),
        }
        return self._with(evolve(spec, **{name: value for name, value in given.items() if value is not None}))

    def _definition(self) -> TaskSpec:
        """Its definition, to be read and not to be run."""
        return self.spec

    def _with(self, spec: TaskSpec) -> Self:
        """The same with another definition."""
        return type(self)(spec)

    def compensate(self, undo: F) -> F:
        """Say how to undo a completed run of this task, for a parent that is rolled back (rule G1).

        The function gets the task's result, and its arguments if it takes them by name.
        """
        require_function(undo, f"@{self.spec.id}.compensate")
        self.spec = evolve(self.spec, undo=undo_spec(undo, self.spec.fn, self.spec.policy))
        return undo

    def trigger(self, /, *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]:
        """Put a run into its queue; it is durable when this returns (rule X1).

        Inside a task the run is a child: a replay finds it again, and waiting for it lets go of the run that waits.
        """
        frame, start = current.get(), Start(self.spec, args, kwargs)
        if frame is not None:
            return RunHandle(engine_of(frame.run), trigger_child(frame, start), self.spec.id)
        flow = active_flow()
        return RunHandle(flow.engine, flow.submit_spec(self.spec, args, kwargs), self.spec.id)

    def trigger_and_wait(self, /, *args: P.args, **kwargs: P.kwargs) -> RunResult[R]:
        """Put a run into its queue and wait until it has ended; never raises for a failed run."""
        return self.trigger(*args, **kwargs).wait_for_completion()

    @overload
    def batch_trigger(self, items: Iterable[Bound[R]]) -> Batch[R]: ...
    @overload
    def batch_trigger(self: Takes[T, Coroutine[Any, Any, R]], items: Iterable[T]) -> Batch[R]: ...
    @overload
    def batch_trigger(self: Takes[T, R], items: Iterable[T]) -> Batch[R]: ...

    def batch_trigger(self, items: Iterable[Any]) -> Batch[Any]:  # the overloads say what
        """Put a run for each item into its queue, all in one change, or in a few if they are very many.

        Args:
            items: one argument each, or `task.bind(...)` for more; what is bound may have options of its own.
        """
        starts = _starts(self.spec, items)
        frame = current.get()
        if frame is not None:
            return Batch(engine_of(frame.run), self.spec.id, trigger_batch(frame, self.spec, starts))
        flow = active_flow()
        return Batch(flow.engine, self.spec.id, flow.submit_batch(starts))

    @property
    def aio(self) -> AioTask[P, R]:
        """The same, awaitable; a plain function runs on a thread."""
        return AioTask(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.spec.id}>"


class Task(Runnable[P, R]):
    """A durable task around a plain function. Calling it runs it durably, here, and returns its result."""

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> Bound[R]:
        """The call with these arguments, not made yet: for `gather` and `batch_trigger`."""
        return Bound(self.spec.id, self, False, args, kwargs, self, self.aio)  # noqa: FBT003  # its colour

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it to its end. Inside another task it is a child run, in its parent's place (rule E3)."""
        frame = current.get()
        if frame is None:
            return cast("R", active_flow().run_spec(self.spec, args, kwargs))
        if frame.step_key is not None:  # I5: inside a step it is just its function
            return cast("R", self.spec.fn(*args, **kwargs))
        return cast("R", call_child(frame, Start(self.spec, args, kwargs)))


class AsyncTask(Runnable[P, R]):
    """A durable task around an async function. Awaiting it runs it durably, here, and returns its result."""

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> Bound[R]:
        """The call with these arguments, not made yet: for `aio.gather` and `batch_trigger`."""
        return Bound(self.spec.id, self, True, args, kwargs, self, self)  # noqa: FBT003  # its colour

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run it to its end. Inside another task it is a child run, in its parent's place (rule E3)."""
        return cast("Coroutine[Any, Any, R]", _call_async(self.spec, args, kwargs))


class AioTask(Generic[P, R]):
    """The awaitable form of a task."""

    def __init__(self, task: Runnable[P, R]) -> None:
        self._task = task

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run it to its end, awaited."""
        return cast("Coroutine[Any, Any, R]", _call_async(self._task.spec, args, kwargs))

    def trigger(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, RunHandle[R]]:
        """Put a run into its queue; it is durable when this returns."""
        frame, spec = current.get(), self._task.spec
        if frame is None or frame.step_key is not None:
            return asyncio.to_thread(self._task.trigger, *args, **kwargs)
        return _handle(engine_of(frame.run), spec.id, trigger_child_later(frame, Start(spec, args, kwargs)))

    def trigger_and_wait(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, RunResult[R]]:
        """Put a run into its queue and wait until it has ended; never raises for a failed run."""
        frame, spec = current.get(), self._task.spec
        if frame is None or frame.step_key is not None:
            return asyncio.to_thread(self._task.trigger_and_wait, *args, **kwargs)
        return trigger_and_wait_async(frame, engine_of(frame.run), Start(spec, args, kwargs))

    @overload
    def batch_trigger(self, items: Iterable[Bound[R]]) -> Coroutine[Any, Any, Batch[R]]: ...
    @overload
    def batch_trigger(self: Takes[T, Coroutine[Any, Any, R]], items: Iterable[T]) -> Coroutine[Any, Any, Batch[R]]: ...

    def batch_trigger(self, items: Iterable[Any]) -> Coroutine[Any, Any, Batch[Any]]:  # the overloads say what
        """Put a run for each item into its queue, all in one change, or in a few if they are very many."""
        frame, spec = current.get(), self._task.spec
        if frame is None or frame.step_key is not None:
            return asyncio.to_thread(self._task.batch_trigger, items)
        return _batch(engine_of(frame.run), spec.id, trigger_batch_later(frame, spec, _starts(spec, items)))


async def _handle(engine: Engine, task_id: str, trigger: Callable[[], Coroutine[Any, Any, str]]) -> RunHandle[Any]:
    return RunHandle(engine, await trigger(), task_id)


async def _batch(
    engine: Engine, task_id: str, trigger: Callable[[], Coroutine[Any, Any, tuple[str, ...]]]
) -> Batch[Any]:
    return Batch(engine, task_id, await trigger())


def _starts(spec: TaskSpec, items: Iterable[object]) -> list[Start]:
    """The runs of a batch."""
    starts = []
    for place, item in enumerate(items):
        if not isinstance(item, Bound):
            starts.append(Start(spec, (item,), {}))
        elif isinstance(item.target, Runnable) and item.target.spec.id == spec.id:
            starts.append(Start(item.target.spec, item.args, item.kwargs))
        else:
            raise ConfigurationError(
                f"task {spec.id!r}: batch_trigger takes runs of this task, and item {place} is one of {item.name!r}"
            )
    return starts


_MOST_PRIORITY = 1_000


def _call_async(spec: TaskSpec, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Coroutine[Any, Any, object]:
    frame = current.get()
    if frame is None:
        return active_flow().run_spec_async(spec, args, kwargs)
    if frame.step_key is not None:
        return _plainly(spec, args, kwargs)
    return call_child_async(frame, Start(spec, args, kwargs))


async def _plainly(spec: TaskSpec, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
    if spec.is_async:
        return await spec.fn(*args, **kwargs)  # type: ignore[misc]  # an async function
    return await asyncio.to_thread(spec.fn, *args, **kwargs)


# ---- the decorator --------------------------------------------------------------------------------------------------


class TaskMaker:
    """A `@task(...)` that waits for its function."""

    def __init__(self, task_id: str | None, options: Callable[[TaskSpec], TaskSpec]) -> None:
        self._task_id = task_id
        self._options = options

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]  # coroutine first
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Task[P, R]: ...

    def __call__(self, fn: Callable[..., Any], /) -> object:
        """Make a task of the function."""
        fn = require_function(fn, "@task")
        is_async = is_async_function(fn)
        spec = self._options(task_spec(fn, self._task_id, is_async=is_async))
        tasks.add(spec)
        return AsyncTask[..., Any](spec) if is_async else Task[..., Any](spec)


@overload
def task(fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]  # coroutine first
@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    id: str | None = None,
    attempts: int | None = None,
    retry: RetryPolicy | None = None,
    queue: str = "default",
    timeout: Duration | None = None,
    tags: Sequence[str] = (),
    concurrency: int | Concurrency | None = None,
    cron: str | Cron | None = None,
) -> TaskMaker: ...


def task(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    id: str | None = None,  # the name that users rely on
    attempts: int | None = None,
    retry: RetryPolicy | None = None,
    queue: str = "default",
    timeout: Duration | None = None,
    tags: Sequence[str] = (),
    concurrency: int | Concurrency | None = None,
    cron: str | Cron | None = None,
) -> object:
    """Make a durable task of a function.

    Args:
        fn: the function, sync or async.
        id: unique among all tasks; `module:name` unless given. Stored runs find their task by it, so keep it.
        attempts: tries of each piece of its work, in all; 3 unless given, with exponential back-off and jitter.
        retry: a `Retry`, or a function `(error, attempt) -> seconds | None`.
        queue: the queue that triggered runs wait in.
        timeout: how long a run may take from its creation: seconds, `timedelta`, or text such as "2h".
        tags: words to find its runs by.
        concurrency: how many of its runs may be advanced at a time, on all machines together; `Concurrency(limit,
            key=...)` counts for each key.
        cron: when a run of its own accord is due: `"30 4 * * MON-FRI"`, in UTC, or `Cron(expression, tz=...)`. Workers
            create it, once for each tick. It gets no argument, or the tick (a `datetime`) if the task requires one.

    Raises:
        ConfigurationError: an option is wrong, or the id is taken by another function.

    Example:
        >>> from flowkit import Flow, task
        >>> @task(id="docs-greet")
        ... def greet(name: str) -> str:
        ...     return f"hello {name}"
        >>> with Flow("memory:") as flow:
        ...     flow.run(greet, "you")
        'hello you'
    """
    if id is not None and (not isinstance(id, str) or not id):
        raise ConfigurationError(f"@task(id={id!r}): the id must be a text that is not empty")

    def options(spec: TaskSpec) -> TaskSpec:
        where = f"task {spec.id!r}"
        if not isinstance(queue, str) or not queue:
            raise ConfigurationError(f"{where}: queue={queue!r} must be a text that is not empty")
        spec = _with_policy(spec, attempts, retry, timeout)
        return evolve(
            spec,
            queue=queue,
            tags=_tags(tags, where),
            concurrency=concurrency_from(concurrency, where),
            cron=_schedule(cron, spec.fn, where),
        )

    maker = TaskMaker(id, options)
    return maker if fn is None else maker(fn)


def _with_policy(spec: TaskSpec, attempts: int | None, retry: RetryPolicy | None, timeout: Duration | None) -> TaskSpec:
    where = f"task {spec.id!r}"
    policy = policy_from(attempts, retry, where)
    return evolve(
        spec,
        policy=spec.policy if policy is None else policy,
        timeout_s=spec.timeout_s if timeout is None else seconds(timeout, f"{where}: timeout"),
    )


def _for_one_run(spec: TaskSpec, attempts: int | None, retry: RetryPolicy | None, timeout: Duration | None) -> TaskSpec:
    where = f"task {spec.id!r}"
    policy = policy_from(attempts, retry, where)
    timeout_s = None if timeout is None else seconds(timeout, f"{where}: timeout")
    return evolve(spec, overrides=overridden(spec.overrides, policy, timeout_s, where))


def _schedule(given: str | Cron | None, fn: Callable[..., object], where: str) -> Cron | None:
    cron = cron_from(given, where)
    if cron is not None and takes_tick(fn) is None:
        raise ConfigurationError(
            f"{where}: cron={cron.expression!r}, but nobody is there to give it its arguments; a scheduled task takes "
            "none, or one: the tick, a datetime"
        )
    return cron


def _tags(tags: Sequence[str], where: str) -> tuple[str, ...]:
    if isinstance(tags, str) or not all(isinstance(tag, str) and tag for tag in tags):
        raise ConfigurationError(f"{where}: tags={tags!r} must be a list of texts that are not empty")
    return tuple(tags)
