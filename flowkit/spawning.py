"""Tasks called and triggered inside a task: the calls that make child runs (rule E3)."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

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
from flowkit.children import (
    BatchCall,
    ChildCall,
    TriggerCall,
    batch_operation,
    child_operation,
    children_of,
    trigger_operation,
)
from flowkit.digest import combined_digest
from flowkit.documents import ReplyTo, result_json
from flowkit.effects import Operation
from flowkit.engine import Engine
from flowkit.entries import Kind
from flowkit.errors import NotAllowedInStep, UsageError, WrongColour
from flowkit.frozen import frozen
from flowkit.journal import Past
from flowkit.kinship import child_run_id, reply_id
from flowkit.lines import Scope, UndoScope
from flowkit.operations import instead, remember_undo
from flowkit.records import Grant, NewRun
from flowkit.registry import TaskSpec
from flowkit.run import Child, Frame, Run

FRAMES_TO_SPARE = 200  # of Python's recursion limit, for a task that is called in place, its steps and what they call

Args = tuple[object, ...]
Kwargs = Mapping[str, object]


@frozen
class Start:
    """A run to be started: of which task, with what."""

    spec: TaskSpec
    args: Args
    kwargs: Kwargs


def engine_of(run: Run) -> Engine:
    """What advances the run."""
    engine = run.services
    assert isinstance(engine, Engine)  # runs are advanced by an engine; `run` knows it by a narrower protocol
    return engine


# ---- called: in the place of the parent -----------------------------------------------------------------------------


def call_child(frame: Frame, start: Start) -> object:
    """A task called in a sync task."""
    run, scope, spec = frame.run, frame.scope, start.spec
    if not frame.owned_here():
        refuse_foreign_task(spec.id)
    key = take_key(frame, spec.key)
    past, digest = _recall_child(run, scope, key, start)
    return perform_call(run, scope, past, spec.hint, lambda: _child_operation(frame, key, digest, start))


def call_child_async(frame: Frame, start: Start) -> Coroutine[Any, Any, object]:
    """A task awaited in an async task."""
    run, scope, spec = frame.run, frame.scope, start.spec
    if spec.is_async and not run.is_async:
        raise WrongColour(
            f"task {spec.id!r} is async and cannot be awaited in {run.task_id!r}, a plain `def`. "
            "Make the calling task `async def`"
        )
    require_async(run, spec.id)
    if not frame.owned_here():
        refuse_foreign_task(spec.id)
    key = take_key(frame, spec.key)
    past, digest = _recall_child(run, scope, key, start)
    assert run.body is not None  # the calling task is the body's
    run.body.created += 1
    return perform_call_async(run, scope, past, spec.hint, lambda: _child_operation(frame, key, digest, start))


def _recall_child(run: Run, scope: Scope, key: str, start: Start) -> tuple[Past | None, str]:
    spec = start.spec
    past = recall(run, Kind.CHILD, key, spec.id)
    digest = spec.digest(start.args, start.kwargs, run.codec)
    if past is not None:
        compare_arguments(run, past, digest)
        recall_undo(run, scope.saga, spec.undo, past, spec.hint, start.args, start.kwargs)
    return past, digest


def _child_operation(frame: Frame, key: str, digest: str, start: Start) -> Operation[object]:
    run, spec = frame.run, start.spec
    other = instead(run, frame.scope, frame.scope.saga, Kind.CHILD, key, spec.id)
    if other is not None:
        return other
    _refuse_without_stack(spec.id)
    make = functools.partial(_child_run, run, key, start, engine_of(run).grant())
    call = ChildCall(key, digest, spec.hint, make, spec.undo, start.args, start.kwargs, frame.scope.saga)
    return child_operation(run, frame.scope, call)


def _refuse_without_stack(task_id: str) -> None:
    """A recursion that ended inside of flowkit would leave a run that nobody lets go of; so it ends here."""
    limit, frame, depth = sys.getrecursionlimit(), sys._getframe(), 0  # noqa: SLF001  # as `traceback` does
    while (caller := frame.f_back) is not None:
        frame, depth = caller, depth + 1
    if depth + FRAMES_TO_SPARE > limit:
        raise UsageError(
            f"task {task_id!r} is called in a task that is called in a task, and so on, {depth} frames deep, which "
            f"Python's recursion limit of {limit} leaves no room for. Call its trigger_and_wait(...), which takes no "
            "stack"
        )


def _child_run(run: Run, key: str, start: Start, grant: Grant | None) -> NewRun:
    return engine_of(run).new_run(
        start.spec,
        start.args,
        start.kwargs,
        run_id=start.spec.run_id or child_run_id(run.id, key),
        parent=run.id,
        reply=ReplyTo(run.id, reply_id(run, key)),
        grant=grant,
    )


# ---- triggered: through the queue -----------------------------------------------------------------------------------


def trigger_child(frame: Frame, start: Start) -> str:
    """Trigger inside a task: recorded together with the child, so that a replay does not trigger it again."""
    run, scope = frame.run, frame.scope
    past, operation = _trigger(frame, start)
    run_id = str(perform_call(run, scope, past, str, operation))
    _started(run, run_id, start)
    return run_id


def trigger_child_later(frame: Frame, start: Start) -> Callable[[], Coroutine[Any, Any, str]]:
    """As `trigger_child`, awaitable: the key of the call is taken now, the coroutine is made when it is awaited."""
    require_async(frame.run, start.spec.id)
    past, operation = _trigger(frame, start)
    return functools.partial(_trigger_async, frame.run, frame.scope, start, past, operation)


async def _trigger_async(
    run: Run, scope: Scope, start: Start, past: Past | None, operation: Callable[[], Operation[object]]
) -> str:
    assert run.body is not None  # the calling task is the body's
    run.body.created += 1
    run_id = str(await perform_call_async(run, scope, past, str, operation))
    _started(run, run_id, start)
    return run_id


def _trigger(frame: Frame, start: Start) -> tuple[Past | None, Callable[[], Operation[object]]]:
    run, scope, spec = frame.run, frame.scope, start.spec
    _refuse_in_step(frame, spec.id)
    key = take_key(frame, spec.key)
    past = recall(run, Kind.TRIGGER, key, spec.id)
    digest = spec.digest(start.args, start.kwargs, run.codec)
    if past is not None:
        compare_arguments(run, past, digest)
    make = functools.partial(_child_run, run, key, start, None)
    call = TriggerCall(key, digest, spec.id, spec.run_id is not None, make)

    def operation() -> Operation[object]:
        other = instead(run, scope, scope.saga, Kind.TRIGGER, key, spec.id)
        return trigger_operation(run, call, scope) if other is None else other

    return past, operation


def trigger_batch(frame: Frame, spec: TaskSpec, starts: Sequence[Start]) -> tuple[str, ...]:
    """Trigger many runs at once inside a task; the ids of all."""
    run, scope = frame.run, frame.scope
    past, operation = _batch(frame, spec, starts)
    run_ids = children_of(perform_call(run, scope, past, object, operation))
    _all_started(run, run_ids, starts)
    return run_ids


def trigger_batch_later(
    frame: Frame, spec: TaskSpec, starts: Sequence[Start]
) -> Callable[[], Coroutine[Any, Any, tuple[str, ...]]]:
    """As `trigger_batch`, awaitable: the key of the call is taken now, the coroutine is made when it is awaited."""
    require_async(frame.run, spec.id)
    past, operation = _batch(frame, spec, starts)
    return functools.partial(_batch_async, frame.run, frame.scope, starts, past, operation)


async def _batch_async(
    run: Run,
    scope: Scope,
    starts: Sequence[Start],
    past: Past | None,
    operation: Callable[[], Operation[object]],
) -> tuple[str, ...]:
    assert run.body is not None  # the calling task is the body's
    run.body.created += 1
    run_ids = children_of(await perform_call_async(run, scope, past, object, operation))
    _all_started(run, run_ids, starts)
    return run_ids


def _batch(
    frame: Frame, spec: TaskSpec, starts: Sequence[Start]
) -> tuple[Past | None, Callable[[], Operation[object]]]:
    run, scope = frame.run, frame.scope
    _refuse_in_step(frame, spec.id)
    key = take_key(frame, spec.key)
    past = recall(run, Kind.BATCH, key, spec.id)
    digest = combined_digest(start.spec.digest(start.args, start.kwargs, run.codec) for start in starts)
    if past is not None:
        compare_arguments(run, past, digest)
    named = frozenset(start.spec.run_id for start in starts if start.spec.run_id is not None)

    def make() -> list[NewRun]:
        return [_child_run(run, f"{key}.{number}", start, None) for number, start in enumerate(starts)]

    def operation() -> Operation[object]:
        other = instead(run, scope, scope.saga, Kind.BATCH, key, spec.id)
        return batch_operation(run, scope, BatchCall(key, digest, spec.id, named, make)) if other is None else other

    return past, operation


def _refuse_in_step(frame: Frame, task_id: str) -> None:
    if frame.step_key is not None:
        raise NotAllowedInStep(
            f"task {task_id!r} was triggered inside step {frame.step_name!r}, where a retry would trigger it again; "
            "trigger it in the task, between steps"
        )
    if not frame.owned_here():
        refuse_foreign_task(task_id)


# ---- what a parent keeps of them ------------------------------------------------------------------------------------


def _all_started(run: Run, run_ids: Sequence[str], starts: Sequence[Start]) -> None:
    for run_id, start in zip(run_ids, starts, strict=True):
        _started(run, run_id, start)


def _started(run: Run, run_id: str, start: Start) -> None:
    if run_id not in run.children:
        remember = None if start.spec.undo is None else functools.partial(_remember, run, start)
        run.children[run_id] = Child(start.spec.id, remember)


def _remember(run: Run, start: Start, saga: UndoScope, key: str, position: int, nth: int, result: bytes) -> None:
    """A triggered child that was waited for and has succeeded can be taken back (rule G1)."""
    spec = start.spec
    assert spec.undo is not None  # it is kept only then
    value = run.codec.from_json(result_json(run.codec, result).get("value"), spec.hint)
    remember_undo(saga, spec.undo, key, spec.id, position, value, start.args, start.kwargs, nth)
