"""What `import flowkit` costs, and that it loads nothing optional."""

from __future__ import annotations

import subprocess
import sys

from pytest_benchmark.fixture import BenchmarkFixture

from tests.bench.measure import Samples, by_turns
from tests.bench.plugin import Judge

TIMED = "import time; began = time.perf_counter(); import flowkit; print(time.perf_counter() - began)"
OPTIONAL = {"click", "diskcache", "opentelemetry", "pytest", "redis", "rich", "valkey"}
LOADED = "import sys; import flowkit; print(*sys.modules)"


def run_python(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_import(benchmark: BenchmarkFixture, judge: Judge) -> None:
    """Importing flowkit takes little time; what the interpreter itself takes is not counted."""
    import_s: list[float] = []
    measured = by_turns(
        benchmark,
        lambda: import_s.append(float(run_python(TIMED))),
        lambda: run_python("print(0)"),
        rounds=15,
    )
    judge("import flowkit", Samples(import_s[-15:], measured.bare))


def test_import_loads_nothing_optional() -> None:
    """What only some users need is loaded by what needs it."""
    loaded = {name.partition(".")[0] for name in run_python(LOADED).split()}
    assert not loaded & OPTIONAL
