"""`flowkit runs`: lists, and what changes a run's course."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowkit.cli.tables import WIDTH_ELSEWHERE, console
from flowkit.cli.times import seconds_text
from flowkit.flow import Flow
from flowkit.records import NewRun, RunStatus

Call = Callable[..., Any]
ORDER = json.dumps({"order": {"id": "a"}})


# ---- list -----------------------------------------------------------------------------------------------------------


def test_list_shows_runs_newest_first(flowkit: Call, shop: str) -> None:
    """The table has a line for each run, with its task, status, and what there is to remark."""
    flowkit("run", f"{shop}:process", "--input", ORDER, "--run-id", "first")
    flowkit("run", f"{shop}:refuse", "--input", '"no"', "--run-id", "second")
    lines = [line.rstrip() for line in flowkit("runs", "list").out.splitlines()]
    assert lines[0].split() == ["run", "task", "status", "created", "took", "recorded", "remarks"]
    assert lines[1].split()[:3] == ["second", "shop-refuse", "failed"]
    assert lines[2].split()[:3] == ["first", "shop-order", "succeeded"]
    assert lines[2].endswith("#shop")


def test_list_as_json_pages(flowkit: Call, shop: str) -> None:
    """A page holds --limit runs and the cursor of the next."""
    for number in range(3):
        flowkit("run", f"{shop}:nothing", "--run-id", f"n{number}")
    first = flowkit("runs", "list", "--limit", "2", "--json").json
    assert [run["run_id"] for run in first["runs"]] == ["n2", "n1"]
    rest = flowkit("runs", "list", "--cursor", first["cursor"], "--json").json
    assert ([run["run_id"] for run in rest["runs"]], rest["cursor"]) == (["n0"], None)
    assert f"--cursor {first['cursor']}" in flowkit("runs", "list", "--limit", "2").out


def test_list_narrows(flowkit: Call, shop: str) -> None:
    """--status, --task and --tag narrow the list; an empty one says so."""
    flowkit("run", f"{shop}:process", "--input", ORDER, "--run-id", "o")
    flowkit("run", f"{shop}:refuse", "--input", '"no"', "--run-id", "r")

    def ids(*options: str) -> list[str]:
        return [run["run_id"] for run in flowkit("runs", "list", *options, "--json").json["runs"]]

    assert ids("--status", "failed") == ["r"]
    assert ids("--task", "shop-order") == ids("--tag", "shop") == ["o"]
    assert flowkit("runs", "list", "--status", "blocked").out == "no runs\n"
    assert flowkit("runs", "list", "--status", "asleep").code == 2


def test_list_marks_runs_of_unknown_tasks(flowkit: Call, shop: str, flow: Flow) -> None:
    """With --app, a run that waits for code which has its task is marked."""
    flow.engine.create(NewRun("lost", "nobodys-task", b"{}", queue="slow", priority=1))
    flowkit("run", f"{shop}:leave", "--run-id", "known")
    out = flowkit("runs", "list", "--app", shop).out
    [lost] = [line for line in out.splitlines() if line.startswith("lost")]
    [known] = [line for line in out.splitlines() if line.startswith("known")]
    assert lost.rstrip().endswith("unknown task, queue slow")
    assert "unknown" not in known
    found = flowkit("runs", "list", "--app", shop, "--json").json["runs"]
    assert {run["run_id"]: run["task_known"] for run in found} == {"lost": False, "known": True}


def test_list_remarks(flowkit: Call, flow: Flow) -> None:
    """What a run waits for, that it was asked to stop, and whose child it is, stand in the remarks."""
    flow.engine.create(NewRun("later", "t", b"{}", start_at_ms=flow.engine.clock.now_ms() + 3_600_000))
    flow.engine.create(NewRun("child", "t", b"{}", parent="later"))
    flow.cancel("child")
    out = flowkit("runs", "list").out
    assert "due in 1h" in out
    assert "cancel asked, child of later" in out


def test_list_is_wide_enough_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the table takes its width from there, elsewhere it is wide enough for a log."""
    assert console().width == WIDTH_ELSEWHERE
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "77")
    assert console().width == 77


