"""Storages that write wrongly, one fault each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import evolve

from flowkit.memory.run import Place
from flowkit.records import Commit, Done, Finish, Go, Suspend, Verdict
from flowkit_testing.forward import Forward
from tests.harness.gauntlet.broken_memory import BrokenMemory


class NoFence(BrokenMemory):
    """Writes for whoever asks (D4)."""

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


class ForgetsCommitIds(BrokenMemory):
    """Takes a commit that is sent again for a new one (D7)."""

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
    """Answers before it has written: the last commit is lost with the process (D1)."""

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
    """Waits for one message more than it is told to (E3)."""

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, wrongly."""
        late = [
            evolve(commit, then=Suspend(commit.then.wake_at_ms, commit.then.inbox_at_least + 1))
            if isinstance(commit.then, Suspend) and commit.then.inbox_at_least is not None
            else commit
            for commit in commits
        ]
        return self._storage.commit(late, now_ms=now_ms)


class LosesTimers(Forward):
    """Forgets when a run is to be woken (E4)."""

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, wrongly."""
        asleep = [
            evolve(commit, then=Suspend(None, 1)) if isinstance(commit.then, Suspend) else commit for commit in commits
        ]
        return self._storage.commit(asleep, now_ms=now_ms)


class LosesReplies(Forward):
    """Drops what a commit sends to other runs (E3)."""

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, wrongly."""
        return self._storage.commit([evolve(commit, send=()) for commit in commits], now_ms=now_ms)


class DeliversTwice(Forward):
    """Leaves a message in the inbox that a commit has consumed (E5)."""

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, wrongly."""
        return self._storage.commit([evolve(commit, consume=()) for commit in commits], now_ms=now_ms)


class SpawnsTwice(Forward):
    """Creates a child again, under another id, when its owner asks twice (E3)."""

    seen: frozenset[str] = frozenset()

    def submit(self, runs: Sequence[Any], *, now_ms: int | None = None) -> list[Any]:
        """Create runs, wrongly."""
        named = [
            evolve(new, run_id=f"{new.run_id}b") if "/" in new.run_id and new.run_id in self.seen else new
            for new in runs
        ]
        self.seen |= {new.run_id for new in runs}
        return self._storage.submit(named, now_ms=now_ms)


class AppendsAnywhere(BrokenMemory):
    """Does not compare how long a writer believes the journal to be (D4)."""

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, wrongly."""
        based = []
        for commit in commits:
            run = self.state.runs.get(commit.run_id)
            based.append(commit if run is None else evolve(commit, base=len(run.entries)))
        return self._storage.commit(based, now_ms=now_ms)


class FinishesAgain(BrokenMemory):
    """Lets whoever has finished a run finish it once more, in another way (X2)."""

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, wrongly."""
        for commit in commits:
            run = self.state.runs.get(commit.run_id)
            if run is not None and run.place is Place.FINISHED and isinstance(commit.then, Finish):
                run.result = commit.then.result
        return self._storage.commit(commits, now_ms=now_ms)


class SleepsThroughCancellation(Forward):
    """Lets a run wait that was told to stop just before (E2)."""

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, wrongly."""
        deaf = [
            evolve(commit, then=evolve(commit.then, cancel_seen=True)) if isinstance(commit.then, Suspend) else commit
            for commit in commits
        ]
        return self._storage.commit(deaf, now_ms=now_ms)
