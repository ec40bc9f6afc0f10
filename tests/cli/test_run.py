"""`flowkit run`: tasks run, resume, fail and are blocked, each with its words and its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from click.testing import Result as CliResult

from flowkit.cli.app import cli
from flowkit.cli.execute import Order
from flowkit.cli.loading import load_task
from flowkit.engine import Engine
from flowkit.errors import StorageError
from flowkit.flow import Flow
from flowkit.records import NewRun, RunStatus

Call = Callable[..., Any]
ORDER = json.dumps({"order": {"id": "a"}})


def test_value_goes_to_stdout_and_progress_to_stderr(flowkit: Call, shop: str) -> None:
    """A run prints its value as JSON, and a line for each step on stderr."""
    ended = flowkit("run", f"{shop}:process", "--input", ORDER, "--run-id", "o1")
    assert ended.code == 0
    assert json.loads(ended.out.removeprefix("a word from the task\n")) == {"reservation": "reserved a", "paid": 10}
    assert "✓ reserve" in ended.err
    assert "run o1 succeeded" in ended.err
    assert "(2 steps)" in ended.err


def test_an_empty_run_id_is_refused(flowkit: Call, shop: str) -> None:
    """`--run-id "$ID"` of a script that has forgotten to set it is no run of its own each time."""
    ended = flowkit("run", f"{shop}:process", "--input", ORDER, "--run-id", "")
    assert ended.code == 2
    assert "--run-id is empty" in ended.err


def test_json_is_all_there_is_on_stdout(flowkit: Call, shop: str) -> None:
    """With --json stdout holds one document, whatever the task prints, and stderr no progress."""
    ended = flowkit("run", f"{shop}:process", "--input", ORDER, "--run-id", "o1", "--json")
    assert ended.json == {
        "run_id": "o1",
        "task": "shop-order",
        "status": "succeeded",
        "value": {"reservation": "reserved a", "paid": 10},
        "error": None,
        "steps": 2,
        "replayed": 0,
        "resume": None,
        "exit_code": 0,
    }
    assert ended.err == "a word from the task\n"


def test_quiet_shows_no_progress(flowkit: Call, shop: str) -> None:
    """With --quiet nothing is told while the run runs, only how it ended."""
    ended = flowkit("run", f"{shop}:process", "--input", ORDER, "--quiet")
    assert "✓ reserve" not in ended.err
    assert "succeeded" in ended.err


def test_json_is_all_there_is_on_stdout_of_the_process(shop: str, tmp_path: Path) -> None:
    """What subprocesses of the task print goes to stderr too, so that a pipe gets the document alone."""
    command = [sys.executable, "-c", "from flowkit.cli import main; main()", "run", f"{shop}:loud", "--json"]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert json.loads(ended.stdout)["value"] == "quiet"
    assert ended.stderr == "printed\nfrom a subprocess\n"


def test_body_that_starts_over_is_told(flowkit: Call, shop: str) -> None:
    """When the task's own code fails and is tried again, that is told; its completed steps do not run again."""
    ended = flowkit("run", f"{shop}:restless")
    assert ended.code == 0
    assert "↻ shop-restless starts over after OSError: not yet" in ended.err
    assert ended.err.count("✓ reserve") == 1


def test_groups_show_each_error(flowkit: Call, shop: str) -> None:
    """A group of errors is shown with each of them, and the error that caused it."""
    ended = flowkit("run", f"{shop}:group")
    assert ended.code == 1
    for words in ("the cause", "ValueError: another", "several (2 sub-exceptions)", "direct cause"):
        assert words in ended.err
    assert "flowkit/drivers.py" not in ended.err


def test_run_without_an_id_gets_one(flowkit: Call, shop: str) -> None:
    """Each run without --run-id is a run of its own."""
    ids = {flowkit("run", f"{shop}:nothing", "--json").json["run_id"] for _ in range(2)}
    assert len(ids) == 2


def test_none_is_not_printed(flowkit: Call, shop: str) -> None:
    """A task that returns nothing leaves stdout empty."""
    assert flowkit("run", f"{shop}:nothing").out == ""


def test_async_task_runs_as_well(flowkit: Call, shop: str) -> None:
    """An async task is run to its end like any other."""
    ended = flowkit("run", f"{shop}:asynchronous", "--input", '{"order": {"id": "a", "count": 3}}')
    assert ended.out == "3\n"
    assert "(1 step)" in ended.err


def test_child_runs_show_their_steps(flowkit: Call, shop: str) -> None:
    """The steps of a task called inside the task are told too."""
    ended = flowkit("run", f"{shop}:parent", "--input", ORDER)
    assert "✓ reserve" in ended.err
    assert "✓ shop-order" in ended.err


