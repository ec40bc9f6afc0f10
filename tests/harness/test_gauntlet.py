"""Engines and storages that are broken on purpose, one fault each: exploring a small workflow finds every one.

The table in `docs/prove-your-workflow.md` says which check has found which; `python -m tests.harness.test_gauntlet`
prints it anew.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from flowkit.memory import MemoryStorage
from flowkit_testing import Harness
from flowkit_testing.checks import TEXTS, Check
from tests.harness.gauntlet.table import ALL, Broken

PAGE = Path(__file__).parents[2] / "docs" / "prove-your-workflow.md"
BEGIN, END = "<!-- gauntlet -->\n", "<!-- end of gauntlet -->"
EXPLORED = {" ".join((broken.task.id, *broken.faults, *broken.failing)): broken for broken in ALL}


@pytest.mark.parametrize("broken", ALL, ids=str)
def test_is_caught(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exploring one small workflow is enough to see it, and the table says which check has seen it."""
    found = broken.explore(monkeypatch)
    with pytest.raises(AssertionError, match="is not safe"):
        found.assert_safe()
    assert broken.row(found) in PAGE.read_text().splitlines()


@pytest.mark.parametrize("broken", EXPLORED.values(), ids=EXPLORED.keys())
def test_healthy(broken: Broken) -> None:
    """The same workflows, explored in the same ways, are safe where nothing is broken."""
    harness = Harness(MemoryStorage())
    try:
        broken.explored_by(harness).assert_safe(min_coverage=0.0)
    finally:
        harness.close()


def test_every_check_has_found_something() -> None:
    """A check that finds nothing would prove nothing; that of the world has tests of its own."""
    rows = [row for row in _table() if row.startswith(("| storage", "| engine"))]
    found = {int(number) for row in rows for number in re.findall(r"\d+", row.rsplit("|", 2)[1])}
    assert found == set(Check) - {Check.WORLD}
    assert len(rows) == len(ALL) >= 20
    assert set(TEXTS) == set(Check)


def test_each_breaks_a_rule() -> None:
    """What is broken breaks a rule of the guarantees, and nearly all that a fault can break are among them."""
    broken = {rule for each in ALL for rule in re.findall(r"\(([DIRGWEX][1-9])\)\.$", each.what.__doc__)}
    assert broken >= {"D1", "D2", "D3", "D4", "D5", "D7", "E1", "E2", "E3", "E4", "E5", "G1", "G2", "G3"}
    assert broken >= {"I4", "I6", "R2", "R3", "R4", "W4", "X1", "X2", "X3"}
    assert all(re.search(r" \([DIRGWEX][1-9]\)\.$", each.what.__doc__) for each in ALL)


def _table() -> list[str]:
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0].splitlines()


def _print_table() -> None:
    print("| What is broken | Its name | What it does, and the rule that it breaks | Checks that find it |")  # noqa: T201  # a script's output
    print("| --- | --- | --- | --- |")  # noqa: T201  # as above
    for broken in ALL[int((sys.argv[1:] or ["0"])[0]) :]:
        with pytest.MonkeyPatch.context() as patch:
            print(broken.row(broken.explore(patch)), flush=True)  # noqa: T201  # as above


if __name__ == "__main__":
    _print_table()
