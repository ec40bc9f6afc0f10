"""All that is broken on purpose, the workflow that shows it, and the line that it has in the table of the docs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from attrs import frozen

from flowkit.memory import MemoryStorage
from flowkit.storage import Storage
from flowkit_testing import Harness
from flowkit_testing.corpus import CASES
from flowkit_testing.exploration import Exploration
from flowkit_testing.plan import DEFAULT_FAULTS, Kind
from tests.harness.gauntlet.advancing import (
    delivers_out_of_order,
    draws_anew,
    drops_work_at_finish,
    gives_up_at_once,
    goes_on_after_unwinding,
    ignores_cancellation,
    names_children_anew,
    restarts_timers,
)
from tests.harness.gauntlet.claiming import (
    EmptiesInboxes,
    ForgetsRuns,
    GarblesEntries,
    GivesFinishedRuns,
    LoadsStale,
    LosesCancellations,
    NeverCountsCrashes,
    PurgesUnfinished,
    ReceivesTwice,
    RenewsForStrangers,
    TakesAllLeases,
)
from tests.harness.gauntlet.stepping import (
    answers_with_another_result,
    forgets_back_offs,
    records_another_result,
    records_nothing_of_failures,
    resets_attempts,
    runs_at_most_once_twice,
    runs_steps_again,
    skips_a_step,
    starts_over_after_final_failures,
)
from tests.harness.gauntlet.undoing import (
    forgets_steps_in_flight,
    forgets_undos_of_scopes,
    stops_at_a_failing_undo,
    stops_rollbacks_half_way,
    turns_round,
    undoes_again,
    undoes_oldest_first,
)
from tests.harness.gauntlet.workflows import draws, gives_up, patient, swallows, two_events, unjoined
from tests.harness.gauntlet.writing import (
    AcknowledgesFirst,
    AppendsAnywhere,
    DeliversTwice,
    FinishesAgain,
    ForgetsCommitIds,
    LosesReplies,
    LosesTimers,
    LosesWakeUps,
    NoFence,
    SleepsThroughCancellation,
    SpawnsTwice,
)

cases = {case.name: case for case in CASES}
MOST_RUNS = 200  # many an exploration of a broken engine tells the same again and again


@frozen
class Broken:
    """Something broken, and the workflow that shows it."""

    what: Any  # a storage's class, or a function that breaks the engine
    task: Any
    args: tuple[object, ...] = ()
    faults: tuple[Kind, ...] = DEFAULT_FAULTS
    events: tuple[tuple[str, object], ...] = ()
    failing: tuple[str, ...] = ()

    def __str__(self) -> str:
        return str(self.what.__name__)

    @property
    def is_storage(self) -> bool:
        """Whether it is a storage that is broken."""
        return isinstance(self.what, type)

    def explore(self, patch: pytest.MonkeyPatch) -> Exploration:
        """Let the harness look at it."""
        if not self.is_storage:
            self.what(patch)

        def make_storage() -> Storage:
            storage: Storage = self.what(MemoryStorage()) if self.is_storage else MemoryStorage()
            return storage

        harness = Harness(MemoryStorage(), make_storage=make_storage)
        try:
            return self.explored_by(harness)
        finally:
            harness.close()

    def explored_by(self, harness: Harness) -> Exploration:
        """Explore the workflow."""
        return harness.explore(
            self.task, *self.args, faults=self.faults, events=self.events, failing=self.failing, budget=MOST_RUNS
        )

    def row(self, found: Exploration) -> str:
        """Its line in the table."""
        checks = sorted({check for violation in found.violations for check in violation.checks})
        told = ", ".join(str(int(check)) for check in checks)
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", str(self)).lower().replace("_", " ")
        return f"| {'storage' if self.is_storage else 'engine'} | {name} | {self.what.__doc__.rstrip('.')} | {told} |"


def _case(what: Any, name: str, **options: Any) -> Broken:  # noqa: ANN401  # as Broken has it
    return Broken(what, cases[name].task, cases[name].args, **options)


NEWS = (("news", "first"), ("news", "second"))
ALL = [
    _case(NoFence, "chain"),
    _case(ForgetsCommitIds, "chain"),
    _case(AcknowledgesFirst, "chain"),
    _case(LosesWakeUps, "waiting-parent"),
    _case(LosesTimers, "sleeps"),
    _case(LosesReplies, "waiting-parent"),
    Broken(DeliversTwice, two_events, events=NEWS),
    Broken(EmptiesInboxes, two_events, events=NEWS),
    _case(LosesCancellations, "chain", faults=("cancel",)),
    _case(GivesFinishedRuns, "nothing"),
    _case(TakesAllLeases, "chain"),
    _case(LoadsStale, "chain"),
    _case(GarblesEntries, "chain"),
    _case(ForgetsRuns, "chain"),
    _case(SpawnsTwice, "parent"),
    _case(AppendsAnywhere, "chain"),
    _case(FinishesAgain, "chain"),
    _case(SleepsThroughCancellation, "sleeps", faults=("cancel",)),
    _case(ReceivesTwice, "event-early"),
    _case(NeverCountsCrashes, "chain"),
    _case(RenewsForStrangers, "chain"),
    _case(PurgesUnfinished, "chain"),
    _case(records_another_result, "chain"),
    _case(skips_a_step, "chain"),
    _case(runs_steps_again, "chain"),
    _case(answers_with_another_result, "chain"),
    _case(resets_attempts, "retries"),
    _case(runs_at_most_once_twice, "once"),
    _case(restarts_timers, "sleeps"),
    _case(undoes_oldest_first, "saga"),
    _case(undoes_again, "saga"),
    _case(forgets_undos_of_scopes, "saga-nested"),
    _case(forgets_steps_in_flight, "saga"),
    _case(stops_rollbacks_half_way, "saga"),
    _case(turns_round, "saga"),
    _case(records_nothing_of_failures, "retries"),
    Broken(drops_work_at_finish, unjoined, (1,)),
    _case(delivers_out_of_order, "as-completed"),
    _case(gives_up_at_once, "chain"),
    Broken(draws_anew, draws),
    _case(ignores_cancellation, "chain", faults=("cancel",)),
    _case(names_children_anew, "parent"),
    _case(stops_at_a_failing_undo, "saga", failing=("undo of book",)),
    Broken(forgets_back_offs, patient),
    Broken(starts_over_after_final_failures, gives_up),
    Broken(goes_on_after_unwinding, swallows),
]
