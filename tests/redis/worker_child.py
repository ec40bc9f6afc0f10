"""A worker in a process of its own, for tests that kill and freeze it.

Arguments: URL, folder, lease, and by how many seconds this machine's clock is wrong.
"""

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from flowkit import Flow, sleep, step, task
from flowkit.clock import SystemClock

FOLDER = Path(sys.argv[2]) if len(sys.argv) > 2 else Path()
_hanging = threading.Event()  # set in the process whose steps are to hang


class SkewedClock(SystemClock):
    """A machine whose clock is wrong."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def now_ms(self) -> int:
        """The time, and so much more."""
        return super().now_ms() + round(self._seconds * 1000)


def note(text: str) -> None:
    """Write a line that survives this process, at once."""
    with (FOLDER / "effects").open("a") as file:
        file.write(f"{text} {os.getpid()}\n")


@step
def work(run: str, n: int) -> int:
    """An effect that can be counted."""
    note(f"{run}:{n}")
    return n


@task(id="redis-chain")
def chain(run: str, length: int) -> int:
    """Steps one after the other."""
    return sum(work(run, n) for n in range(length))


@step
def hang(run: str) -> str:
    """Take until a file says that it is enough; the first process that comes here hangs, others go through."""
    with suppress(FileExistsError):
        (FOLDER / "waiting").touch(exist_ok=False)  # before it is noted: who reads the note may freeze this process
        _hanging.set()  # also if this process stood still past its lease, and comes here once more
    note(f"{run}:hang")
    if not _hanging.is_set():
        return "through"
    while not (FOLDER / "enough").exists():
        time.sleep(0.005)
    note(f"{run}:late")
    return "late"


@task(id="redis-hanging")
def hanging(run: str) -> str:
    """A step that hangs in the first process that runs it, then another one."""
    how = hang(run)
    work(run, 1)
    return how


@task(id="redis-sleeper")
def sleeper(seconds: float) -> str:
    """A timer."""
    sleep(seconds)
    return "awake"


def main() -> None:
    """Work until told to stop."""
    flow = Flow(sys.argv[1], lease=sys.argv[3], worker=False, clock=SkewedClock(float(sys.argv[4])))
    with flow:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        flow.worker(concurrency=4).run()


if __name__ == "__main__":
    main()
