"""What `import flowkit` costs, and that it loads nothing optional."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.bench.measure import Samples, by_turns
from tests.bench.plugin import Judge

TIMED = "import time; began = time.perf_counter(); import flowkit; print(time.perf_counter() - began)"
OPTIONAL = {"click", "diskcache", "opentelemetry", "pytest", "redis", "rich", "valkey"}
LOADED = "import sys; import flowkit; print(*sys.modules)"


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[[str], str]:
    """Runs code in a fresh interpreter that keeps compiled modules, as one on an installed package does."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(code: str) -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout

    return run


def test_import(run_python: Callable[[str], str], benchmark: BenchmarkFixture, judge: Judge) -> None:
    """Importing flowkit takes little time; what the interpreter itself takes is not counted."""
    import_s: list[float] = []
    measured = by_turns(
        benchmark,
        lambda: import_s.append(float(run_python(TIMED))),
        lambda: run_python("print(0)"),
        rounds=15,
    )
    judge("import flowkit", Samples(import_s[-15:], measured.bare))


def test_import_loads_nothing_optional(run_python: Callable[[str], str]) -> None:
    """What only some users need is loaded by what needs it."""
    loaded = {name.partition(".")[0] for name in run_python(LOADED).split()}
    assert not loaded & OPTIONAL
