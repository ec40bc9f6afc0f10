"""A storm: worker processes on one storage that are killed again and again, and an audit when it is over."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from flowkit import Flow, RunStatus
from flowkit.cli.exits import Exit
from flowkit.cli.loading import load_code
from flowkit_testing.auditor import Audit, EffectLog, audit, ended

TASKS = Path(__file__).with_name("storm_tasks.py")
COMMAND = (sys.executable, "-c", "from flowkit.cli import main; main()", "worker")
STOPPED = {0, -signal.SIGTERM}  # the latter before it had begun to work
LOOK_S = 0.02
PATIENCE_S = 120.0


class Storm:
    """Processes that run `flowkit worker`, and the client that gives them work.

    Args:
        folder: for the storage, the log of effects, and what the workers say.
        seed: what is done, and who is killed, in which order.
        workers: how many there are at a time.
        url: the storage; by default one in the folder.
    """

    def __init__(self, folder: Path, seed: int, *, workers: int = 3, url: str | None = None) -> None:
        self.url = url or f"disk:{folder / 'state'}?durability=process"
        self.folder = folder
        self.workers = workers
        self.kills = 0
        self.fruitless = 0  # workers that have ended by themselves, since their storage was away when they began
        self.ids: list[str] = []
        self.log = EffectLog(folder / "effects")
        self.flow = Flow(self.url, worker=False)
        self._random = random.Random(seed)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._tasks = load_code(str(TASKS))

    # ---- the processes

    def start_workers(self) -> None:
        """All of them."""
        for _ in range(self.workers):
            self._processes.append(self._start())

    def _start(self) -> subprocess.Popen[bytes]:
        options = ["--storage", self.url, "--concurrency", "8"]
        environment = {**os.environ, "FLOWKIT_STORM": str(self.folder)}
        with (self.folder / "workers.log").open("ab") as said:
            return subprocess.Popen([*COMMAND, str(TASKS), *options], stdout=said, stderr=said, env=environment)

    def kill_one(self) -> None:
        """SIGKILL for one of them, whatever it is doing, and another in its place."""
        place = self._random.randrange(len(self._processes))
        victim = self._processes[place]
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        self._processes[place] = self._start()
        self.kills += 1

    def replace_fruitless(self) -> None:
        """As a supervisor does with workers that could not begin."""
        for place, process in enumerate(self._processes):
            if process.poll() == Exit.STORAGE:
                self._processes[place] = self._start()
                self.fruitless += 1

    def stop_workers(self) -> list[int]:
        """SIGTERM for all; their exit codes."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        return [process.wait(PATIENCE_S) for process in self._processes]

    def end(self) -> None:
        """Leave no process behind."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()

    # ---- the work

    def submit(self, rounds: int = 1) -> None:
        """A round is one run of each kind, failing or not as chance has it."""
        made = self._tasks
        for _ in range(rounds):
            fails = self._random.random() < 1 / 3
            handles = (
                self.flow.start(made.saga_run, fails=fails),
                self.flow.start(made.async_saga_run, fails=not fails),
                self.flow.start(made.side_run, self._random.randrange(1, 5)),
                self.flow.start(made.parent, self._random.randrange(1, 4)),
                self.flow.start(made.batch_run, self._random.randrange(2, 8)),
                self.flow.start(made.async_batch_run, self._random.randrange(2, 8)),
                self.flow.start(made.timer_run.options(priority=self._random.randrange(3))),
                self.flow.start(made.async_timer_run.options(delay=self._random.random())),
            )
            self.ids += [handle.id for handle in handles]

    def effects(self) -> int:
        """How many there have been."""
        return self.log.path.read_bytes().count(b"\n") if self.log.path.exists() else 0

    def rest(self) -> Iterator[int]:
        """Look now and then, for as long as somebody wants to go on looking; yields the number of effects."""
        seen, until_s = -1, 0.0
        while (effects := self.effects()) != seen or time.monotonic() < until_s:
            if effects != seen:
                seen, until_s = effects, time.monotonic() + PATIENCE_S
            yield effects
            threading.Event().wait(LOOK_S)
        raise AssertionError(f"nothing more happens: {self.flow.engine.storage.stats()}\n{self.said()}")

    def wait_for_effects(self, count: int) -> None:
        """Until there have been so many, or all runs have ended."""
        for found in self.rest():
            if found >= count or ended(self.flow.engine.storage):
                return

    def wait_for_the_end(self, *, supervised: bool = False) -> None:
        """Until all runs have ended; `supervised`: workers that could not begin are replaced meanwhile."""
        for _ in self.rest():
            if supervised:
                self.replace_fruitless()
            if ended(self.flow.engine.storage):
                return

    def said(self) -> str:
        """What the workers have said."""
        return (self.folder / "workers.log").read_text(errors="replace")[-20_000:]

    # ---- the audit

    def audit(self) -> Audit:
        """What is left, held against what was done and to what these tasks promise."""
        found = audit(self.flow.engine.storage, acknowledged=self.ids, effects=self.log.read())
        return Audit(
            {"kills": self.kills, "workers that could not begin": self.fruitless, **found.figures},
            (*found.findings, *self._wrong_outcomes()),
        )

    def _wrong_outcomes(self) -> Iterator[str]:
        """A saga that cannot ship fails, everything else succeeds, and what is returned is what was recorded first."""
        tokens = {effect.token for effect in self.log.read()}
        for run_id in self.ids:
            handle = self.flow.handle(run_id)
            result = handle.wait_for_completion(timeout=0)
            if result.ok:
                if isinstance(result.output, str) and result.output not in tokens:
                    yield f"run {run_id!r} returned {result.output!r}, which no step has made"
            elif result.status is not RunStatus.FAILED or str(result.error) != "no carrier":
                yield f"run {run_id!r} is {result.status}: {result.error!r}"