def test_retries_are_told(flowkit: Call, shop: str) -> None:
    """An attempt that failed is told with its error, before the one that succeeds."""
    ended = flowkit("run", f"{shop}:process", "--input", '{"order": {"id": "a"}, "fails": 1}')
    assert ended.code == 0
    assert "↻ charge failed, will be tried again: ConnectionError: the bank is away" in ended.err


def test_failure_shows_the_users_lines_and_what_to_do(flowkit: Call, shop: str) -> None:
    """A failed run shows the traceback of the user's code, without flowkit's own lines; exit code 1."""
    ended = flowkit("run", f"{shop}:refuse", "--input", '"no reason"', "--run-id", "r1")
    assert ended.code == 1
    assert "raise Refused(reason)" in ended.err
    assert "shop.Refused: no reason" in ended.err
    assert "flowkit/operations.py" not in ended.err
    assert "run r1 failed" in ended.err


def test_failure_as_json(flowkit: Call, shop: str) -> None:
    """With --json the error is in the document: class, message, and the note that names step and run."""
    ended = flowkit("run", f"{shop}:refuse", "--input", '"no reason"', "--run-id", "r1", "--json")
    assert (ended.code, ended.json["status"], ended.json["exit_code"]) == (1, "failed", 1)
    assert ended.json["error"]["type"] == "shop.Refused"
    assert ended.json["error"]["message"] == "no reason"
    assert "raise_it" in ended.json["error"]["notes"][0]


def test_finished_run_gives_its_result_again(flowkit: Call, shop: str) -> None:
    """The same run id again runs nothing, and prints the value that it had."""
    first = flowkit("run", f"{shop}:process", "--input", ORDER, "--run-id", "o1", "--json")
    again = flowkit("run", f"{shop}:process", "--run-id", "o1", "--json")
    assert again.json["value"] == first.json["value"]
    assert again.json["steps"] == 0
    assert "succeeded earlier" in flowkit("run", f"{shop}:process", "--run-id", "o1").err


def test_failed_run_tells_its_error_again(flowkit: Call, shop: str) -> None:
    """A run that failed earlier tells its error, which has no traceback any more, and stays failed."""
    flowkit("run", f"{shop}:refuse", "--input", '"no reason"', "--run-id", "r1")
    again = flowkit("run", f"{shop}:refuse", "--run-id", "r1")
    assert again.code == 1
    assert "Refused: no reason" in again.err
    assert "Traceback" not in again.err


def test_again_runs_only_what_failed(flowkit: Call, shop: str, flow: Flow) -> None:
    """With --again a failed run is reopened: completed steps are answered from the journal."""
    first = flowkit("run", f"{shop}:process", "--input", '{"order": {"id": "a"}, "fails": 2}', "--run-id", "o1")
    assert first.code == 1
    again = flowkit("run", f"{shop}:process", "--run-id", "o1", "--again", "--json")
    assert again.json["value"] == {"reservation": "reserved a", "paid": 10}
    assert (again.json["steps"], again.json["replayed"]) == (1, 1)
    assert flow.handle("o1").status() is RunStatus.SUCCEEDED


def test_other_arguments_under_the_same_id_are_refused(flowkit: Call, shop: str) -> None:
    """A run id that is taken by other arguments is a conflict; exit code 6."""
    flowkit("run", f"{shop}:process", "--input", ORDER, "--run-id", "o1")
    ended = flowkit("run", f"{shop}:process", "--input", '{"order": {"id": "b"}}', "--run-id", "o1")
    assert ended.code == 6
    assert "other arguments" in ended.err


def test_other_task_under_the_same_id_is_refused(flowkit: Call, shop: str) -> None:
    """A run id that is taken by another task is a conflict; exit code 6, also in the JSON."""
    flowkit("run", f"{shop}:process", "--input", ORDER, "--run-id", "o1")
    ended = flowkit("run", f"{shop}:nothing", "--run-id", "o1", "--json")
    assert (ended.code, ended.json["exit_code"]) == (6, 6)
    assert ended.json["error"]["type"] == "flowkit.errors.RunConflict"
    assert "shop-order" in ended.json["error"]["message"]


def test_blocked_run_says_how_to_go_on(flowkit: Call, shop: str, flow: Flow) -> None:
    """A run that its code no longer fits is blocked; exit code 3, the cause, and the command for later."""
    flowkit("run", f"{shop}:leave", "--run-id", "b1")
    changed = Path(shop).read_text().replace('reserve(Order("x"))\n    sys.exit(9)', 'charge(Order("x"), 0)')
    Path(shop).write_text(changed)
    del sys.modules["shop"]
    ended = flowkit("run", f"{shop}:leave", "--run-id", "b1")
    assert ended.code == 3
    assert "was recorded as step 'reserve', but the task now calls step 'charge'" in ended.err
    assert "--run-id b1" in ended.err
    assert flow.handle("b1").status() is RunStatus.BLOCKED
    again = flowkit("run", f"{shop}:leave", "--run-id", "b1", "--json")
    assert (again.code, again.json["status"]) == (3, "blocked")


