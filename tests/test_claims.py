"""Each claim of the harness stands beside tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "what-the-harness-shows.md").read_text()
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_the_test_is_there(file: str, test: str) -> None:
    """A test that was renamed or is gone shows nothing any more."""
    found = [path.read_text() for path in (ROOT / "tests").rglob(file)]
    assert any(re.search(rf"(?:def|class) {test}\b", text) for text in found)


def test_each_claim_names_one() -> None:
    """A row without a test is a wish; what cannot be shown is struck out, with its reason."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| Claim", "| ---"))]
    assert len(rows) > 20
    assert [row for row in rows if "::" not in row.split("|")[2]] == []
    struck = [block for block in PAGE.split("\n\n") if block.startswith("~~")]
    assert struck
    assert all(len(block.rpartition("~~")[2].split()) > 10 for block in struck)
