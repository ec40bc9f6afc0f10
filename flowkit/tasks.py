"""`@task`: the decorator and the frozen objects it makes. Making one only makes its id known."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Generic, ParamSpec, Self, TypeVar, cast, overload

from attrs import evolve

from flowkit.active import active_flow
from flowkit.binding import Bound
from flowkit.calls import (
    compare_arguments,
    perform_call,
    perform_call_async,
    recall,
    recall_undo,
    refuse_foreign_task,
    require_async,
    take_key,
)
from flowkit.children import ChildCall, child_operation, child_run_id, reply_id, trigger_operation
from flowkit.cron import Cron, cron_from, takes_tick
from flowkit.documents import ReplyTo
from flowkit.durations import Duration, seconds
from flowkit.effects import Operation
from flowkit.engine import Engine
from flowkit.entries import Kind
from flowkit.errors import ConfigurationError, NotAllowedInStep, WrongColour
from flowkit.functions import is_async_function, require_function
from flowkit.handles import RunHandle
from flowkit.journal import Past
from flowkit.limits import Concurrency, concurrency_from
from flowkit.operations import instead
from flowkit.records import Grant, NewRun
from flowkit.registry import TaskSpec, task_spec, tasks
from flowkit.retry import RetryPolicy, policy_from
from flowkit.run import Frame, Run, Scope, current
from flowkit.saga import undo_spec

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., object])


class Runnable(Generic[P, R]):
    """What can be run by itself under an id: sync and async tasks, and sequencers."""

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = spec
        functools.update_wrapper(cast("Callable[..., object]", self), spec.fn)

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
            timeout: how long a run may take.
        """
        where = f"task {self.id!r}"
        for name, text in (("run_id", run_id), ("key", key), ("queue", queue)):
            if text is not None and (not isinstance(text, str) or not text):
                raise ConfigurationError(f"{where}: {name}={text!r} must be a text that is not empty")
        if priority is not None and (not isinstance(priority, int) or abs(priority) > _MOST_PRIORITY):
            raise ConfigurationError(f"{where}: priority={priority!r} must be a whole number within ±{_MOST_PRIORITY}")
        spec = _with_policy(self._definition(), attempts, retry, timeout)
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

    def trigger(self, *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]:
        """Put a run into its queue; it is durable when this returns (rule X1)."""
        frame = current.get()
        if frame is not None and frame.step_key is not None:
            raise NotAllowedInStep(
                f"task {self.spec.id!r} was triggered inside step {frame.step_name!r}, where a retry would trigger it "
                "again; trigger it in the task, between steps"
            )
        if frame is not None:
            return RunHandle(_engine_of(frame.run), _trigger_child(frame, self.spec, args, kwargs))
        flow = active_flow()
        return RunHandle(flow.engine, flow.submit_spec(self.spec, args, kwargs))

    @property
    def aio(self) -> AioTask[P, R]:
        """The same, awaitable; a plain function runs on a thread."""
        return AioTask(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.spec.id}>"


class Task(Runnable[P, R]):
    """A durable task around a plain function. Calling it runs it durably, here, and returns its result."""

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Bound[R]:
        """The call with these arguments, not made yet: for `gather` and `batch_trigger`."""
        return Bound(self.spec.id, self, False, args, kwargs, self, self.aio)  # noqa: FBT003  # its colour

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it to its end. Inside another task it is a child run, in its parent's place (rule E3)."""
        frame = current.get()
        if frame is None:
            return cast("R", active_flow().run_spec(self.spec, args, kwargs))
        if frame.step_key is not None:  # I5: inside a step it is just its function
            return cast("R", self.spec.fn(*args, **kwargs))
        return cast("R", _call_child(frame, self.spec, args, kwargs))


class AsyncTask(Runnable[P, R]):
    """A durable task around an async function. Awaiting it runs it durably, here, and returns its result."""

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Bound[R]:
        """The call with these arguments, not made yet: for `aio.gather` and `batch_trigger`."""
        return Bound(self.spec.id, self, True, args, kwargs, self, self)  # noqa: FBT003  # its colour

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run it to its end. Inside another task it is a child run, in its parent's place (rule E3)."""
        return cast("Coroutine[Any, Any, R]", _call_async(self.spec, args, kwargs))


