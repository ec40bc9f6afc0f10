"""The second tier: the same points, in processes of their own that die by SIGKILL or stand still by SIGSTOP.

What the first tier pretends is done here to the operating system: a run on disk, in a subprocess that kills or stops
itself at a named point; then another process that takes the run up; then, if the first one was stopped, SIGCONT. The
verdict must be that of the first tier.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen

from flowkit.codec import Codec, JsonCodec
from flowkit.registry import TaskSpec
from flowkit.storage import open_storage
from flowkit_testing.checks import Check
from flowkit_testing.invariants import broken_rules
from flowkit_testing.points import Injury, Schedule, token_of
from flowkit_testing.real_child import REACHED, Order, encode_order
from flowkit_testing.states import Settled, settled
from flowkit_testing.verdicts import differences

LEASE_S = 1
_PATIENCE_S = 60
_KINDS = frozenset({"crash", "stop"})


@frozen
class RealVerdict:
    """What came of a schedule."""

    schedule: Schedule
    reached: bool
    wrong: tuple[str, ...]


@frozen
class RealTier:
    """Runs of one task, in processes.

    Args:
        spec: of the task; its module must have a file.
        args: what to call it with.
        folder: where the storages are made, one for each run.
    """

    spec: TaskSpec
    args: tuple[object, ...]
    folder: Path
    codec: Codec = field(factory=JsonCodec)

    def run(self, schedule: Schedule, reference: Mapping[str, Settled] | None = None) -> RealVerdict:
        """Run it with one fault, resume it, and hold what is stored against a run without.

        Raises:
            ValueError: the schedule has a fault that is not of this tier, or more than one.
        """
        if len(schedule) > 1 or any(injury.fault not in _KINDS for injury in schedule):
            raise ValueError("the real tier takes one crash or one stop at a time")
        url = self._url(schedule)
        first = self._start(url, schedule)
        reached = True
        if schedule:
            reached = self._wait_until_hit(first, schedule[0])
            self._resume(url)
        if first.returncode is None:
            if schedule and reached and schedule[0].fault == "stop":
                os.kill(first.pid, signal.SIGCONT)
            first.communicate(timeout=_PATIENCE_S)
        ended = self.ended(url)
        wrong = list(self._broken(url))
        if reference is not None:
            wrong += differences(ended, reference)
        return RealVerdict(schedule, reached, tuple(wrong))

    def reference(self) -> dict[str, Settled]:
        """How it ends without a fault."""
        url = self._url(())
        self._start(url, ()).communicate(timeout=_PATIENCE_S)
        return self.ended(url)

    def _url(self, schedule: Schedule) -> str:
        number = sum(1 for _ in self.folder.iterdir()) if self.folder.exists() else 0
        place = self.folder / f"{number}-{'-'.join(injury.fault for injury in schedule) or 'plain'}"
        place.mkdir(parents=True)
        return f"disk:{place / 'state'}?durability=process"

    def _start(self, url: str, schedule: Schedule) -> subprocess.Popen[bytes]:
        module = sys.modules[self.spec.fn.__module__]
        order = Order(
            url,
            self.spec.fn.__module__,
            str(module.__file__),
            self.spec.id,
            [self.codec.to_json(arg) for arg in self.args],
            token_of(schedule) if schedule else "",
            LEASE_S,
        )
        command = [sys.executable, "-m", "flowkit_testing.real_child", encode_order(order)]
        paths = os.pathsep.join(path for path in sys.path if path)
        return subprocess.Popen(  # noqa: S603  # our own module, with arguments of our own
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
        )

    def _wait_until_hit(self, process: subprocess.Popen[bytes], injury: Injury) -> bool:
        """Wait until the process has died, stands still, or has ended without coming to the point."""
        if injury.fault == "crash":
            out, _ = process.communicate(timeout=_PATIENCE_S)
            return REACHED in out and process.returncode == -signal.SIGKILL
        pid, status = os.waitpid(process.pid, os.WUNTRACED)
        if pid and os.WIFSTOPPED(status):
            return True
        process.returncode = os.waitstatus_to_exitcode(status)
        process.communicate()  # closes its pipes
        return False

    def _resume(self, url: str) -> None:
        process = self._start(url, ())
        _, told = process.communicate(timeout=_PATIENCE_S)
        assert process.returncode == 0, told.decode(errors="replace")

    def ended(self, url: str) -> dict[str, Settled]:
        """How all its runs have ended."""
        storage = open_storage(url)
        storage.open()
        try:
            return settled(storage, self.codec)
        finally:
            storage.close()

    def _broken(self, url: str) -> list[str]:
        storage = open_storage(url)
        storage.open()
        try:
            wrong = list(broken_rules(storage, self.codec))
            twice = [
                Check.FENCED.broken(f"D4: operation {key} of run {run_id!r} has two outcomes")
                for run_id, (_, _, operations) in settled(storage, self.codec).items()
                for key, entries in operations.items()
                if key and sum(entry[1] in {"done", "failed", "cancelled"} for entry in entries) > 1
            ]
            return wrong + twice
        finally:
            storage.close()