# ---- cancel, retry, fork, prune -------------------------------------------------------------------------------------


def test_cancel(flowkit: Call, shop: str, flow: Flow) -> None:
    """A run that is under way is asked to stop; one that has ended, or does not exist, is reported, each on its own."""
    flowkit("run", f"{shop}:leave", "--run-id", "going")
    flowkit("run", f"{shop}:nothing", "--run-id", "ended")
    done = flowkit("runs", "cancel", "nowhere", "ended", "going")
    assert done.code == 4
    assert "run going is asked to stop" in done.out
    assert "run 'ended' is succeeded" in done.err
    assert flow.engine.snapshot("going").header.cancel
    as_json = flowkit("runs", "cancel", "ended", "--json")
    assert (as_json.code, as_json.json["exit_code"], as_json.json["runs"][0]["ok"]) == (6, 6, False)
    assert flowkit("runs", "cancel", "going", "--json").json["runs"][0] == {
        "run_id": "going",
        "ok": True,
        "error": None,
    }


def test_retry_reopens(flowkit: Call, shop: str, flow: Flow) -> None:
    """A failed run is reopened; `flowkit run` with its id goes on with it."""
    flowkit("run", f"{shop}:process", "--input", '{"order": {"id": "a"}, "fails": 2}', "--run-id", "o1")
    done = flowkit("runs", "retry", "o1")
    assert (done.code, "go on with: flowkit run ... --run-id o1" in done.out) == (0, True)
    assert flow.handle("o1").status() is RunStatus.PENDING
    assert flowkit("run", f"{shop}:process", "--run-id", "o1").code == 0
    assert flowkit("runs", "retry", "o1").code == 6


def test_fork_reuses_what_came_before(flowkit: Call, shop: str) -> None:
    """A fork has the arguments of the run, and its results before the step named."""
    flowkit("run", f"{shop}:process", "--input", ORDER, "--run-id", "o1")
    done = flowkit("runs", "fork", "o1", "--from-step", "charge", "--new-id", "o2")
    assert done.out == "o2\n"
    again = flowkit("run", f"{shop}:process", "--run-id", "o2", "--json")
    assert (again.json["steps"], again.json["replayed"]) == (1, 1)
    afresh = flowkit("runs", "fork", "o1", "--json").json
    assert (afresh["forked_from"], afresh["entries"], afresh["status"]) == ("o1", 0, "pending")
    assert flowkit("runs", "fork", "o1", "--from-step", "nosuch").code == 2


def test_prune_forgets_finished_runs(flowkit: Call, shop: str) -> None:
    """Runs that finished long enough ago are forgotten, unfinished ones never."""
    flowkit("run", f"{shop}:nothing", "--run-id", "ended")
    flowkit("run", f"{shop}:leave", "--run-id", "going")
    assert "0 finished runs older than 1h forgotten" in flowkit("runs", "prune", "--older-than", "1h").out
    flowkit("run", f"{shop}:nothing", "--run-id", "ended2")
    pruned = flowkit("runs", "prune", "--older-than", "0", "--json").json["pruned"]
    left = {run["run_id"] for run in flowkit("runs", "list", "--json").json["runs"]}
    assert len(left) + pruned == 3
    assert "going" in left
    assert flowkit("runs", "prune", "--older-than", "soon").code == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0000005, "0 µs"),
        (0.0005, "500 µs"),
        (0.25, "250 ms"),
        (59.94, "59.9 s"),
        (60, "1m"),
        (75, "1m 15s"),
        (3600, "1h"),
        (5400, "1h 30m"),
        (93_600, "1d 2h"),
        (172_800, "2d"),
    ],
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    """A duration is told in the one or two units that matter."""
    assert seconds_text(seconds) == text


def test_code_that_prints_while_imported_leaves_stdout_alone(flowkit: Call, write: Callable[[str, str], Path]) -> None:
    """With --json, what --app code prints while it is imported goes to stderr."""
    file = write("chatty.py", "print('hello')\n")
    assert flowkit("runs", "list", "--app", str(file), "--json").json == {"runs": [], "cursor": None}
