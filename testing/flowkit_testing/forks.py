"""Processes for the real tier, as seen by whoever wants them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Self

from flowkit_testing.real_order import Order, text_of


class Forks:
    """A process that makes others, each a copy of itself as it was after its imports.

    Args:
        hash_seed: of its strings. Two with different ones iterate sets in different orders, as real processes do.
    """

    def __init__(self, hash_seed: int) -> None:
        paths = os.pathsep.join(path for path in sys.path if path)
        environ = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": str(hash_seed)}
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
        self._server = subprocess.Popen(  # our own module
            [sys.executable, "-m", "flowkit_testing.real_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environ,
            text=True,
        )

    def start(self, order: Order) -> int:
        """Make a process; returns its id."""
        return int(self._ask(f"start {text_of(order)}"))

    def wait(self, pid: int) -> int:
        """Wait until a process stands still or has ended; returns its status, as `os.waitpid` does."""
        return int(self._ask(f"wait {pid}"))

    def go_on(self, pid: int) -> None:
        """Let a process go on that stands still."""
        self._ask(f"go-on {pid}")

    def _ask(self, question: str) -> str:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        try:
            self._server.stdin.write(question + "\n")
            self._server.stdin.flush()
            answer = self._server.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._said.seek(0)
            raise RuntimeError(f"the real tier has lost its processes: {self._said.read().decode(errors='replace')}")
        return answer

    def close(self) -> None:
        """End it, and all that it has made."""
        self._server.communicate()
        self._said.close()


class Processes:
    """Where the real tier takes its processes from.

    Those that take a run up are copies of another one than those that began it: nothing that processes differ in by
    nature is the same in both.

    Args:
        folder: for what they report.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first = Forks(1)
        self.others = Forks(2)
        self._reports = 0

    def next_report(self) -> str:
        """A path that no other process writes to."""
        self._reports += 1
        return str(self.folder / f"{self._reports}.json")

    def close(self) -> None:
        """End them all."""
        self.first.close()
        self.others.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
