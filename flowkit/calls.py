"""The call that a decorated function makes: its key is taken, its record recalled, its operation driven."""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
from asyncio import current_task
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from threading import get_ident
from typing import Any, NoReturn

from attrs import evolve

from flowkit.digest import ArgumentDigest
from flowkit.drivers import drive, drive_async
from flowkit.effects import Operation
from flowkit.entries import Kind, Phase
from flowkit.errors import (
    AmbiguousOrder,
    NonDeterminismError,
    NotDurableWarning,
    ReplayWarning,
    WrongColour,
)
from flowkit.hints import call_hints
from flowkit.journal import Past
from flowkit.lines import Scope, UndoScope
from flowkit.operations import (
    StepCall,
    StepSpec,
    UndoSpec,
    instead,
    recalled,
    recorded_value,
    remember_undo,
    step_operation,
)
from flowkit.reasons import Blocked, Unwind
from flowkit.run import Frame, Run, current, live
from flowkit.settling import begin, end, go_on_beside
from flowkit.underway import UnderWay

_STEP = Kind.STEP.value


def spec_of(fn: Callable[..., object], name: str, *, is_async: bool) -> StepSpec:
    """A step around a function, without options."""
    return StepSpec(name, fn, is_async, ArgumentDigest(fn), call_hints(fn)[1])


def with_key(spec: StepSpec, key: str) -> StepSpec:
    """The step under a key of the user's."""
    return evolve(spec, key=key)


# ---- what every durable call does -----------------------------------------------------------------------------------


def take_key(frame: Frame, given: str | None) -> str:
    """The key of this call, taken when it is made, not when it is scheduled (rule I1)."""
    scope = frame.scope
    run = frame.run
    if (
        sys.exception() is not run.ambient
        or run.fresh_failures
        or run.reason is not None
        or scope.reason is not None
        or run.closing is not None
    ):
        run.enter_call(scope)
    if given is not None:
        return scope.named_key(given)
    scope.ordinal += 1  # as `next_key` does, on the hot path
    return f"{scope.prefix}{scope.ordinal}"


def recall(run: Run, kind: str, key: str, name: str) -> Past | None:
    """What is recorded under the key; a record of something else blocks the run (rule I3)."""
    try:
        return run.journal.recall(kind, key, name)
    except NonDeterminismError as error:
        run.stop(Blocked(error))
        raise asyncio.CancelledError from error  # an async body is being cancelled: go down with it


def compare_arguments(run: Run, past: Past, digest: str) -> None:
    """Other arguments than recorded are not used, and that is said (rule I3)."""
    if past.args and digest and past.args != digest:
        warnings.warn(
            f"{past.kind} {past.name!r} of run {run.id!r} is called with other arguments than were recorded; its "
            "recorded outcome stands. The task must compute the same arguments on every replay.",
            ReplayWarning,
            stacklevel=4,
        )


def perform_call(
    run: Run, scope: Scope, past: Past | None, hint: object, operation: Callable[[], Operation[object]]
) -> object:
    """Answer a call from the record, or drive its operation on this thread."""
    if past is not None and past.settled:
        return answer_from_record(run, scope, past, hint)
    return drive(run, scope, operation())


def answer_from_record(run: Run, scope: Scope, past: Past, hint: object) -> object:
    """The recorded outcome, at once: a sync call cannot wait for its turn."""
    if run.body is not None:
        run.body.skip(past.position)
    return recalled(run, scope, past, hint)


def perform_call_async(
    run: Run, scope: Scope, past: Past | None, hint: object, operation: Callable[[], Operation[object]]
) -> Coroutine[Any, Any, object]:
    """Answer a call from the record in its turn, or drive its operation on the event loop."""
    if past is not None and past.settled:
        return _answer_async(run, scope, scope.saga, past, hint)
    return _perform_async(run, scope, scope.saga, operation)


async def _answer_async(run: Run, scope: Scope, saga: UndoScope, past: Past, hint: object) -> object:
    body = run.body
    if body is None or run.reason is not None:
        raise asyncio.CancelledError
    if body.answer(past.position):
        try:
            return recalled(run, scope, past, hint)
        except Unwind:
            raise asyncio.CancelledError from None
    task = begin(body, saga)
    try:
        await body.turn(past.position)
        return recalled(run, scope, past, hint)
    except Unwind:
        raise asyncio.CancelledError from None
    finally:
        end(body, saga, task)


async def _perform_async(run: Run, scope: Scope, saga: UndoScope, operation: Callable[[], Operation[object]]) -> object:
    body = run.body
    if body is None or run.reason is not None:
        raise asyncio.CancelledError
    task = begin(body, saga)
    try:
        if run.closing is not None:
            await body.hold()
        if run.journal.due:
            await body.caught_up()
        made = operation()
        try:
            value = await drive_async(run, scope, made, kept=True)
        except UnderWay as cut:
            if run.reason is None:
                go_on_beside(run, scope, saga, made, cut.answer)
            raise asyncio.CancelledError from None
        except Exception:
            await body.live_turn()
            raise
        if not body.alone():
            await body.live_turn()
        return value
    except Unwind:
        raise asyncio.CancelledError from None
    finally:
        end(body, saga, task)


# ---- steps ----------------------------------------------------------------------------------------------------------


