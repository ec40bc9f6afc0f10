"""What stands in for a storage behind a committer, and who writes to it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from flowkit.changes import Writer
from flowkit.records import Commit, Done, Fenced, Lease, Verdict

STEPS = 40


class Log:
    """The one method of a storage that a committer uses; it counts what it is given and who is inside."""

    def __init__(self) -> None:
        self.entries: dict[str, list[bytes]] = {}
        self.batches: list[int] = []
        self.failures: list[Exception] = []
        self.fenced: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self._inside = threading.Lock()

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Append, or fail as told."""
        assert self._inside.acquire(blocking=False), "two batches at once"
        try:
            self.entered.set()
            assert self.gate.wait(60)
            if self.failures:
                raise self.failures.pop()
            self.batches.append(len(commits))
            return [self._one(commit, now_ms or 0) for commit in commits]
        finally:
            self._inside.release()

    def _one(self, commit: Commit, now_ms: int) -> Verdict:
        if commit.run_id in self.fenced:
            return Fenced()
        entries = self.entries.setdefault(commit.run_id, [])
        assert commit.base == len(entries)
        entries.extend(commit.entries)
        return Done(len(entries), cancel=False, inbox=0, now_ms=now_ms)


class PromptLog(Log):
    """A storage that can commit without waiting; as told, it does so, does not, or leaves in doubt what it did."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[str] = []  # to each commit at once: "yes", "no", "lost", "fails"; then always "yes"
        self.at_once = 0
        self.last: dict[str, str] = {}
        self.inbox = 0

    def commit_at_once(self, commit: Commit, *, now_ms: int | None = None) -> Done | None:
        """Append, or do as told."""
        answer = self.answers.pop(0) if self.answers else "yes"
        if answer == "no":
            return None
        if answer == "fails":
            raise OSError("input/output error")
        [verdict] = self.commit([commit], now_ms=now_ms)
        if answer == "lost" or not isinstance(verdict, Done):
            return None
        self.at_once += 1
        return verdict

    def _one(self, commit: Commit, now_ms: int) -> Verdict:
        entries = self.entries.setdefault(commit.run_id, [])
        if commit.commit_id == self.last.get(commit.run_id):
            return Done(len(entries), cancel=False, inbox=self.inbox, now_ms=now_ms)
        verdict = super()._one(commit, now_ms)
        if isinstance(verdict, Done):
            self.last[commit.run_id] = commit.commit_id
            verdict = Done(verdict.length, cancel=False, inbox=self.inbox, now_ms=now_ms)
        return verdict


def writer_of(run_id: str) -> Writer:
    """The writing end of a new run."""
    return Writer(Lease(run_id, "owner", 1, 0), 0)


def entries_of(run_id: str) -> list[bytes]:
    """What `STEPS` changes write."""
    return [f"{run_id} {number}".encode() for number in range(STEPS)]
