"""`saga()` scopes and `on_rollback`: what is undone when a part of a task fails (rules G1 to G4)."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import ParamSpec, Self

from flowkit.calls import recall, refuse_foreign_task, require_colour_of_undo, take_key
from flowkit.drivers import drive, drive_async
from flowkit.effects import Operation
from flowkit.entries import Entry, Kind
from flowkit.errors import ConfigurationError, NotAllowedInStep, OutsideRun, WrongColour
from flowkit.functions import function_name, is_async_function, require_function
from flowkit.lines import Scope, Undo, UndoScope
from flowkit.operations import UndoSpec, cancellation
from flowkit.reasons import Cancelled, LeaveScope, Unwind, combined
from flowkit.retry import RetryPolicy
from flowkit.rollback import rollback_operation, was_cancelled
from flowkit.run import Frame, Run, current

P = ParamSpec("P")


class saga:  # noqa: N801  # used as a function: `with saga("payment"):`
    """A scope whose completed steps are undone, newest first, when it is left by an error or a cancellation.

    Left without one, it hands its undos to the scope around it, in the end to the task. `with` in a sync task,
    `async with` in an async one.

    Args:
        name: what to call it in the record.

    Example:
        >>> from flowkit import Flow, saga, step, task
        >>> @step
        ... def reserve(item: str) -> str:
        ...     return f"reserved {item}"
        >>> @reserve.compensate
        ... def release(reservation: str) -> None:
        ...     print("undo:", reservation)
        >>> @task(id="docs-saga", attempts=1)
        ... def buy(item: str) -> None:
        ...     with saga("purchase"):
        ...         reserve(item)
        ...         raise ValueError("no money")
        >>> with Flow("memory:") as flow:
        ...     flow.start(buy, "book").wait_for_completion().error
        undo: reserved book
        ValueError('no money')
    """

    def __init__(self, name: str = "saga") -> None:
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"saga({name!r}): its name must be a text that is not empty")
        self._name = name
        self._entered: _Entered | None = None

    def __enter__(self) -> Self:
        frame = _task_frame("saga")
        if frame.run.is_async:
            raise WrongColour(f"saga({self._name!r}) is in an async task: write `async with`")
        self._entered = _Entered(frame, self._name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        entered = self._left()
        if not entered.must_roll_back(error):
            return
        entered.settle()
        run = entered.run
        raised = drive(run, entered.scope, entered.rollback(error))
        entered.raise_unless_same(raised, error)

    async def __aenter__(self) -> Self:
        frame = _task_frame("saga")
        if not frame.run.is_async:
            raise WrongColour(f"saga({self._name!r}) is in a plain `def` task: write `with`")
        self._entered = _Entered(frame, self._name)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        entered = self._left()
        if not entered.must_roll_back(error):
            return
        raised, cut = await entered.roll_back_async(error)
        if cut is not None:
            raise cut
        entered.raise_unless_same(raised, error)

    def _left(self) -> _Entered:
        entered, self._entered = self._entered, None
        assert entered is not None  # Python calls enter before exit
        entered.scope.saga = entered.outer
        return entered


class _Entered:
    """A scope while the body is in it."""

    def __init__(self, frame: Frame, name: str) -> None:
        self.run: Run = frame.run
        self.scope: Scope = frame.scope
        self.name = name
        key = take_key(frame, None)
        past = recall(self.run, Kind.SAGA, key, name)
        self.recorded: Entry | None = None if past is None else past.begun
        self.outer = self.scope.saga
        self.saga = UndoScope(key, rolling_back=self.recorded is not None or self.outer.rolling_back)
        self.scope.saga = self.saga

    def must_roll_back(self, error: BaseException | None) -> bool:
        """Decide what leaving the scope means; a scope that succeeds hands its undos outwards (rule G1)."""
        if self.run.reason is not None or self.scope.reason is not None or isinstance(error, Unwind):
            return False  # E1: the body is being taken off the stack, which is no failure
        if self.recorded is not None:
            return True
        if error is None or (isinstance(error, LeaveScope) and self.outer.rolling_back):
            self.saga.hand_over(self.outer)
            return False
        return isinstance(error, Exception | Cancelled | asyncio.CancelledError | BaseExceptionGroup)

    def settle(self) -> None:
        """Work still in flight settles first (rule G1); if it waits for long, so does the rollback."""
        for work in self.saga.works:
            work.wait()
        if self.run.reason is not None:
            raise Unwind(self.run.reason)
        reason = combined([work.parked for work in self.saga.works if work.parked is not None])
        if reason is not None:
            raise self.run.leave(self.scope, reason)

    async def roll_back_async(self, error: BaseException | None) -> tuple[BaseException, asyncio.CancelledError | None]:
        """Undo the scope, to the end also if asyncio cancels whoever waits for that; returns what to raise."""
        body, cut = self.run.body, None
        assert body is not None  # the calling task is the body's
        task = body.start_branch(self.scope, lambda: self._roll_back(error))
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as cancelled:
                if self.run.reason is not None:
                    raise
                cut = cancelled
        raised = task.result()
        assert isinstance(raised, BaseException)  # as `rollback` says
        return raised, cut

    async def _roll_back(self, error: BaseException | None) -> BaseException:
        assert self.run.body is not None  # as above
        await self.run.body.settle(self.saga)
        return await drive_async(self.run, self.scope, self.rollback(error))

    def rollback(self, error: BaseException | None) -> Operation[BaseException]:
        """The operation that undoes the scope."""
        cause = None if isinstance(error, LeaveScope) else error
        return rollback_operation(self.run, self.scope, self.saga, self.name, cause, self.recorded)

    def raise_unless_same(self, raised: BaseException, error: BaseException | None) -> None:
        """Raise the outcome; the error that is on its way goes on by itself."""
        if raised is error:
            return
        if self.recorded is not None and was_cancelled(self.recorded) and not isinstance(raised, ExceptionGroup):
            raise cancellation(self.run, self.scope)
        raise raised from None


def on_rollback(undo: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
    """Register an undo before the action that it undoes, for an action that may happen without being recorded.

    Args:
        undo: called if the scope (or the task) around it is rolled back; sync or async.
        *args: what to call it with.
        **kwargs: what to call it with.

    Raises:
        ConfigurationError: what is given is no function, which could not be called then.
    """
    frame = _task_frame("on_rollback")
    scope = frame.scope
    name = function_name(require_function(undo, "on_rollback(...)"))
    key = take_key(frame, None)
    is_async = is_async_function(undo)
    require_colour_of_undo(frame.run, is_async, name)
    order = (scope.position, scope.ordinal)
    scope.saga.add(Undo(key, name, order, undo, is_async, None, args, kwargs))


def undo_spec(undo: Callable[..., object], action: Callable[..., object], policy: RetryPolicy | None) -> UndoSpec:
    """How the function registered by `.compensate` is called.

    It gets the result, and the arguments of the action that it names among its own parameters.

    Raises:
        ConfigurationError: it takes something that is neither.
    """
    taken = list(inspect.signature(undo).parameters.values())
    signature = inspect.signature(action)
    name = getattr(undo, "__name__", repr(undo))
    if not taken:
        return UndoSpec(undo, is_async_function(undo), policy, lambda _value, _args, _kwargs: ((), {}))
    wanted = [parameter.name for parameter in taken[1:] if parameter.kind not in _VARIADIC]
    unknown = [name for name in wanted if name not in signature.parameters]
    required = {p.name for p in taken[1:] if p.default is inspect.Parameter.empty and p.kind not in _VARIADIC}
    if required & set(unknown):
        raise ConfigurationError(
            f"the undo {name!r} takes {', '.join(sorted(required & set(unknown)))}, which "
            f"{getattr(action, '__name__', 'its action')!r} has not: it gets the result, and arguments by their names"
        )
    wanted = [name for name in wanted if name in signature.parameters]

    def arguments(
        value: object, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        if not wanted:
            return (value,), {}
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return (value,), {name: bound.arguments[name] for name in wanted}

    return UndoSpec(undo, is_async_function(undo), policy, arguments)


_VARIADIC = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def _task_frame(what: str) -> Frame:
    frame = current.get()
    if frame is None:
        raise OutsideRun(f"flowkit.{what}(...) works only inside a task")
    if frame.step_key is not None:
        raise NotAllowedInStep(
            f"flowkit.{what}(...) was called inside step {frame.step_name!r}; call it in the task, around its steps"
        )
    if not frame.owned_here():
        refuse_foreign_task(what)
    return frame
