"""The page "Prove your workflow": its tests pass as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flowkit_testing.checks import TEXTS

pytest_plugins = ("pytester",)
PAGE = Path(__file__).parents[2] / "docs" / "prove-your-workflow.md"


def test_the_page_is_a_test_file(pytester: pytest.Pytester) -> None:
    """Its blocks, put into one file, are four tests that pass."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    pytester.makepyfile("\n".join(blocks))
    pytester.makeini("[pytest]")  # what is configured above it is not for it, wherever temporary files are
    ended = pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:asyncio")  # another test knows its ids
    ended.assert_outcomes(passed=4)


def test_the_page_lists_the_checks() -> None:
    """The fourteen, in the words of the code."""
    page = PAGE.read_text().replace("`", "").replace("\n   ", "")
    for check, text in TEXTS.items():
        assert f"{int(check)}. {text.replace('`', '')}" in page
