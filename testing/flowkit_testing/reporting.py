"""What explorations have found, at the end of a test session: in the terminal, as a page, and in JUnit's XML."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from flowkit_testing.exploration import Exploration
from flowkit_testing.matrix import Matrix, matrix_from, matrix_of, total
from flowkit_testing.matrix_html import page_of

explorations_key = pytest.StashKey[list[tuple[str, Exploration]]]()  # each with the storage that it was on
_WIDTH = 120  # a matrix that is cut off tells nothing; one that is wrapped can still be read
_MOST_DOUBTS = 5
_ATTRIBUTE = "flowkit_explorations"  # of a test report: plain data, so that it comes through from any process


class Reporter:
    """Collects the explorations of a session and shows them.

    Args:
        targets: "terminal", and files that end in .html.
    """

    def __init__(self, targets: tuple[str, ...]) -> None:
        self._targets = targets
        self._matrices: list[Matrix] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Hand what a test has explored to whoever reports on it."""
        found = item.stash.get(explorations_key, []) if call.when == "call" else []
        item.user_properties += [("flowkit", f"{exploration!r} ({storage})") for storage, exploration in found]
        report = yield
        setattr(report, _ATTRIBUTE, [matrix_of(each, item.nodeid, storage).to_json() for storage, each in found])
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take it in, from this process or another one."""
        documents: list[dict[str, Any]] = getattr(report, _ATTRIBUTE, [])
        self._matrices += map(matrix_from, documents)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the matrices that were asked for, and those of what failed."""
        if not self._matrices:
            return
        matrices = sorted(self._matrices, key=lambda matrix: (matrix.safe, matrix.test, matrix.task))
        shown = [matrix for matrix in matrices if "terminal" in self._targets or not matrix.safe]
        terminalreporter.section("flowkit")
        if shown:
            terminalreporter.write(_drawn(shown, terminalreporter))
        counts = ", ".join(f"{count} {verdict}" for verdict, count in total(matrices).items() if count)
        terminalreporter.line(f"{len(matrices)} explorations: {counts}")
        for line in _doubts(matrix for matrix in matrices if matrix not in shown):
            terminalreporter.line(line)
        for target in self._targets:
            if target != "terminal":
                Path(target).write_text(page_of(matrices), encoding="utf-8")
                terminalreporter.line(f"written to {target}")


def targets_of(config: pytest.Config) -> tuple[str, ...]:
    """Where `--flowkit-report` wants it.

    Raises:
        pytest.UsageError: it is neither the terminal nor a page, or what makes pages is not installed.
    """
    targets = tuple(name.strip() for name in str(config.getoption("--flowkit-report") or "").split(",") if name.strip())
    for target in targets:
        if target != "terminal" and not target.endswith(".html"):
            raise pytest.UsageError(f"--flowkit-report={target}: write `terminal`, the name of an .html file, or both")
        if target != "terminal" and find_spec("jinja2") is None:  # said before the tests, not after them
            raise pytest.UsageError(
                f"--flowkit-report={target} needs jinja2: pip install 'flowkit-durable[testing]', or write `terminal`"
            )
    return targets


def _doubts(matrices: Iterable[Matrix]) -> list[str]:
    """What somebody should look at, of explorations that are not shown since nothing is wrong with them."""
    lines = list(dict.fromkeys(f"to look at: {matrix.task}: {doubt}" for matrix in matrices for doubt in matrix.doubts))
    more = len(lines) - _MOST_DOUBTS
    return lines if more <= 0 else [*lines[:_MOST_DOUBTS], f"... and {more} more, with --flowkit-report=terminal"]


def _drawn(matrices: list[Matrix], terminalreporter: pytest.TerminalReporter) -> str:
    from rich.console import Console  # noqa: PLC0415  # loaded where something is drawn

    from flowkit_testing.matrix_text import print_matrices  # noqa: PLC0415  # as rich

    marked = terminalreporter._tw.hasmarkup  # noqa: SLF001  # pytest tells it nowhere else
    file = io.StringIO()
    width = max(terminalreporter._tw.fullwidth, _WIDTH)  # noqa: SLF001  # as above
    console = Console(file=file, width=width, force_terminal=marked, color_system="standard" if marked else None)
    print_matrices(console, matrices)
    return file.getvalue()
