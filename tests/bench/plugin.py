"""Collects the results of the benchmarks, prints them as one table, and keeps them when asked to.

`nox -s bench` loads it with `-p`; the default tests know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.bench.measure import Samples
from tests.bench.metrics import METRICS, Within
from tests.bench.table import Row, as_text, keep, read_baseline

Judge = Callable[[str, Samples], None]

_ROWS = pytest.StashKey[list[Row]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the bench session."""
    group = parser.getgroup("flowkit benchmarks")
    group.addoption(
        "--flowkit-absolute",
        action="store_true",
        help="hold the limits in µs and ms too, which mean little on another machine or a busy one",
    )
    group.addoption(
        "--flowkit-record", action="store_true", help="keep these numbers as the baseline and in docs/benchmarks.md"
    )


def pytest_configure(config: pytest.Config) -> None:
    """No results yet."""
    config.stash[_ROWS] = []


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Judge:
    """Writes a result into the table and holds it to its limit."""

    def write(name: str, samples: Samples) -> None:
        metric = METRICS[name]
        limit = metric.limit
        by_itself = limit is None or isinstance(limit, Within)
        row = Row(metric, *(samples.least if by_itself else samples.medians)(metric.ratio))
        request.config.stash[_ROWS].append(row)
        if limit is None or (isinstance(limit, Within) and not request.config.getoption("--flowkit-absolute")):
            return
        told = f"{name}: {row.flowkit * 1e6:,.1f} µs, ratio {row.ratio:.2f}; the limit is {limit.text()}"
        assert row.ok, told

    return write


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table, and keep it if that was asked for."""
    rows = config.stash[_ROWS]
    if not rows:
        return
    terminalreporter.section(
        "medians of ratios against the bare store in the same run; the least of all rounds where nothing is compared"
    )
    for line in as_text(rows, read_baseline()):
        terminalreporter.write_line(line)
    if config.getoption("--flowkit-record"):
        if len(rows) < len(METRICS):
            terminalreporter.write_line(f"not recorded: {len(METRICS) - len(rows)} metrics are missing")
            return
        keep(rows)
        terminalreporter.write_line("recorded as the baseline and in docs/benchmarks.md")
