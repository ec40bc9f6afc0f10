"""Wait for runs by their ids: durably inside a task, by looking at the storage elsewhere."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar, cast

from flowkit.calls import perform_call, perform_call_async, recall, refuse_foreign_task, require_async, take_key
from flowkit.daemons import outcome_on_thread
from flowkit.documents import describe_error, phase_of
from flowkit.durations import Duration, seconds
from flowkit.effects import Raised
from flowkit.engine import Engine
from flowkit.entries import Kind, Phase, RunEnd
from flowkit.errors import ResultTimeout, WrongColour
from flowkit.frozen import frozen
from flowkit.joining import Goal, JoinCall, join_operation
from flowkit.journal import END_OF
from flowkit.plans import LONGEST_VIRTUAL_WAIT_S, LONGEST_WAIT_S
from flowkit.reasons import Detached, Unwind
from flowkit.records import RunHeader, RunStatus, Snapshot
from flowkit.run import Frame, Run, current
from flowkit.slots import given_back
from flowkit.spawning import Start, trigger_child_later

R = TypeVar("R")

_STATUS_OF = {Phase.DONE: RunStatus.SUCCEEDED, Phase.FAILED: RunStatus.FAILED, Phase.CANCELLED: RunStatus.CANCELLED}


@frozen
class RunResult(Generic[R]):
    """How a run ended; never raises by itself."""

    run_id: str
    status: RunStatus
    output: R | None = None
    error: BaseException | None = None

    @property
    def ok(self) -> bool:
        """True if the run succeeded."""
        return self.status is RunStatus.SUCCEEDED

    def unwrap(self) -> R:
        """The output, or raises the error."""
        if self.error is not None:
            raise self.error
        if not self.ok:
            raise ResultTimeout(f"run {self.run_id!r} was not finished when the wait for it was over")
        return cast("R", self.output)


# ---- inside a task --------------------------------------------------------------------------------------------------


def task_frame() -> Frame | None:
    """Where the calling code stands in a task; None elsewhere, and inside a step, where a wait is a plain one (I5)."""
    frame = current.get()
    if frame is None or frame.step_key is not None or frame.thread != threading.get_ident():
        return None
    if not frame.owned_here():
        refuse_foreign_task("the wait for a run")
    return frame


def wait_in_task(
    frame: Frame, engine: Engine, name: str, run_ids: Sequence[str], timeout: Duration | None, goal: Goal
) -> list[RunResult[Any]]:
    """Wait in a sync task, and record what the wait has found."""
    if frame.run.is_async:
        raise WrongColour("waiting for a run in an async task would block its event loop: write `await x.aio....`")
    call = _call(frame, name, run_ids, timeout, goal)
    run, scope = frame.run, frame.scope
    places = perform_call(run, scope, call.past, object, lambda: join_operation(run, scope, call))
    return _results(frame, engine, call, places)


def wait_later(
    engine: Engine, name: str, run_ids: Sequence[str], timeout: Duration | None, goal: Goal
) -> Callable[[], Coroutine[Any, Any, list[RunResult[Any]]]]:
    """Wait for runs, awaitable: the key is taken now (rule I1), the coroutine is made when it is awaited."""
    frame = task_frame()
    if frame is None:
        return functools.partial(_wait_on_a_thread, functools.partial(wait_outside, engine, run_ids, timeout, goal))
    require_async(frame.run, name)
    return functools.partial(_wait_async, frame, engine, _call(frame, name, run_ids, timeout, goal))


async def _wait_async(frame: Frame, engine: Engine, call: JoinCall) -> list[RunResult[Any]]:
    run, scope = frame.run, frame.scope
    assert run.body is not None  # the calling task is the body's
    run.body.created += 1
    places = await perform_call_async(run, scope, call.past, object, lambda: join_operation(run, scope, call))
    return _results(frame, engine, call, places)


def trigger_and_wait_async(frame: Frame, engine: Engine, start: Start) -> Coroutine[Any, Any, RunResult[Any]]:
    """Trigger a child and wait for it; the keys of both are taken now (rule I1)."""
    trigger, key = trigger_child_later(frame, start), take_key(frame, None)
    return _trigger_and_wait(frame, engine, start.spec.id, key, trigger)


async def _trigger_and_wait(
    frame: Frame, engine: Engine, name: str, key: str, trigger: Callable[[], Coroutine[Any, Any, str]]
) -> RunResult[Any]:
    run_id = await trigger()
    call = JoinCall(key, name, (run_id,), recall(frame.run, Kind.WAIT, key, name))
    return (await _wait_async(frame, engine, call))[0]


def _call(frame: Frame, name: str, run_ids: Sequence[str], timeout: Duration | None, goal: Goal) -> JoinCall:
    timeout_ms = None if timeout is None else round(seconds(timeout, "timeout") * 1000)
    key = take_key(frame, None)
    return JoinCall(key, name, tuple(run_ids), recall(frame.run, Kind.WAIT, key, name), goal, timeout_ms)


def _results(frame: Frame, engine: Engine, call: JoinCall, places: object) -> list[RunResult[Any]]:
    """The runs as they had ended when the wait was over; those that had not are told as running."""
    run = frame.run
    ended = range(len(call.run_ids)) if places is None else frozenset(cast("list[int]", places))
    results: list[RunResult[Any]] = []
    for place, run_id in enumerate(call.run_ids):
        if place not in ended:
            results.append(RunResult(run_id, RunStatus.RUNNING))
            continue
        end = _end_of(run, run_id)
        result = _result_of(engine, run_id, end)
        if result.error is not None:
            run.child_errors[id(result.error)] = [call.key, END_OF + run_id]
            run.kept_errors.append(result.error)
        else:
            _remember_undo(frame, call, place, end)
        results.append(result)
    return results


def _end_of(run: Run, run_id: str) -> RunEnd:
    end = run.journal.ends.get(run_id)
    if end is None:  # recorded by a wait beside this one, which is still being written
        message = run.mailbox.ends()[run_id]
        end = RunEnd(phase_of(run.codec, message.payload), run_id, "", 0, message.payload)
    return end


def _result_of(engine: Engine, run_id: str, end: RunEnd) -> RunResult[Any]:
    status = next(status for phase, status in _STATUS_OF.items() if phase == end.phase)
    outcome = engine.outcome_of(end.name, end.result)
    if isinstance(outcome, Raised):
        return RunResult(run_id, status, None, outcome.error)
    return RunResult(run_id, status, outcome.value)


def _remember_undo(frame: Frame, call: JoinCall, place: int, end: RunEnd) -> None:
    """A child that has succeeded can be taken back from now on, once however often it is waited for (rule G1)."""
    child = frame.run.children.get(end.run_id)
    if child is None or child.remember_undo is None:
        return
    remember, child.remember_undo = child.remember_undo, None
    key = call.key if len(call.run_ids) == 1 else f"{call.key}.{place}"
    remember(frame.scope.saga, key, frame.scope.position, place, end.result)


def fail_together(results: Sequence[RunResult[Any]]) -> None:
    """Raise the error of the first that has failed; a retry of the run makes all that have failed run again."""
    failed = [result for result in results if not result.ok]
    if not failed:
        return
    frame, error = current.get(), failed[0].error
    if frame is not None and error is not None:
        known = frame.run.child_errors
        again = [key for result in failed if result.error is not None for key in known.get(id(result.error), ())]
        if again:
            known[id(error)] = list(dict.fromkeys(again))
    failed[0].unwrap()


# ---- elsewhere ------------------------------------------------------------------------------------------------------


class Deadline:
    """Until when to wait."""

    def __init__(self, engine: Engine, timeout: Duration | None) -> None:
        self._engine = engine
        self._given = timeout
        self._at_ms = None
        if timeout is not None:
            self._at_ms = engine.clock.now_ms() + round(seconds(timeout, "timeout") * 1000)

    def left_s(self, run_id: str, status: RunStatus) -> float:
        """How long to wait before looking again.

        Raises:
            ResultTimeout: not at all any more.
        """
        longest_s = LONGEST_VIRTUAL_WAIT_S if self._engine.clock.virtual else LONGEST_WAIT_S
        if self._at_ms is None:
            return longest_s
        left_s = (self._at_ms - self._engine.clock.now_ms()) / 1000
        if left_s <= 0:
            raise ResultTimeout(f"run {run_id!r} is {status} after {self._given!s}; it goes on")
        return min(longest_s, left_s)


def wait_outside(engine: Engine, run_ids: Sequence[str], timeout: Duration | None, goal: Goal) -> list[RunResult[Any]]:
    """Wait, blocking, until enough of the runs have ended (or are blocked); never raises for a failed run.

    Inside a step it keeps its thread, and lets another run have its place in the worker (rule I5).

    Raises:
        ResultTimeout: not enough of them are finished in time; they go on.
        RunNotFound: one of them is not there.
    """
    deadline, found = Deadline(engine, timeout), dict[str, RunResult[Any]]()
    running = dict.fromkeys(run_ids)
    with given_back():
        while True:
            waits_for: Snapshot | None = None
            for run_id in list(running):
                snapshot = engine.snapshot(run_id)
                if snapshot.result is not None:
                    found[run_id] = stored_result(engine, snapshot)
                    del running[run_id]
                else:
                    waits_for = snapshot
                    if goal == Goal():  # all of them: one after the other
                        break
            succeeded = sum(result.ok for result in found.values())
            if waits_for is None or not goal.missing(len(running), succeeded, len(found) - succeeded):
                return [found.get(run_id) or RunResult(run_id, RunStatus.RUNNING) for run_id in run_ids]
            _wait_for_change(engine, waits_for.header, deadline, until_ended=goal == Goal())


async def _wait_on_a_thread(wait: Callable[[], list[RunResult[Any]]]) -> list[RunResult[Any]]:
    """On one of its own: who waits must not use up the threads that others need to go on."""
    future = outcome_on_thread(wait, "flowkit-wait")
    with given_back():
        outcome = await future
    if isinstance(outcome, Raised):
        raise outcome.error
    return cast("list[RunResult[Any]]", outcome.value)


def _wait_for_change(engine: Engine, header: RunHeader, deadline: Deadline, *, until_ended: bool) -> None:
    """Wait for a run without reading it: what it is sent, and what it records meanwhile, may be much."""
    while True:
        left_s = deadline.left_s(header.run_id, header.status)
        found = engine.storage.wait_for_run(header.run_id, header.revision, left_s)
        _leave_if_closing()
        if found is None or not until_ended or found.status.finished or found.status is RunStatus.BLOCKED:
            return
        header = found


def _leave_if_closing() -> None:
    """A step that only waits does not keep its worker from stopping: the run is handed back, and waits elsewhere."""
    frame = current.get()
    if frame is not None and frame.run.closing is not None and not frame.run.is_async:
        raise Unwind(Detached(frame.run.closing))


def stored_result(engine: Engine, snapshot: Snapshot) -> RunResult[Any]:
    """How a run that has ended (or is blocked) stands."""
    header, raw = snapshot.header, snapshot.result
    assert raw is not None  # callers have looked
    if header.status is RunStatus.BLOCKED:
        return RunResult(header.run_id, header.status, None, describe_error(engine.codec, raw))
    outcome = engine.outcome_of(header.task, raw)
    if isinstance(outcome, Raised):
        return RunResult(header.run_id, header.status, None, outcome.error)
    return RunResult(header.run_id, header.status, outcome.value)
