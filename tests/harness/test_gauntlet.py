"""Engines and storages that are broken on purpose, one fault each: exploring a workflow finds every one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

import pytest
from attrs import evolve, frozen

import flowkit.calls
import flowkit.operations
import flowkit.rollback
import flowkit.timers
from flowkit.codec import Codec
from flowkit.journal import Journal, Past
from flowkit.memory import MemoryStorage
from flowkit.memory.state import State
from flowkit.records import Commit, Done, Go, Suspend, Verdict
from flowkit.storage import Storage
from flowkit_testing import Harness
from flowkit_testing.corpus import CASES, Case
from flowkit_testing.forward import Forward

cases = {case.name: case for case in CASES}
Break = Callable[[pytest.MonkeyPatch], None]


# ---- storages -------------------------------------------------------------------------------------------------------


class BrokenMemory(Forward):
    """What the broken storages are made of."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self.state = State()
        self._storage = MemoryStorage(self.state)


class NoFence(BrokenMemory):
    """Writes for whoever asks."""

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, wrongly."""
        verdicts = []
        for commit in commits:
            run = self.state.runs.get(commit.run_id)
            mended = commit
            if run is not None and run.owner is not None:
                mended = evolve(commit, owner=run.owner, fence=run.fence, base=len(run.entries))
            verdicts += self._storage.commit([mended], now_ms=now_ms)
        return verdicts


class AppliesTwice(BrokenMemory):
    """Takes a commit that is sent again for a new one."""

    count = 0

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, wrongly."""
        renamed = []
        for commit in commits:
            self.count += 1
            run = self.state.runs.get(commit.run_id)
            base = commit.base if run is None or run.owner != commit.owner else len(run.entries)
            renamed.append(evolve(commit, commit_id=f"{commit.commit_id}/{self.count}", base=base))
        return self._storage.commit(renamed, now_ms=now_ms)


class AcknowledgesFirst(Forward):
    """Answers before it has written: the last commit is lost with the process."""

    held: list[Commit] | None = None

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, wrongly."""
        if self.held is not None:
            self._storage.commit(self.held, now_ms=now_ms)
            self.held = None
        if all(isinstance(commit.then, Go) and commit.entries for commit in commits):
            self.held = list(commits)
            return [Done(commit.base + len(commit.entries), False, 0, now_ms or 0) for commit in commits]  # noqa: FBT003  # as the record has it
        return self._storage.commit(commits, now_ms=now_ms)


class LosesWakeUps(Forward):
    """Waits for one message more than it is told to."""

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, wrongly."""
        late = [
            evolve(commit, then=Suspend(commit.then.wake_at_ms, commit.then.inbox_at_least + 1))
            if isinstance(commit.then, Suspend) and commit.then.inbox_at_least is not None
            else commit
            for commit in commits
        ]
        return self._storage.commit(late, now_ms=now_ms)


# ---- engines --------------------------------------------------------------------------------------------------------


def runs_steps_again(patch: pytest.MonkeyPatch) -> None:
    """A completed step is forgotten."""
    read = Journal.read

    def forgetful(codec: Codec, entries: Sequence[bytes]) -> Journal:
        journal = read(codec, entries)
        if journal.past.pop("2", None) is not None:
            journal.uncalled -= 1
        return journal

    patch.setattr(Journal, "read", forgetful)


def resets_attempts(patch: pytest.MonkeyPatch) -> None:
    """Attempts made before a crash are not counted."""
    patch.setattr(flowkit.operations, "_take_up", _takes_up_nothing)


def _takes_up_nothing(*_args: object) -> Generator[None, None, int]:
    yield from ()
    return 0


def restarts_timers(patch: pytest.MonkeyPatch) -> None:
    """A timer that was set is set again after a crash."""
    recall = flowkit.calls.recall

    def forgetful(run: object, kind: str, key: str, name: str) -> Past | None:
        past = recall(run, kind, key, name)  # type: ignore[arg-type]  # as called
        return past if past is None or past.outcome is not None else None

    patch.setattr(flowkit.timers, "recall", forgetful)


def undoes_oldest_first(patch: pytest.MonkeyPatch) -> None:
    """Undos run in the order of the steps."""

    def oldest_first(undos: list[object], *, key: Callable[[object], object], reverse: bool) -> list[object]:
        del reverse
        return sorted(undos, key=key)  # type: ignore[arg-type]  # as called

    patch.setattr(flowkit.rollback, "sorted", oldest_first, raising=False)


def records_nothing_of_failures(patch: pytest.MonkeyPatch) -> None:
    """A failed attempt is not recorded."""

    def forget(*_args: object) -> Generator[None]:
        yield from ()

    patch.setattr(flowkit.operations, "_try_later", forget)


# ---- what finds them ------------------------------------------------------------------------------------------------


@frozen
class Broken:
    """Something broken, the workflow that shows it, and words of what is said about it."""

    case: Case
    said: str
    storage: Callable[[Storage], Storage] | None = None
    engine: Break | None = None

    def __str__(self) -> str:
        return (self.storage or self.engine).__name__  # type: ignore[union-attr]  # one of them is given


ALL = [
    Broken(cases["chain"], "D4", storage=NoFence),
    Broken(cases["chain"], "recorded otherwise", storage=AppliesTwice),
    Broken(cases["chain"], "D2", storage=AcknowledgesFirst),
    Broken(cases["waiting-parent"], "nothing would take it up", storage=LosesWakeUps),
    Broken(cases["chain"], "D2", engine=runs_steps_again),
    Broken(cases["retries"], "R2", engine=resets_attempts),
    Broken(cases["sleeps"], "E4", engine=restarts_timers),
    Broken(cases["saga"], "newest first", engine=undoes_oldest_first),
    Broken(cases["retries"], "R2", engine=records_nothing_of_failures),
]


@pytest.mark.parametrize("broken", ALL, ids=str)
def test_is_caught(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exploring one small workflow is enough to see it."""
    if broken.engine is not None:
        broken.engine(monkeypatch)

    def make_storage() -> Storage:
        return MemoryStorage() if broken.storage is None else broken.storage(MemoryStorage())

    harness = Harness(MemoryStorage(), make_storage=make_storage)
    with pytest.raises(AssertionError, match=broken.said):
        harness.explore(broken.case.task, *broken.case.args).assert_safe()
