"""D1, G3, X1: what only a process that is really killed can show."""

from functools import partial
from pathlib import Path

import pytest

from flowkit_testing import Harness
from flowkit_testing.for_real import confirm_for_real
from tests.promises import bookings


@pytest.fixture
def _killed_for_real(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `--flowkit-real` does, for the harness that is made after it; a few processes will do."""
    monkeypatch.setattr(pytestconfig.option, "flowkit_real", True)
    monkeypatch.setattr("flowkit_testing.harness.confirm_for_real", partial(confirm_for_real, most=4))


@pytest.mark.usefixtures("_killed_for_real")
def test_nothing_is_lost_with_a_process(harness: Harness, tmp_path: Path) -> None:
    """D1: nor done twice, nor undone twice (D2, G3, X1): SIGKILL, SIGSTOP, and a process that goes on from disk."""
    file = tmp_path / "world"
    file.touch()
    found = harness.explore(
        bookings.trip_undone,
        str(file),
        faults=("crash", "lease"),
        world=lambda: bookings.lines(str(file)),
        reset=lambda: file.write_text("", "utf-8"),
    )
    found.assert_safe()
    assert found.real > 0
