"""What commands print, and where to."""

from __future__ import annotations

import io
import sys

import pytest

from flowkit.cli.output import one_line, quiet_stdout


@pytest.mark.parametrize("stdout", [None, io.StringIO()])
def test_quiet_without_a_real_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stdout: io.StringIO | None
) -> None:
    """Where stdout is closed, or no file, only what Python itself prints is sent to stderr."""
    monkeypatch.setattr(sys, "__stdout__", stdout)
    with quiet_stdout(wanted=True):
        print("a word")  # noqa: T201  # that is what a task would do
    assert capsys.readouterr() == ("", "a word\n")


def test_long_lists_are_cut_off() -> None:
    """A list in a sentence ends after a dozen, with how many there are more."""
    assert one_line(["a", "b"]) == "a, b"
    assert one_line([str(n) for n in range(20)], most=3) == "0, 1, 2, ... (17 more)"
