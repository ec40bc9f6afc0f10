"""What a task may ask about itself without writing: the same on every replay (rule I6), and `patched`."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime

from flowkit.calls import perform_call, recall
from flowkit.clock import system_now_ms
from flowkit.effects import Operation, Record
from flowkit.entries import Entry, Kind, Phase, encode
from flowkit.errors import NotAllowedInStep
from flowkit.frozen import frozen
from flowkit.lines import Scope
from flowkit.run import Frame, Run, current


@frozen
class RunInfo:
    """Where the running code stands."""

    id: str  # the run's
    task_id: str
    attempt: int  # of the step, or of the task's own code, from 1
    idempotency_key: str  # stable for this step across retries and machines: hand it to the service you call


def current_run() -> RunInfo:
    """The run that this code belongs to. Outside of a run, a stand-in with a fresh idempotency key."""
    frame = current.get()
    if frame is None:
        return RunInfo("", "", 1, uuid.uuid4().hex)
    run = frame.run
    if frame.step_key is not None:
        return RunInfo(run.id, run.task_id, frame.attempt, f"{run.id}:{frame.step_key}")
    return RunInfo(run.id, run.task_id, run.journal.body_attempts + 1, run.id)


def now() -> datetime:
    """The time of the last recorded thing that this branch has seen, in UTC; outside of a run, the time."""
    frame = current.get()
    milliseconds = system_now_ms() if frame is None else frame.scope.now_ms
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def uuid4() -> uuid.UUID:
    """A random UUID that is the same on every replay."""
    frame = _task_frame()
    return uuid.uuid4() if frame is None else frame.run.uuid4(frame.scope)


def rng() -> random.Random:
    """A random generator whose seed is the same on every replay."""
    frame = _task_frame()
    return random.Random() if frame is None else frame.run.draw(frame.scope)


def _task_frame() -> Frame | None:
    """The frame of a task's code; inside a step and outside of a run real randomness is right."""
    frame = current.get()
    return None if frame is None or frame.step_key is not None else frame


def patched(name: str) -> bool:
    """True for runs that reach this line first with the new code; runs begun before keep the old path.

    Outside of a run it is True.

    Args:
        name: of the change, unique within the task. Temporal calls this patching.
    """
    frame = current.get()
    if frame is None:
        return True
    if frame.step_key is not None:
        raise NotAllowedInStep(f"flowkit.patched() was called inside step {frame.step_name!r}; call it in the task")
    run, scope = frame.run, frame.scope
    key = f"{scope.prefix}patch:{name}"
    past = run.journal.past.get(key)
    if past is None and run.journal.uncalled:  # the run went past this line with the old code
        return False
    run.enter_call(scope)
    if past is not None:
        past = recall(run, Kind.PATCH, key, name)
    return bool(perform_call(run, scope, past, bool, lambda: _patch_operation(run, scope, key, name)))


def _patch_operation(run: Run, scope: Scope, key: str, name: str) -> Operation[object]:
    entry = Entry(Kind.PATCH, Phase.DONE, key, name, run.clock.now_ms(), "", data=True)
    yield Record(entry.kind, entry.phase, entry.name, entry.key, (encode(run.codec, entry),))
    scope.now_ms = entry.at_ms
    return True
