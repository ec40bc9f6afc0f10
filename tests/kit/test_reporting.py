"""What explorations found, shown to people: in the terminal, as a page, and for machines."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from flowkit_testing import reporting
from flowkit_testing.exploration import Exploration, Tried, Violation
from flowkit_testing.matrix import matrix_from, matrix_of, place_of, total
from flowkit_testing.matrix_html import page_of
from flowkit_testing.matrix_text import print_matrices
from flowkit_testing.points import Fault, Injury, Point

pytest_plugins = ("pytester",)

FILE = """
    from flowkit import step, task

    seen = {}

    @step
    def reserve(order):
        return f"reserved {order}"

    @step
    def remember(order):
        seen["it"] = order
        return order

    @task(id="safe")
    def safe(order):
        return reserve(order)

    @task(id="forgetful")
    def forgetful(order):
        seen.clear()
        remember(order)
        return reserve(seen.get("it"))

    @task(id="doubtful", attempts=1)
    def doubtful(order):
        reserve(order)
        raise ValueError(order)

    def test_safe(harness):
        harness.explore(safe, "<7>").assert_safe()
        harness.explore(doubtful, "<7>").assert_safe()

    def test_forgetful(harness):
        harness.explore(forgetful, "<7>").assert_safe()
"""


def injury(what: str, when: str = "before", fault: Fault = "crash") -> Injury:
    """A fault at a point."""
    return Injury(fault, Point(what, "before" if when == "before" else "after"))


@pytest.mark.parametrize(
    ("one", "row", "column"),
    [
        (injury("run-1: invoke charge (2), attempt 1"), "charge (2)", "before effect"),
        (injury("run-1: record step charge (2) done", "after"), "charge (2)", "after commit"),
        (injury("run-1: record undo charge (2~undo) done"), "undo of charge (2)", "before commit"),
        (injury("run-1: invoke a step (with words) (2)"), "a step (with words) (2)", "before effect"),
        (injury("run-1: pause sleep (3)", "after"), "sleep (3)", "after wait"),
        (injury("run-1: body"), "the run itself", "before body"),
        (injury("charge", fault="fail"), "charge", "step fails"),
        (injury("run-1: end finish", "after"), "the run itself", "after end"),
        (injury("run-1/2: body"), "the run itself of run-1/2", "before body"),
        (injury("storage: commit", fault="lost_ack"), "storage: commit", "answer lost"),
        (injury("run-1: invoke x (1), attempt 2", fault="lease"), "x (1)", "lease lost"),
    ],
)
def test_where_a_fault_stands(one: Injury, row: str, column: str) -> None:
    """Steps by what was done to them: each point has one place in the matrix."""
    assert place_of(one) == (row, column)


def found() -> Exploration:
    """An exploration with something of everything."""
    effect, commit = injury("run-1: invoke charge (2), attempt 1"), injury("run-1: record step charge (2) done")
    tried = [
        Tried((), "passed"),
        Tried((effect,), "equal"),
        Tried((effect,), "failed"),
        Tried((commit,), "passed"),
        Tried((injury("storage: commit"),), "not reached"),
    ]
    violation = Violation((effect,), ("G1: <b>wrong</b>",), ("run-1: charge began",))
    return Exploration("checkout", 4, 3, tried=tried, violations=[violation])


def test_the_worst_of_a_place_is_shown() -> None:
    """One failure among passes is a failure; a pass among equal states is a pass."""
    matrix = matrix_of(found())

    assert matrix.rows == ("charge (2)", "storage: commit")
    assert matrix.columns == ("before effect", "before commit", "before call")
    assert matrix.cells["charge (2)"]["before effect"].verdict == "failed"
    assert matrix.cells["charge (2)"]["before effect"].schedules == 2
    assert total([matrix, matrix]) == {
        "passed": 4, "failed": 2, "equal": 2, "not reached": 2, "not tried": 0
    }  # fmt: skip


def test_a_token_stays_on_one_line() -> None:
    """However long it is and however narrow the terminal: it is to be copied."""
    exploration = found()
    exploration.violations[0] = Violation(
        tuple(injury(f"run-1: invoke step-{n} ({n}), attempt 1") for n in range(9)), ()
    )
    written = io.StringIO()

    print_matrices(Console(file=written, width=60), [matrix_of(exploration)])

    assert f"    --flowkit-replay={exploration.violations[0].token}\n" in written.getvalue()


def test_a_matrix_survives_being_sent() -> None:
    """It reaches the process that reports as it was."""
    matrix = matrix_of(found(), "test_it")

    assert matrix_from(json.loads(json.dumps(matrix.to_json()))) == matrix


def test_the_page_needs_nothing_else() -> None:
    """No script, no font, no image, no address; what workflows say is text in it."""
    page = page_of([matrix_of(found())])

    assert not re.search(r"<script|<link|<img|@import|@font-face|url\(|https?:", page)
    assert "&lt;b&gt;wrong&lt;/b&gt;" in page
    assert "<b>wrong</b>" not in page
    assert "--flowkit-replay=fk1-" in page
    assert page.count("<section") == 1


def test_at_the_end_of_a_session(pytester: pytest.Pytester, tmp_path: Path) -> None:
    """Matrices in the terminal, a page, and properties in JUnit's XML, also from other processes."""
    pytester.makeini(
        "[pytest]\nasyncio_default_fixture_loop_scope = function"
    )  # names are short, wherever temporary files are
    pytester.makepyfile(test_it=FILE)
    page, xml = tmp_path / "report.html", tmp_path / "junit.xml"
    result = pytester.runpytest_subprocess(
        "-n2", f"--flowkit-report=terminal,{page}", f"--junit-xml={xml}", "--tb=no", "-o", "junit_family=xunit1"
    )

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["forgetful on memory*test_forgetful", "*--flowkit-replay=fk1-*", "safe on memory*", "reserve (1)*●*",
         "*3 explorations:*passed*failed*", f"written to {page}"]
    )  # fmt: skip
    assert "forgetful" in page.read_text("utf-8")
    properties = [node.get("value", "") for node in ET.parse(xml).iter("property")]  # noqa: S314  # pytest wrote it
    assert any("safe: safe;" in value for value in properties)


