"""The contract catches storages that are broken on purpose: a check that could not fail would prove nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from textwrap import dedent

import pytest
from attrs import evolve

from flowkit.memory import MemoryStorage
from flowkit.records import Capabilities, Commit, Durability, Fenced, Snapshot, Verdict
from flowkit.storage import Storage
from flowkit_disk import DiskStorage
from flowkit_testing.contract import DurableStorageContract, StorageContract
from flowkit_testing.contract.histories import Histories
from flowkit_testing.contract.resending import Resending
from flowkit_testing.forward import Forward
from flowkit_testing.linearizable import NotLinearizable

_numbers = count()


class StaleReads(Forward):
    """Reads what was there the last time."""

    _last: Snapshot | None = None

    def load(self, run_id: str, after: int = 0, limit: int | None = None) -> Snapshot | None:
        """Remember this one for the next time."""
        before, self._last = self._last, self._storage.load(run_id, after, limit)
        return before or self._last


class NoFence(Forward):
    """Takes a zombie's commit for its successor's."""

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Try again in the name of whoever was not fenced last."""
        (commit,) = commits
        (verdict,) = self._storage.commit(commits, now_ms=now_ms)
        if isinstance(verdict, Fenced):
            owner, fence = _owners.get(commit.run_id, ("", 0))
            (verdict,) = self._storage.commit([evolve(commit, owner=owner, fence=fence)], now_ms=now_ms)
        else:
            _owners[commit.run_id] = commit.owner, commit.fence
        return [verdict]


_owners: dict[str, tuple[str, int]] = {}


class ForgetsCommits(Forward):
    """Does not know a commit that is sent again."""

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Give it another id, and the base that fits."""
        verdicts = []
        for commit in commits:
            known = self._storage.load(commit.run_id, 0, 0)
            base = commit.base if known is None else known.header.length
            again = evolve(commit, commit_id=f"{commit.commit_id}-{next(_numbers)}", base=base)
            verdicts += self._storage.commit([again], now_ms=now_ms)
        return verdicts


class SaysDurable(MemoryStorage):
    """Claims what it does not show."""

    def open(self) -> Capabilities:
        """Say so."""
        return evolve(super().open(), durability=Durability.DISK)


class InMemory(Histories):
    """Histories of a storage in this process."""

    def another(self, storage: Storage) -> Storage:
        """The same one."""
        return storage


def opened(wrap: Callable[[Storage], Storage]) -> Storage:
    """A broken storage, opened."""
    memory = MemoryStorage()
    memory.open()
    return wrap(memory)


@pytest.mark.parametrize("broken", [StaleReads, NoFence])
def test_histories_show_it(broken: Callable[[Storage], Storage]) -> None:
    """D4: one of the histories has no order."""
    _owners.clear()

    def every_history() -> None:
        for seed in range(8):
            InMemory().test_concurrent_calls_of_one_run_are_linearizable(opened(broken), seed)

    with pytest.raises(NotLinearizable):
        every_history()


def test_sending_twice_shows_it() -> None:
    """D7: a commit that is applied a second time is seen."""
    with pytest.raises(AssertionError, match="commit sent a second time changed something"):
        Resending().test_every_call_sent_twice(opened(ForgetsCommits))


def test_a_durable_storage_has_to_be_killed() -> None:
    """D1: whoever claims durability is told which contract shows it."""
    with pytest.raises(AssertionError, match="subclass DurableStorageContract"):
        StorageContract().test_what_is_said_to_survive_is_shown(SaysDurable())


class Lazy(DurableStorageContract):
    """Acknowledges each commit when it has applied the one before."""

    def elsewhere(self, storage: Storage) -> tuple[str, ...]:
        """In a module that the test writes."""
        assert isinstance(storage, DiskStorage)
        return "lazy_storage:make", str(storage.path)

    def reopen(self, storage: Storage) -> Storage:
        """As a disk storage is reopened."""
        assert isinstance(storage, DiskStorage)
        storage.close()
        again = DiskStorage(storage.path)
        again.open()
        return again


def test_a_kill_shows_what_was_acknowledged_too_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D1: a commit that was acknowledged before it was written is missed after the kill."""
    (tmp_path / "lazy_storage.py").write_text(
        dedent("""
        from flowkit.records import Done
        from flowkit_disk import DiskStorage

        class Lazy(DiskStorage):
            due = []
            def commit(self, commits, *, now_ms=None):
                (commit,) = commits
                while len(self.due) > 3:
                    super().commit([self.due.pop(0)], now_ms=now_ms)
                self.due.append(commit)
                return [Done(commit.base + len(commit.entries), False, 0, now_ms)]

        def make(path):
            return Lazy(path)
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    storage = DiskStorage(tmp_path / "state")
    storage.open()

    with pytest.raises(AssertionError, match="an acknowledged commit is lost"):
        Lazy().test_a_writer_is_killed(storage, 6)