class AioTask(Generic[P, R]):
    """The awaitable form of a task."""

    def __init__(self, task: Runnable[P, R]) -> None:
        self._task = task

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run it to its end, awaited."""
        return cast("Coroutine[Any, Any, R]", _call_async(self._task.spec, args, kwargs))

    async def trigger(self, *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]:
        """Put a run into its queue; it is durable when this returns."""
        return await asyncio.to_thread(self._task.trigger, *args, **kwargs)


_MOST_PRIORITY = 1_000


def _call_async(spec: TaskSpec, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Coroutine[Any, Any, object]:
    frame = current.get()
    if frame is None:
        return active_flow().run_spec_async(spec, args, kwargs)
    if frame.step_key is not None:
        return _plainly(spec, args, kwargs)
    return _call_child_async(frame, spec, args, kwargs)


async def _plainly(spec: TaskSpec, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
    if spec.is_async:
        return await spec.fn(*args, **kwargs)  # type: ignore[misc]  # an async function
    return await asyncio.to_thread(spec.fn, *args, **kwargs)


# ---- child runs -----------------------------------------------------------------------------------------------------


def _call_child(frame: Frame, spec: TaskSpec, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
    run, scope = frame.run, frame.scope
    if not frame.owned_here():
        refuse_foreign_task(spec.id)
    key = take_key(frame, spec.key)
    past, digest = _recall_child(run, scope, key, spec, args, kwargs)
    return perform_call(run, scope, past, spec.hint, lambda: _child_operation(frame, key, digest, spec, args, kwargs))


def _call_child_async(
    frame: Frame, spec: TaskSpec, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> Coroutine[Any, Any, object]:
    run, scope = frame.run, frame.scope
    if spec.is_async and not run.is_async:
        raise WrongColour(
            f"task {spec.id!r} is async and cannot be awaited in {run.task_id!r}, a plain `def`. "
            "Make the calling task `async def`"
        )
    require_async(run, spec.id)
    if not frame.owned_here():
        refuse_foreign_task(spec.id)
    key = take_key(frame, spec.key)
    past, digest = _recall_child(run, scope, key, spec, args, kwargs)
    assert run.body is not None  # the calling task is the body's
    run.body.created += 1
    return perform_call_async(
        run, scope, past, spec.hint, lambda: _child_operation(frame, key, digest, spec, args, kwargs)
    )


def _recall_child(
    run: Run, scope: Scope, key: str, spec: TaskSpec, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> tuple[Past | None, str]:
    past = recall(run, Kind.CHILD, key, spec.id)
    digest = spec.digest(args, kwargs, run.codec)
    if past is not None:
        compare_arguments(run, past, digest)
        recall_undo(run, scope.saga, spec.undo, past, spec.hint, args, kwargs)
    return past, digest


def _child_operation(
    frame: Frame, key: str, digest: str, spec: TaskSpec, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> Operation[object]:
    run = frame.run
    other = instead(run, frame.scope, frame.scope.saga, Kind.CHILD, key, spec.id)
    if other is not None:
        return other
    engine, saga = _engine_of(run), frame.scope.saga
    make = functools.partial(_child_run, run, key, spec, args, kwargs, engine.grant())
    return child_operation(run, frame.scope, ChildCall(key, digest, spec.hint, make, spec.undo, args, kwargs, saga))


def _child_run(
    run: Run,
    key: str,
    spec: TaskSpec,
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    grant: Grant | None,
) -> NewRun:
    return _engine_of(run).new_run(
        spec,
        args,
        kwargs,
        run_id=spec.run_id or child_run_id(run, key),
        parent=run.id,
        reply=ReplyTo(run.id, reply_id(run, key)),
        grant=grant,
    )


def _engine_of(run: Run) -> Engine:
    engine = run.services
    assert isinstance(engine, Engine)  # runs are advanced by an engine; `run` knows it by a narrower protocol
    return engine


def _trigger_child(frame: Frame, spec: TaskSpec, args: tuple[object, ...], kwargs: Mapping[str, object]) -> str:
    """Trigger inside a task: recorded together with the child, so that a replay does not trigger it again (E3)."""
    run, scope = frame.run, frame.scope
    if not frame.owned_here():
        refuse_foreign_task(spec.id)
    key = take_key(frame, spec.key)
    past = recall(run, Kind.TRIGGER, key, spec.id)
    digest = spec.digest(args, kwargs, run.codec)
    if past is not None:
        compare_arguments(run, past, digest)

    def operation() -> Operation[object]:
        other = instead(run, scope, scope.saga, Kind.TRIGGER, key, spec.id)
        if other is not None:
            return other
        return trigger_operation(run, scope, key, digest, lambda: _child_run(run, key, spec, args, kwargs, None))

    return str(perform_call(run, scope, past, str, operation))


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
