"""Undo what was completed, newest first, once each (rules G1 to G3).

The idea is that of sagas: Garcia-Molina and Salem, 1987.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve

from flowkit.codec import Json
from flowkit.codec.errors import error_from_json
from flowkit.digest import ArgumentDigest
from flowkit.effects import Operation, Record
from flowkit.entries import RUN_KEY, Entry, Kind, Phase
from flowkit.errors import CompensationFailed, RunBlocked, RunCancelled
from flowkit.lines import Scope, Undo, UndoScope
from flowkit.operations import StepCall, StepSpec, encode_within_cap, noted, step_operation
from flowkit.reasons import Blocked, Unwind
from flowkit.records import Go, RunStatus
from flowkit.run import Run

_COMPENSATING = Go(RunStatus.COMPENSATING)
_NO_DIGEST = ArgumentDigest(lambda: None)  # an undo gets what was recorded, so its arguments are not compared


def undo_key(key: str) -> str:
    """The key of the step that undoes the operation of this key."""
    return f"{key}~undo"


def rollback_operation(
    run: Run, scope: Scope, saga: UndoScope, name: str, cause: BaseException | None, recorded: Entry | None
) -> Operation[BaseException]:
    """Run the undos of a scope; returns what is to be raised afterwards: the cause, or what could not be undone too.

    Args:
        run: the run.
        scope: the line of calls in which the scope was left.
        saga: the scope.
        name: of the scope, for the record.
        cause: the error that it was left by; None on a replay in which that error did not come back.
        recorded: the entry of a rollback that had begun before.
    """
    run.compensating += 1
    run.handled = run.rolled_back = True  # R3: something was done about the error, so it is final
    saga.rolling_back = False
    try:
        if recorded is None:
            assert cause is not None  # a rollback begins with an error
            undos = sorted(saga.undos, key=lambda undo: undo.order, reverse=True)
            yield _record(run, saga.key, name, cause, undos)
        else:
            cause = _cause_of(run, recorded)
            undos = _rebuilt(run, saga, name, recorded)
        failures = []
        for undo in undos:
            failure = yield from _undo(run, scope, saga, undo)
            if failure is not None:
                failures.append(failure)
        return _outcome(name, cause, failures)
    finally:
        run.compensating -= 1


def _record(run: Run, key: str, name: str, cause: BaseException, undos: list[Undo]) -> Record:
    """The rollback is recorded before it begins, with its cause and its list (rule G3)."""
    cancelled = not isinstance(cause, Exception)
    error = run.recorded(RunCancelled(f"run {run.id!r} was cancelled") if cancelled else cause)
    data: dict[str, Json] = {"cause": error, "cancelled": cancelled, "undos": [undo.key for undo in undos]}
    if isinstance(cause, CompensationFailed):  # of a scope inside this one: what it has left
        left = [key for key, failure in run.failed_undos.items() if any(failure is each for each in cause.exceptions)]
        data["left"] = list(left)
    kind = Kind.RUN if key == RUN_KEY else Kind.SAGA
    entry = Entry(kind, Phase.ROLLBACK, key, name, run.clock.now_ms(), "", data)
    raw = encode_within_cap(run, entry)
    return Record(kind, Phase.ROLLBACK, name, key, (raw,), go=_COMPENSATING)


def _data_of(recorded: Entry) -> Mapping[str, Json]:
    assert isinstance(recorded.data, dict)  # written by _record
    return recorded.data


def _cause_of(run: Run, recorded: Entry) -> BaseException:
    """What led to a rollback that had begun before; of what a scope inside had left then, what still is (rule G2)."""
    data = _data_of(recorded)
    error = error_from_json(run.codec, data["cause"])
    if not isinstance(error, CompensationFailed) or not error.exceptions:
        return error
    keys = data.get("left", [])
    assert isinstance(keys, list)  # written by _record
    left = [run.failed_undos[str(key)] for key in keys if key in run.failed_undos]
    first = error.exceptions[0]
    if not left:
        return first
    message = error.message if len(left) == len(keys) else f"{len(left)} undo(s) failed; first what caused the rollback"
    return CompensationFailed(message, [first, *left])


def was_cancelled(recorded: Entry) -> bool:
    """True if the rollback began with a cancellation."""
    return bool(_data_of(recorded)["cancelled"])


def _rebuilt(run: Run, saga: UndoScope, name: str, recorded: Entry) -> list[Undo]:
    """The recorded undos, found again by the replay of the body.

    Raises:
        Unwind: one of them could not be rebuilt, so the run is blocked.
    """
    found = {undo.key: undo for undo in saga.undos}
    keys = _data_of(recorded)["undos"]
    assert isinstance(keys, list)
    missing = [str(key) for key in keys if key not in found]
    if missing:
        raise Unwind(
            Blocked(
                RunBlocked(
                    f"the rollback of {name!r} in run {run.id!r} cannot go on: the replay did not call operation(s) "
                    f"{', '.join(missing)} again, whose undo is still to be run. Restore the task's code, then resume "
                    "with flow.retry(run_id)"
                )
            )
        )
    return [found[str(key)] for key in keys]


def _undo(run: Run, scope: Scope, saga: UndoScope, undo: Undo) -> Operation[Exception | None]:
    """Undo one operation, unless that is recorded already; returns what it failed with for good."""
    key = undo_key(undo.key)
    past = run.journal.recall(Kind.UNDO, key, undo.name)
    if past is not None and (outcome := past.outcome) is not None:
        if run.body is not None:
            run.body.skip(past.position)  # I4: nobody waits for its turn
        if outcome.phase == Phase.DONE:
            return None
        data = outcome.data
        assert isinstance(data, dict)  # written by fail_operation
        error, attempts = error_from_json(run.codec, data["error"]), data["attempts"]
        assert isinstance(attempts, int)
        again = noted(run, past.kind, key, undo.name, error, attempts)
        failed = run.failed_undos[key] = again if isinstance(again, Exception) else RunBlocked(str(again))
        return failed
    spec = StepSpec(undo.name, undo.fn, undo.is_async, _NO_DIGEST, object, undo.policy, kind=Kind.UNDO.value)
    threaded = run.is_async and not undo.is_async
    try:
        call = StepCall(spec, key, "", undo.args, undo.kwargs, past, saga, threaded)
        yield from _while_compensating(step_operation(run, scope, call))
    except Exception as error:  # noqa: BLE001  # G2: one that fails for good does not stop the others
        run.failed_undos[key] = error
        return error
    return None


def _while_compensating(operation: Operation[object]) -> Operation[object]:
    """The run stays in `compensating` whatever its undos record, also while it waits or is taken over (rule X6)."""
    try:
        effect = next(operation)
        while True:
            if isinstance(effect, Record):
                effect = evolve(effect, go=_COMPENSATING)
            try:
                answer = yield effect
            except BaseException as error:  # noqa: BLE001  # the undo's own operation decides what it means
                effect = operation.throw(error)
            else:
                effect = operation.send(answer)
    except StopIteration as stop:
        value: object = stop.value
        return value


def _outcome(name: str, cause: BaseException, failures: list[Exception]) -> BaseException:
    if not failures:
        return cause
    first = cause if isinstance(cause, Exception) else RunCancelled("the run was cancelled")
    return CompensationFailed(
        f"{len(failures)} undo(s) of {name!r} failed; first what caused the rollback", [first, *failures]
    )