def call_step(spec: StepSpec, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
    """A sync step called plainly."""
    frame = current.get()
    if frame is None or frame.step_key is not None:  # I5: inside a step, a step is just its function
        if frame is None and live:
            warn_if_beside_a_run(spec.name, spec.fn)
        return spec.fn(*args, **kwargs)
    if frame.thread != get_ident():
        warn_not_durable(spec.name, frame.run)
        return spec.fn(*args, **kwargs)
    if frame.task is not None and not frame.owned_here():
        refuse_foreign_task(spec.name)
    run, scope = frame.run, frame.scope
    if spec.undo is not None:
        require_colour_of_undo(run, spec.undo.is_async, spec.name)
    key = take_key(frame, spec.key)
    digest = spec.digest(args, kwargs, run.codec)
    past = run.journal.past.get(key)
    if past is not None:
        hold_against_record(run, scope, spec, past, digest, args, kwargs)
        if past.settled:
            if run.body is not None:
                run.body.skip(past.position)
            return recalled(run, scope, past, spec.hint)
    return drive(run, scope, _operation(run, scope, StepCall(spec, key, digest, args, kwargs, past, scope.saga)))


def call_step_async(
    spec: StepSpec, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> Coroutine[Any, Any, object]:
    """An async step called plainly, or `.aio` of any: a coroutine whose ordinal is taken already (rule I2)."""
    frame = current.get()
    if frame is None or frame.step_key is not None:
        if frame is None and live:
            warn_if_beside_a_run(spec.name, spec.fn)
        return _plain_coroutine(spec, args, kwargs)
    run, scope, saga = frame.run, frame.scope, frame.scope.saga
    body = run.body
    if body is None:
        require_async(run, spec.name)
        raise asyncio.CancelledError  # it has ended
    if frame.thread != get_ident() or (frame.task is not None and current_task(body.loop) is not frame.task):
        refuse_foreign_task(spec.name)
    key = take_key(frame, spec.key)
    digest = spec.digest(args, kwargs, run.codec)
    past = run.journal.past.get(key)
    if past is not None:
        hold_against_record(run, scope, spec, past, digest, args, kwargs)
    body.created += 1
    if past is not None and past.settled:
        return _answer_async(run, scope, saga, past, spec.hint)
    call = StepCall(spec, key, digest, args, kwargs, past, saga, not spec.is_async)
    return _perform_async(run, scope, saga, partial(_operation, run, scope, call))  # a closure would cost each replay


def hold_against_record(
    run: Run,
    scope: Scope,
    spec: StepSpec,
    past: Past,
    digest: str,
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
) -> None:
    """See whether what is recorded under the key of this call is this call (rule I3)."""
    if past.name != spec.name or past.kind != _STEP:
        recall(run, _STEP, past.key, spec.name)  # blocks the run
    if not past.called:  # as `recall` does, without its detour
        past.called = True
        run.journal.uncalled -= 1
    if past.args != digest:
        compare_arguments(run, past, digest)
    if spec.undo is not None and past.settled:
        recall_undo(run, scope.saga, spec.undo, past, spec.hint, args, kwargs)


def recall_undo(
    run: Run,
    saga: UndoScope,
    undo: UndoSpec | None,
    past: Past,
    hint: object,
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
) -> None:
    """On replay, a completed operation can be taken back as soon as it is called again (rule G3)."""
    if undo is not None and past.phase == Phase.DONE:
        value = recorded_value(run, past, hint)
        remember_undo(saga, undo, past.key, past.name, past.position, value, args, kwargs)


def _operation(run: Run, scope: Scope, call: StepCall) -> Operation[object]:
    other = instead(run, scope, call.saga, Kind.STEP, call.key, call.spec.name)
    return step_operation(run, scope, call) if other is None else other


async def _plain_coroutine(spec: StepSpec, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
    if spec.is_async:
        return await spec.fn(*args, **kwargs)  # type: ignore[misc]  # an async function
    return await asyncio.to_thread(spec.fn, *args, **kwargs)


# ---- calls from where order is unknown (rule I2) --------------------------------------------------------------------


def require_async(run: Run, name: str) -> None:
    """Refuse an awaitable call in a synchronous task."""
    if not run.is_async:
        raise WrongColour(
            f"{name!r} is awaitable, but task {run.task_id!r} is a plain `def` and cannot await it. "
            f"Make the task `async def`, or make {name!r} a plain `def` and call it without `.aio`."
        )


def require_colour_of_undo(run: Run, undo_is_async: bool, name: str) -> None:  # noqa: FBT001  # internal
    """Refuse, before anything is done, an undo that a synchronous task could not await."""
    if undo_is_async and not run.is_async:
        raise WrongColour(
            f"the undo of {name!r} is async, but task {run.task_id!r} is a plain `def` and cannot await it. "
            "Make the undo a plain `def`, or the task `async def`."
        )


def refuse_foreign_task(name: str) -> NoReturn:
    """Refuse a durable call from an asyncio task that is no branch of the run."""
    raise AmbiguousOrder(
        f"{name!r} was called from an asyncio task that flowkit does not know, so the order of calls would differ "
        "between runs. Hand the coroutines that call steps to `flowkit.aio.gather(...)`, which gives each a place of "
        "its own; or create the task around the step itself: `create_task(the_step(x))`."
    )


def warn_not_durable(name: str, run: Run) -> None:
    """Say that a step called in a bare thread is not recorded."""
    warnings.warn(
        f"step {name!r} was called in thread {threading.current_thread().name!r}, which is no branch of the running "
        f"task {run.task_id!r}: it ran as a plain function and is not durable. Use flowkit.gather, each or work.",
        NotDurableWarning,
        stacklevel=4,
    )


def warn_if_beside_a_run(name: str, fn: Callable[..., object]) -> None:
    """Warn if a step is called outside of any run, by a thread, while a task of its own module runs."""
    if threading.current_thread() is threading.main_thread():
        return
    module = getattr(fn, "__module__", None)
    for run in tuple(live):
        if run.module == module:
            warn_not_durable(name, run)
            return
