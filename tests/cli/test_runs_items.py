"""`flowkit runs items`: what a run has told, and tells while it goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flowkit.cli.loading import load_task
from flowkit.flow import Flow

Call = Callable[..., Any]
MAIN = "from flowkit.cli import main; main()"
LIVE = """
from flowkit import emit, task, wait_for_event

@task(id="cli-live")
def live() -> None:
    emit("early")
    wait_for_event("go")
    emit("late")
"""


def test_items_of_a_run(flowkit: Call, shop: str) -> None:
    """A line for each item: its number, its time, what it is."""
    flowkit("run", f"{shop}:nothing", "--run-id", "n")
    lines = flowkit("runs", "items", "n").out.splitlines()
    assert [line.split()[-1] for line in lines] == ["succeeded"]


def test_items_as_json_lines(flowkit: Call, shop: str) -> None:
    """With --json each line is a document; --after goes on behind an item; --follow ends when the run has ended."""
    flowkit("run", f"{shop}:refuse", "--input", '"no"', "--run-id", "r")
    lines = [json.loads(line) for line in flowkit("runs", "items", "r", "--json", "--follow").out.splitlines()]
    assert [(line["type"], line["name"]) for line in lines] == [("status", "running"), ("status", "failed")]
    assert lines[-1]["data"] == {"error": "Refused: no"}
    after = flowkit("runs", "items", "r", "--json", "--after", str(lines[0]["seq"])).out
    assert [json.loads(line) for line in after.splitlines()] == lines[1:]


def test_items_are_followed_live(write: Callable[[str, str], Path], tmp_path: Path) -> None:
    """With --follow an item is printed while its run still goes on, also into a pipe; the run's end ends it."""
    file = write("live.py", LIVE)
    url = f"disk:{tmp_path / 'state'}?durability=process"
    words = [
        "runs",
        "items",
        "live",
        "--follow",
        "--json",
        "--storage",
        url,
    ]
    with Flow(url) as flow, (tmp_path / "told").open("w+") as told:
        flow.start(load_task(f"{file}:live").options(run_id="live"))
        command = [sys.executable, "-c", MAIN, *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told, text=True) as follower:
            assert follower.stdout is not None
            lines = [follower.stdout.readline() for _ in range(3)]
            assert not flow.handle("live").status().finished
            flow.send_event("live", "go")
            lines += follower.stdout
        told.seek(0)
        assert (follower.returncode, told.read()) == (0, ""), lines
    seen = [json.loads(line) for line in lines]
    names = [(line["type"], line["name"]) for line in seen if line["name"] not in {"waiting", "running"}]
    assert names == [("emit", "early"), ("emit", "late"), ("status", "succeeded")]


def test_items_of_no_run(flowkit: Call) -> None:
    """A run that is not there is an error with an exit code."""
    ended = flowkit("runs", "items", "nobody", "--json")
    assert ended.code != 0
    [line] = ended.out.splitlines()  # as each item would have been
    assert "nobody" in json.loads(line)["error"]["message"]
