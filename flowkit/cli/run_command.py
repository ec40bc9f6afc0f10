"""`flowkit run`: run a task to its end, here, or resume it."""

from __future__ import annotations

import sys
import uuid

import click

from flowkit.cli.execute import Order, execute
from flowkit.cli.exits import HELP
from flowkit.cli.inputs import Arguments, arguments, checked, read_input
from flowkit.cli.loading import load_task
from flowkit.cli.options import json_option, storage_option
from flowkit.cli.output import quiet_stdout, reported
from flowkit.cli.report import report
from flowkit.codec import JsonCodec
from flowkit.errors import ConfigurationError
from flowkit.flow import Flow

EXAMPLES = """\b
Examples:
  flowkit run examples/archive.py:archive --input '["flowkit", "build/archive"]'
  flowkit run shop.orders:process-order --input @order.json --run-id order-42
  flowkit run shop.orders:process-order --run-id order-42        resumes it

"""


@click.command(epilog=EXAMPLES + HELP)
@click.argument("target", metavar="FILE_OR_MODULE:TASK")
@click.option(
    "--input",
    "given",
    metavar="JSON|@FILE|-",
    help="The arguments: a JSON object by name, an array in order, any other value as the only one; "
    "@FILE reads them from a file, - from stdin.",
)
@click.option("--run-id", metavar="ID", help="Run under this id. The same id again resumes it, or gives its result.")
@click.option("--again", is_flag=True, help="If the run has failed or is blocked, reopen it: only what failed runs.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@storage_option
@json_option
def run(
    *, target: str, given: str | None, run_id: str | None, again: bool, quiet: bool, storage: str | None, as_json: bool
) -> None:
    """Run a task to its end, here.

    The task is named by its attribute in the file or module, or by its id; a file with only one task needs no name.
    Progress goes to stderr, the task's value to stdout as JSON.

    When the process dies, or after Ctrl-C, the same command with the same --run-id resumes the run: completed steps
    are answered from the journal. A run that exists needs no --input.
    """
    with reported(as_json=as_json):
        with quiet_stdout(wanted=as_json):
            if run_id == "":  # an unset variable of a script: each try would be another run
                raise ConfigurationError("--run-id is empty; give the run's id, or leave the option out")
            task = load_task(target)
            found = None
            if given is not None:
                found = arguments(task.spec, read_input(given), JsonCodec())
            elif run_id is None:
                found = checked(task.spec, Arguments())
            order = Order(target, task.spec, found, run_id or uuid.uuid4().hex, storage, again, quiet or as_json)
            with Flow(storage, worker=False) as flow:
                done = execute(flow, order)
        sys.exit(report(done, as_json=as_json))
