"""A durable step beside the one of DBOS, the other library that needs no server, on the same disk in the same run.

    nox -s compare

Both keep their runs in SQLite files in one folder and take turns; DBOS as it comes, flowkit at each of its levels.
"""

from __future__ import annotations

import importlib
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from flowkit import Flow, step, task

STEPS = 100
ROUNDS = 9
RunSteps = Callable[[int], object]


def plus_one(number: int) -> int:
    """The least that a step can do."""
    return number + 1


increment = step(plus_one)


@task
def count(steps: int) -> int:
    """So many steps, one after the other."""
    number = 0
    for _ in range(steps):
        number = increment(number)
    return number


@contextmanager
def flowkit_on(url: str) -> Iterator[RunSteps]:
    """The workflow in flowkit."""
    with Flow(url, worker=False) as flow:
        yield lambda steps: flow.run(count, steps)


@contextmanager
def dbos_in(folder: Path) -> Iterator[RunSteps]:
    """The same workflow in DBOS."""
    dbos: Any = importlib.import_module("dbos").DBOS
    url = f"sqlite:///{folder / 'dbos.sqlite'}"
    dbos(config={"name": "compare", "system_database_url": url, "log_level": "ERROR", "run_admin_server": False})
    theirs = dbos.step()(plus_one)

    @dbos.workflow()  # type: ignore[untyped-decorator]  # it is not there when types are checked
    def count_there(steps: int) -> int:
        number = 0
        for _ in range(steps):
            number = theirs(number)
        return number

    dbos.launch()
    try:
        yield count_there
    finally:
        dbos.destroy()


def a_step(run: RunSteps) -> tuple[float, float]:
    """Milliseconds of a step, and of a run of one step."""
    began = time.perf_counter()
    run(1)
    one = time.perf_counter() - began
    began = time.perf_counter()
    run(1 + STEPS)
    return 1e3 * (time.perf_counter() - began - one) / STEPS, 1e3 * one


def main() -> int:
    """Measure, and print a table."""
    logging.disable()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=".")))
        subjects = {
            "flowkit, durability=disk (default)": stack.enter_context(flowkit_on(f"disk:{folder / 'disk'}")),
            "flowkit, durability=process": stack.enter_context(
                flowkit_on(f"disk:{folder / 'process'}?durability=process")
            ),
            "DBOS on SQLite (default)": stack.enter_context(dbos_in(folder)),
        }
        for run in subjects.values():
            run(2)
        rounds = [{name: a_step(run) for name, run in subjects.items()} for _ in range(ROUNDS)]
    sys.stdout.write(f"{'ms, median of ' + str(ROUNDS):<36}{'a step':>10}{'a run of one':>15}\n")
    for name in subjects:
        of_a_step, of_a_run = (statistics.median(one[name][which] for one in rounds) for which in (0, 1))
        sys.stdout.write(f"{name:<36}{of_a_step:>10.3f}{of_a_run:>15.3f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
