"""The long form of the archive's test: the interpreter's own library folder, killed 20 times at random moments.

Not collected by default, for it takes minutes: `nox -s demo`, or `pytest tests/soak/soak_archive.py -s`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

KILLS = 20
FEWEST_FILES = 1000


@pytest.mark.timeout(3600)
def test_library_folder_survives_twenty_kills(tmp_path: Path) -> None:
    """Thousands of real files, 20 kills: each file is stored once and whole, no completed step ran again."""
    script = Path(__file__).parents[1] / "examples" / "kill_archive.py"
    library = str(Path(sysconfig.get_path("stdlib")) / "test")  # some four thousand files of all sizes
    command = [sys.executable, str(script), library, str(tmp_path / "archive"), "--kills", str(KILLS)]
    ended = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    assert ended.returncode == 0
    found = json.loads(ended.stdout)
    assert found["kills"] == KILLS
    assert found["files"] >= FEWEST_FILES
    assert found["again"] <= KILLS
