"""`flowkit runs show --export` and `flowkit runs check`: would this release break what is under way?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flowkit.flow import Flow
from flowkit.recording import read
from flowkit.records import RunStatus, Snapshot

RELEASE = """
import sys
from flowkit import step, task

@step
def reserve(order): return f"reserved {order}"

@step
def charge(order): return f"charged {order}"

@task(id="order", attempts=1)
def order(number):
    reserve(number)
    %s
    return charge(number)
"""
STOPS = "sys.exit(9)"  # the process goes, the run stays
OUTSIDE = "import flowkit.cli; flowkit.cli.main()"


def flowkit(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own, so that it sees the code as it is now."""
    command = [sys.executable, "-c", OUTSIDE, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def stored(folder: Path) -> list[Snapshot]:
    """All unfinished runs of the storage."""
    with Flow(f"disk:{folder / '.flowkit'}", worker=False) as flow:
        return [flow.engine.load(header.run_id) for header in flow.runs() if not header.status.finished]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a run that has recorded a step, and one of a task that no code has."""
    code = tmp_path / "shop.py"
    code.write_text(RELEASE % STOPS)
    flowkit(tmp_path, "run", "shop.py:order", "--input", "7", "--run-id", "o7")
    code.write_text((RELEASE % STOPS).replace('id="order"', 'id="gone"'))
    flowkit(tmp_path, "run", "shop.py:gone", "--input", "8", "--run-id", "g8")
    return tmp_path


def test_a_release_is_checked(folder: Path) -> None:
    """I3: which runs would be blocked is told before any of them is, by exit code too, and nothing is changed."""
    before = [(run.header, run.entries, run.inbox) for run in stored(folder)]
    assert [header.run_id for header, *_ in before] == ["g8", "o7"]

    (folder / "shop.py").write_text(RELEASE % "pass")
    good = flowkit(folder, "runs", "check", "shop.py", "--all")
    (folder / "shop.py").write_text((RELEASE % "pass").replace("reserve(number)", ""))
    bad = flowkit(folder, "runs", "check", "shop.py", "--json")

    assert good.returncode == 0, good.stderr
    assert "run 'o7' of task 'order' is fine, goes on with invoke charge" in good.stdout
    assert "2 unfinished runs: 0 would break, 1 are fine" in good.stderr
    assert "1 are of tasks that this code does not have: gone" in good.stderr
    assert bad.returncode == 1
    verdicts = {run["run_id"]: run["verdict"] for run in json.loads(bad.stdout)["runs"]}
    assert verdicts == {"o7": "blocked", "g8": "unknown"}
    assert [(run.header, run.entries, run.inbox) for run in stored(folder)] == before


def test_a_run_is_exported(folder: Path) -> None:
    """The file holds the run as the storage does."""
    told = flowkit(folder, "runs", "show", "o7", "--export", "o7.json")

    assert told.returncode == 0, told.stderr
    (run,) = [run for run in stored(folder) if run.header.run_id == "o7"]
    exported = read((folder / "o7.json").read_text("utf-8"))
    assert (exported.header, exported.entries, exported.input) == (run.header, run.entries, run.input)
    assert exported.header.status is not RunStatus.SUCCEEDED