def test_only_what_failed_unless_asked(pytester: pytest.Pytester) -> None:
    """Without the option a session ends with one line, and the matrix of what is broken."""
    pytester.makeini(
        "[pytest]\nasyncio_default_fixture_loop_scope = function"
    )  # names are short, wherever temporary files are
    pytester.makepyfile(test_it=FILE)
    result = pytester.runpytest("--tb=no", "-p", "no:randomly")

    result.stdout.fnmatch_lines(
        ["forgetful on memory*", "*3 explorations:*", "to look at: doubtful: without any fault the run ends as*<7>*"]
    )
    result.stdout.no_fnmatch_line("safe on memory*")


def test_nonsense_is_refused(pytester: pytest.Pytester) -> None:
    """A report goes to the terminal or to a page."""
    result = pytester.runpytest("--flowkit-report=report.pdf")
    result.stderr.fnmatch_lines(["*--flowkit-report=report.pdf: write `terminal`, the name of an .html file, or both*"])


def test_a_page_that_nothing_could_make_is_refused_at_once(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without jinja2 a page is refused before any test has run, with the remedy."""
    pytester.makepyfile("def test_it(): raise AssertionError")
    monkeypatch.setattr(reporting, "find_spec", lambda _name: None)
    result = pytester.runpytest_inprocess("--flowkit-report=page.html", "-p", "no:randomly")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--flowkit-report=page.html needs jinja2: pip install*"])


def test_the_kit_says_what_it_needs() -> None:
    """Without pytest, who imports the kit is told how to get it."""
    code = """
import sys
sys.modules["pytest"] = None
import importlib.util
importlib.util.find_spec = lambda name: None
import flowkit_testing
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert found.stderr.strip().endswith("needs pytest: pip install 'flowkit-durable[testing]'")
