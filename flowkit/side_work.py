"""`work`: side chains that run beside the task and never abort it (rules W1 to W4)."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from flowkit.calls import call_step, call_step_async, refuse_foreign_task, require_async, spec_of, take_key
from flowkit.effects import Outcome, Raised, Returned
from flowkit.errors import FlowkitError, NotAllowedInStep, OutsideRun, WrongColour
from flowkit.fan_out import outcome_of, run_line
from flowkit.frozen import frozen
from flowkit.functions import function_name, is_async_function, require_function
from flowkit.items import report_failed_work
from flowkit.lines import Scope
from flowkit.reasons import Cancelled, LeaveScope, Reason, Unwind
from flowkit.run import Frame, Run, current
from flowkit.threads import stand_by, start

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

LOOK_S = 0.05  # between two looks at the clock while waiting for work with a timeout


@frozen
class WorkOutcome:
    """How one piece of side work ended."""

    name: str
    done: bool  # False: it was still running when the wait timed out
    value: object = None
    error: BaseException | None = None

    @property
    def ok(self) -> bool:
        """True if it returned."""
        return self.done and self.error is None


class WorkHandle(Generic[R]):
    """A piece of side work that has been started."""

    def __init__(self, name: str, run: Run, scope: Scope) -> None:
        self.name = name
        self._run = run
        self._scope = scope
        self._outcome: Outcome | None = None
        self._ended = threading.Event()
        self.task: asyncio.Task[object] | None = None  # in async code

    @property
    def done(self) -> bool:
        """True once it has ended."""
        return self.settled and self.parked is None

    @property
    def settled(self) -> bool:
        """True once it has ended, or waits for something far off."""
        return self._ended.is_set()

    @property
    def parked(self) -> Reason | None:
        """Why it stopped before its end, if it did."""
        return self._scope.reason

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until it is settled; False if it is not in time."""
        stand_by(self._run, self._ended.is_set)
        return self._ended.wait(timeout_s)

    def finish(self, outcome: Outcome) -> None:
        """Take its outcome; a failure becomes one `step_error` item and nothing else (rule W2)."""
        self._outcome = outcome
        try:
            if isinstance(outcome, Raised) and isinstance(outcome.error, Exception) and self._run.reason is None:
                report_failed_work(self._run, self._scope, self.name, outcome.error)
        except FlowkitError as lost:  # the run ends or suspends next, and finds out the same
            log.debug("the failure of work %r was not recorded: %s", self.name, lost)
        except BaseException as error:  # noqa: BLE001  # raised where the run is joined
            self._outcome = Raised(error)
        finally:
            self._ended.set()
            if self._run.is_async:
                self._scope.saga.tell()

    @property
    def fatal(self) -> BaseException | None:
        """What is no failure of the work but of its process, such as Ctrl-C."""
        error = self._outcome.error if isinstance(self._outcome, Raised) else None
        return (
            None if isinstance(error, Exception | Unwind | Cancelled | LeaveScope | asyncio.CancelledError) else error
        )

    def outcome(self) -> WorkOutcome:
        """How it ended, as far as that is known."""
        match self._outcome:
            case Returned(value=value) if self.done:
                return WorkOutcome(self.name, done=True, value=value)
            case Raised(error=error) if self.done:
                return WorkOutcome(self.name, done=True, error=error)
            case _:
                return WorkOutcome(self.name, done=False)


# ---- starting -------------------------------------------------------------------------------------------------------


@overload
def work(fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> WorkHandle[R]: ...
@overload
def work(fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> WorkHandle[R]: ...


def work(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> WorkHandle[Any]:
    """Run a step, a task or a function beside the task; its failure never aborts the task.

    Args:
        fn: a step or a task; a plain function becomes a durable step under its name.
        *args: what to call it with.
        **kwargs: what to call it with.

    Returns:
        A handle; `wait_for_work` waits for all work of this task.

    Raises:
        NotAllowedInStep, OutsideRun: called where no work can be queued.
    """
    frame = work_frame("work")
    run, name = frame.run, work_name(fn)
    key = take_key(frame, None)
    scope = frame.scope.branch(key.removeprefix(frame.scope.prefix), 0)
    handle: WorkHandle[Any] = WorkHandle(name, run, scope)
    if run.is_async:
        _start_async(run, scope, handle, awaitable_of(fn, name), args, kwargs)
    else:
        _start(run, scope, handle, callable_of(fn, name, run), args, kwargs)
    queued(frame, [handle])
    return handle


def queued(frame: Frame, handles: Sequence[WorkHandle[Any]]) -> None:
    """Side work has been queued: by its scope (rule W3), by the run (rule W4), and in a saga (rule G1)."""
    frame.scope.works.extend(handles)
    frame.run.works.extend(handles)
    if frame.scope.saga is not frame.run.undos:
        frame.scope.saga.works.extend(handles)


def work_name(fn: Callable[..., object]) -> str:
    """What side work is called in the record."""
    return str(getattr(fn, "name", None) or getattr(fn, "id", None) or function_name(fn))


def callable_of(fn: Callable[..., Any], name: str, run: Run) -> Callable[..., object]:
    """How side work is called in a sync task; a plain function is a durable step."""
    if hasattr(fn, "spec"):
        if fn.spec.is_async:
            raise WrongColour(f"work({name!r}): it is async, but task {run.task_id!r} is a plain `def`")
        return fn
    require_function(fn, "work(...)")
    if is_async_function(fn):
        raise WrongColour(f"work({name!r}): it is async, but task {run.task_id!r} is a plain `def`")
    spec = spec_of(fn, name, is_async=False)
    return lambda *args, **kwargs: call_step(spec, args, kwargs)


def awaitable_of(fn: Callable[..., Any], name: str) -> Callable[..., Coroutine[Any, Any, object]]:
    """How side work is called in an async task; a plain function is a durable step."""
    if hasattr(fn, "spec"):
        return cast("Callable[..., Coroutine[Any, Any, object]]", fn.aio)  # type: ignore[attr-defined]  # steps, tasks
    require_function(fn, "work(...)")
    spec = spec_of(fn, name, is_async=is_async_function(fn))
    return lambda *args, **kwargs: call_step_async(spec, args, kwargs)


def _start(
    run: Run,
    scope: Scope,
    handle: WorkHandle[Any],
    call: Callable[..., object],
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> None:
    def body() -> None:
        handle.finish(run_line(run, scope, lambda: call(*args, **kwargs)))

    start(run, body, f"flowkit-work-{handle.name}")


def _start_async(
    run: Run,
    scope: Scope,
    handle: WorkHandle[Any],
    call: Callable[..., Coroutine[Any, Any, object]],
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> None:
    require_async(run, handle.name)
    assert run.body is not None  # the calling task is the body's
    handle.task = run.body.start_branch(scope, lambda: call(*args, **kwargs))
    handle.task.add_done_callback(lambda task: handle.finish(outcome_of(task)))


def work_frame(what: str) -> Frame:
    """Where the calling code stands.

    Raises:
        OutsideRun, NotAllowedInStep, AmbiguousOrder: not in a task's own code.
    """
    frame = current.get()
    if frame is None:
        raise OutsideRun(f"flowkit.{what}(...) works only inside a task")
    if frame.step_key is not None:
        raise NotAllowedInStep(
            f"flowkit.{what}(...) was called inside step {frame.step_name!r}; call it in the task, between its steps"
        )
    if not frame.owned_here():
        refuse_foreign_task(what)
    return frame
