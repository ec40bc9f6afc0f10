"""The command as a whole: its help, its version, what it loads."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from flowkit.cli.app import cli
from flowkit.cli.exits import Exit, exit_for_error, exit_for_status
from flowkit.errors import FlowkitError, LeaseLost, RunCancelled, RunRolledBack, StorageNotDurable, WrongColour
from flowkit.records import RunStatus

COMMANDS = ["run", "runs", "runs list", "runs show", "runs cancel", "runs retry", "runs fork", "runs prune", "doctor"]


def test_help_tells_the_commands_and_the_exit_codes() -> None:
    """`flowkit --help` lists the commands and what the exit codes mean."""
    text = CliRunner().invoke(cli, ["--help"]).stdout
    for words in ("run ", "runs ", "doctor ", "3  the run is blocked", "130  interrupted by Ctrl-C"):
        assert words in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    """Each command explains itself, by -h as well."""
    ended = CliRunner().invoke(cli, [*command.split(), "-h"])
    assert ended.exit_code == 0, ended.output
    assert ended.stdout.startswith(f"Usage: cli {command}")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_reads_runs_has_json_and_storage(command: str) -> None:
    """--json and --storage are everywhere."""
    if command != "runs":
        text = CliRunner().invoke(cli, [*command.split(), "-h"]).stdout
        assert "--json" in text
        assert "--storage URL" in text


def test_unknown_command_is_wrong_use() -> None:
    """A command that does not exist is exit code 2."""
    assert CliRunner().invoke(cli, ["dance"]).exit_code == 2


def test_version() -> None:
    """--version names the command and the version of the distribution."""
    ended = CliRunner().invoke(cli, ["--version"])
    assert ended.stdout.startswith("flowkit, version ")


def test_help_does_not_load_what_draws() -> None:
    """`flowkit --help` starts without rich, and `import flowkit` without click."""
    code = (
        "import sys, flowkit; assert 'click' not in sys.modules; sys.argv = ['flowkit', '--help'];\n"
        "from flowkit.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not [name for name in sys.modules if name.startswith('rich')], 'rich was loaded'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RunRolledBack(), Exit.REFUSED),
        (StorageNotDurable(), Exit.STORAGE),
        (LeaseLost(), Exit.STORAGE),
        (WrongColour(), Exit.USAGE),
        (RunCancelled(), Exit.FAILED),
        (FlowkitError(), Exit.FAILED),
        (ValueError(), Exit.FAILED),
    ],
)
def test_errors_have_exit_codes(error: Exception, code: Exit) -> None:
    """Each kind of error leads to the exit code that the help tells."""
    assert exit_for_error(error) is code


def test_unfinished_runs_are_no_failure() -> None:
    """How a run stands leads to an exit code; one that goes on elsewhere is none of its own."""
    codes = {status: exit_for_status(status) for status in RunStatus}
    assert {status for status, code in codes.items() if code} == {
        RunStatus.FAILED,
        RunStatus.BLOCKED,
        RunStatus.CANCELLED,
    }
