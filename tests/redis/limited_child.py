"""A worker in a process of its own whose tasks have limits. Arguments: URL and folder."""

import os
import sys
import time
from pathlib import Path

from flowkit import Concurrency, Flow, step, task

FOLDER = Path(sys.argv[2]) if len(sys.argv) > 2 else Path()
PLACES = 3


def now_ns() -> int:
    """The time of this machine, the same in all processes."""
    return time.monotonic_ns()


def mark(what: str, limit: str, run: str) -> None:
    """Write a line that survives this process, at once."""
    with (FOLDER / "marks").open("a") as file:
        file.write(f"{what} {limit} {run} {os.getpid()} {now_ns()}\n")


@step
def hold(limit: str, run: str) -> None:
    """Keep a place for a moment, and as long as a file is there."""
    mark("begin", limit, run)
    time.sleep(0.01)
    while (FOLDER / "closed").exists():
        time.sleep(0.005)
    mark("end", limit, run)


@step
def double(number: int) -> int:
    """A step of no account."""
    return 2 * number


@task(id="limited-task", concurrency=PLACES)
def task_limit(name: str, queue: str) -> None:
    """One of so many at a time, in each queue."""
    hold(f"task:{queue}", name)


def customer_of(name: str, customer: str) -> str:
    """The key of a run."""
    del name
    return customer


@task(id="limited-key", concurrency=Concurrency(1, key=customer_of))
def key_limit(name: str, customer: str) -> None:
    """One at a time of each customer."""
    hold(f"key:{customer}", name)


def main() -> None:
    """Work until told to stop."""
    with Flow(sys.argv[1], lease="3s", worker=False) as flow:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        flow.worker(queues=["default", "other"], concurrency=8).run()


if __name__ == "__main__":
    main()
