"""Engines that undo wrongly, one fault each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import flowkit.calls
import flowkit.operations
import flowkit.rollback
from flowkit.effects import Operation
from flowkit.entries import Phase
from flowkit.journal import Journal, Past
from flowkit.saga import _Entered


def undoes_oldest_first(patch: pytest.MonkeyPatch) -> None:
    """Undos run in the order of the steps (G1)."""

    def oldest_first(undos: list[object], *, key: Callable[[object], object], reverse: bool) -> list[object]:
        del reverse
        return sorted(undos, key=key)  # type: ignore[arg-type]  # as called

    patch.setattr(flowkit.rollback, "sorted", oldest_first, raising=False)


def undoes_again(patch: pytest.MonkeyPatch) -> None:
    """An undo that was done before a crash is done again (G3)."""
    recall = Journal.recall

    def forgetful(journal: Journal, kind: str, key: str, name: str) -> Past | None:
        past = recall(journal, kind, key, name)
        return None if kind == "undo" else past

    patch.setattr(Journal, "recall", forgetful)


def forgets_undos_of_scopes(patch: pytest.MonkeyPatch) -> None:
    """A scope that succeeds does not hand its undos outwards (G1)."""
    decide = _Entered.must_roll_back

    def forgetful(entered: Any, error: BaseException | None) -> bool:  # noqa: ANN401  # an internal class
        kept = list(entered.outer.undos)
        rolls_back = decide(entered, error)
        entered.outer.undos[:] = kept
        return rolls_back

    patch.setattr(_Entered, "must_roll_back", forgetful)


def stops_rollbacks_half_way(patch: pytest.MonkeyPatch) -> None:
    """A rollback that was interrupted goes on with its first undo only (G3)."""
    rebuild = flowkit.rollback._rebuilt

    def halved(*args: Any) -> list[Any]:  # noqa: ANN401  # as called
        return rebuild(*args)[:1]

    patch.setattr(flowkit.rollback, "_rebuilt", halved)


def turns_round(patch: pytest.MonkeyPatch) -> None:
    """A rollback that was interrupted is forgotten: the body goes forward again (G3)."""
    add_of_run = Journal._add_of_run

    def forgetful(journal: Journal, entry: Any) -> None:  # noqa: ANN401  # an Entry
        add_of_run(journal, entry)
        journal.rollback = None
        for key in [key for key, past in journal.past.items() if past.phase == Phase.FAILED]:
            del journal.past[key]

    patch.setattr(Journal, "_add_of_run", forgetful)


def forgets_steps_in_flight(patch: pytest.MonkeyPatch) -> None:
    """Undos of a task are run, but not that of its last step (G1)."""
    remember = flowkit.operations.remember_undo

    def forgetful(saga: Any, spec: Any, key: str, *args: Any) -> None:  # noqa: ANN401  # as called
        if key != "3":
            remember(saga, spec, key, *args)

    patch.setattr(flowkit.operations, "remember_undo", forgetful)
    patch.setattr(flowkit.calls, "remember_undo", forgetful)


def stops_at_a_failing_undo(patch: pytest.MonkeyPatch) -> None:
    """An undo that fails for good stops the others (G2)."""
    undo = flowkit.rollback._undo
    failed: set[str] = set()

    def impatient(run: Any, *args: Any) -> Operation[Exception | None]:  # noqa: ANN401  # as called
        if run.id in failed:
            return None
        failure = yield from undo(run, *args)
        if failure is not None:
            failed.add(run.id)
        return failure

    patch.setattr(flowkit.rollback, "_undo", impatient)
