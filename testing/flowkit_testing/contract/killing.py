"""Contract: what was acknowledged survives a process that is killed while it writes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from flowkit.records import Done, Fenced
from flowkit.storage import Storage
from flowkit_testing.contract import victim
from flowkit_testing.contract.base import LEASE_MS, T0, StorageSuite, claim_ids, snapshot_of, take

LATE = T0 + LEASE_MS


class Killing(StorageSuite):
    """A process dies by SIGKILL in the middle of its writes, and another one goes on (rules D1, D4, D7, X1)."""

    def elsewhere(self, storage: Storage) -> tuple[str, ...]:
        """Tell how another process opens the same data: `"module:callable"`, and what it is called with, as text."""
        raise NotImplementedError  # the storage's own tests say it

    @pytest.mark.parametrize("turns", [0, 1, 6])
    def test_a_writer_is_killed(self, storage: Storage, turns: int) -> None:
        """D1, D7: what it was told is stored is there after a reopening, whole commits only, and others go on."""
        with self._killed_after(storage, "commit", turns) as (first, acknowledged):
            pass
        owner, fence = first.split()
        fresh = self.reopen(storage)
        try:
            entries = snapshot_of(fresh).entries
            done = len(entries) // 2
            assert done >= acknowledged, "an acknowledged commit is lost (D1)"
            assert entries == tuple(entry for turn in range(done) for entry in victim.entries_of(turn))
            arrived = [message.id for message in snapshot_of(fresh, "peer").inbox]
            assert arrived == [f"message-{turn}" for turn in range(done)], "a commit was applied in part"
            children = [fresh.load(f"child-{turn}", 0, 0) is not None for turn in range(done + 1)]
            assert children == [True] * done + [False], "a commit was applied in part"

            last = victim.commit_of(owner, int(fence), done - 1)
            if done:
                assert fresh.commit([last], now_ms=T0) == [Done(2 * done, cancel=False, inbox=0, now_ms=T0)]
            successor = take(fresh, now_ms=LATE)
            successor.write(b"goes on", now_ms=LATE)
            late = victim.commit_of(owner, int(fence), done)
            assert fresh.commit([late], now_ms=LATE) == [Fenced()]
        finally:
            fresh.close()

    def test_a_submitter_is_killed(self, storage: Storage) -> None:
        """X1: every run whose creation was acknowledged is there and can be claimed, in the order of creation."""
        with self._killed_after(storage, "submit", 5) as (_, acknowledged):
            pass
        fresh = self.reopen(storage)
        try:
            claimed = claim_ids(fresh, "token", limit=10_000)
            assert len(claimed) >= acknowledged
            assert claimed == [f"run-{turn}" for turn in range(len(claimed))]
            for turn, run_id in enumerate(claimed[:acknowledged]):
                assert snapshot_of(fresh, run_id).entries == victim.entries_of(turn)
        finally:
            fresh.close()

    @contextmanager
    def _killed_after(self, storage: Storage, work: str, turns: int) -> Iterator[tuple[str, int]]:
        """Start a victim, kill it once it has been told of so many turns; its first line, and those turns."""
        command = [sys.executable, "-m", victim.__name__, work, *self.elsewhere(storage)]
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  # this interpreter, with what the hook says
            assert process.stdout is not None
            try:
                first = process.stdout.readline()
                told = [process.stdout.readline() for _ in range(turns)]
                assert first, "the process that was to be killed died by itself; it has said why above"
                assert all(told), "the process that was to be killed died by itself; it has said why above"
            finally:
                process.kill()
            more = process.stdout.readlines()
            yield first, turns + sum(line.endswith("\n") for line in more)
