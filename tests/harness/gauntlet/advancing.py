"""Engines that advance runs wrongly, one fault each."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

import flowkit.async_body
import flowkit.calls
import flowkit.changes
import flowkit.committer
import flowkit.patience
import flowkit.spawning
import flowkit.timers
from flowkit.errors import StorageError
from flowkit.journal import Journal, Past
from flowkit.run import Run


def restarts_timers(patch: pytest.MonkeyPatch) -> None:
    """A timer that was set is set again after a crash (E4)."""
    recall = flowkit.calls.recall

    def forgetful(run: object, kind: str, key: str, name: str) -> Past | None:
        past = recall(run, kind, key, name)  # type: ignore[arg-type]  # as called
        return past if past is None or past.outcome is not None else None

    patch.setattr(flowkit.timers, "recall", forgetful)


def drops_work_at_finish(patch: pytest.MonkeyPatch) -> None:
    """A run ends while its side work is still running (W4)."""

    async def forget(body: flowkit.async_body.AsyncBody) -> None:
        body._branches.clear()
        body._tasks.clear()

    patch.setattr(flowkit.async_body.AsyncBody, "_wait_for_branches", forget)


def delivers_out_of_order(patch: pytest.MonkeyPatch) -> None:
    """On replay, outcomes are delivered newest first (I4)."""
    start = Journal._start

    def backwards(journal: Journal) -> None:
        start(journal)
        journal.due.reverse()

    patch.setattr(Journal, "_start", backwards)


def gives_up_at_once(patch: pytest.MonkeyPatch) -> None:
    """A commit whose answer was lost is not sent again: the run is let go of (D7)."""

    def impatient(_storage: object, what: str, call: Callable[[], object]) -> object:
        try:
            return call()
        except Exception as error:
            raise StorageError(what) from error

    patch.setattr(flowkit.patience.PatientStorage, "insist", impatient)
    patch.setattr(flowkit.committer.Committer, "append", _write_once)


def _write_once(committer: Any, writer: Any, *args: Any) -> int:  # noqa: ANN401  # as called
    position: int = committer.write(flowkit.changes.Change(writer, *args))
    return position


def draws_anew(patch: pytest.MonkeyPatch) -> None:
    """uuid4 and rng differ on each replay (I6)."""
    patch.setattr(Run, "draw", lambda _run, _scope: random.Random())


def ignores_cancellation(patch: pytest.MonkeyPatch) -> None:
    """A run that is told to stop goes on (E2)."""
    patch.setattr(Run, "cancel_wanted", lambda _run, _scope: False)


def names_children_anew(patch: pytest.MonkeyPatch) -> None:
    """A child's id is drawn by lot (E3)."""
    lots = random.Random(1)
    patch.setattr(flowkit.spawning, "child_run_id", lambda run_id, _key: f"{run_id}/{lots.random()}")


def goes_on_after_unwinding(patch: pytest.MonkeyPatch) -> None:
    """A body that swallows the unwinding goes on as if nothing had been said (E1)."""
    enter = Run.enter_call

    def deaf(run: Run, scope: Any) -> None:  # noqa: ANN401  # a Scope
        run.reason = scope.reason = None
        enter(run, scope)

    patch.setattr(Run, "enter_call", deaf)