def test_task_that_leaves_the_process_stays_resumable(flowkit: Call, shop: str, flow: Flow) -> None:
    """`sys.exit` in a task ends the command, not the run."""
    ended = flowkit("run", f"{shop}:leave", "--run-id", "l1")
    assert ended.code == 1
    assert "called sys.exit" in ended.err
    assert not flow.handle("l1").status().finished


def test_memory_storage_says_that_nothing_is_left(flowkit: Call, shop: str) -> None:
    """Nobody is told to resume what ends with the process."""
    ended = flowkit("run", f"{shop}:leave", "--run-id", "l1")
    assert "Nothing is left to resume" in ended.err
    assert "Resume with" not in ended.err


def test_cancelled_run_has_an_exit_code_of_its_own(flowkit: Call, shop: str, flow: Flow) -> None:
    """A run that was cancelled before it went on ends as cancelled; exit code 7."""
    flowkit("run", f"{shop}:pause", "--run-id", "l1")
    flow.cancel("l1")
    ended = flowkit("run", f"{shop}:pause", "--run-id", "l1")
    assert ended.code == 7
    assert "was cancelled" in ended.err


def test_storage_that_dies_on_the_way_leaves_the_run_resumable(
    shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A storage that fails during a run is exit code 5, and the command that resumes the run is told."""
    monkeypatch.setattr(Engine, "run_to_end", _no_storage)
    ended = _on_disk(tmp_path, monkeypatch, "run", f"{shop}:nothing", "--run-id", "n1")
    assert ended.exit_code == 5
    assert "the disk is gone" in ended.stderr
    assert "Resume with:" in ended.stderr
    assert f"flowkit run {shop}:nothing --run-id n1" in ended.stderr


def _no_storage(engine: Engine, new: NewRun) -> bytes:
    raise StorageError(f"the disk is gone under {new.run_id} of {engine.worker_id}")


def test_failed_run_on_the_default_storage_says_what_can_be_done(
    shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told to see and to try again needs no --storage where none was given."""
    words = ("run", f"{shop}:refuse", "--run-id", "r1")
    ended = _on_disk(tmp_path, monkeypatch, *words, "--input", '"no reason"')
    assert ended.exit_code == 1
    assert "flowkit runs show r1\n" in ended.stderr
    assert f"flowkit run {shop}:refuse --run-id r1 --again\n" in ended.stderr
    again = _on_disk(tmp_path, monkeypatch, *words)
    assert "raise_it" in again.stderr


def test_run_that_was_undone_is_not_to_be_tried_again(
    shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The undos are told; a fork is what goes on after them, and --again is refused."""
    words = ("run", f"{shop}:undone", "--run-id", "u1")
    ended = _on_disk(tmp_path, monkeypatch, *words)
    assert ended.exit_code == 1
    assert "↶ what shop-undone completed is being undone" in ended.stderr
    assert "✓ undo pay" in ended.stderr
    assert "flowkit runs fork u1\n" in ended.stderr
    assert "--again" not in ended.stderr
    assert _on_disk(tmp_path, monkeypatch, *words, "--again").exit_code == 6
    shown = _on_disk(tmp_path, monkeypatch, "runs", "show", "u1").stdout
    assert "↶ undone from here" in shown
    assert "pay  undo" in shown


def _on_disk(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> CliResult:
    monkeypatch.chdir(folder)
    return CliRunner().invoke(cli, list(words))


def test_secrets_of_the_url_are_not_told_again(shop: str) -> None:
    """The command to resume with shows no password."""
    order = Order(
        shop, load_task(f"{shop}:nothing").spec, None, "r", "redis://app:hunter2@cache", again=False, silent=True
    )
    assert order.resume_command.endswith("--storage 'redis://app:***@cache'")


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [("nosuch:x", 2, "no known scheme"), ("", 2, "is empty"), ("disk:/proc/nowhere/at/all", 5, "/proc")],
)
def test_storage_that_cannot_be_used(shop: str, url: str, code: int, words: str) -> None:
    """A wrong URL is wrong use, a place that cannot be written to is a storage error; each in one message."""
    ended = CliRunner().invoke(cli, ["run", f"{shop}:nothing", "--storage", url])
    assert ended.exit_code == code
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
