"""`flowkit runs export` and `import`: move runs from one storage to another."""

from __future__ import annotations

import sys
from typing import IO

import click

from flowkit.cli.exits import Exit
from flowkit.cli.options import storage_option
from flowkit.cli.output import reported
from flowkit.errors import StorageError
from flowkit.flow import Flow
from flowkit.records import RunQuery, RunStatus
from flowkit.transfer import export_runs, import_run


@click.command("export")
@click.option("--status", type=click.Choice([str(status) for status in RunStatus]), help="Only runs that stand so.")
@click.option("--task", "task_id", metavar="ID", help="Only runs of this task.")
@click.option("--tag", help="Only runs with this tag.")
@storage_option
def export_command(*, status: str | None, task_id: str | None, tag: str | None, storage: str | None) -> None:
    """Write runs to the standard output, a line of JSON for each, oldest first, with their journals and messages.

    Stop the workers before: a run that is being advanced is left out, and the exit code is 1 then.
    """
    query = RunQuery(None if status is None else RunStatus(status), task_id, tag)
    written, held = 0, 0
    with reported(as_json=False), Flow(storage, worker=False) as flow:
        for each in export_runs(flow.engine.storage, query):
            if each.line is None:
                click.echo(f"run {each.run_id} is being advanced: left out", err=True)
                held += 1
            else:
                click.echo(each.line)
                written += 1
    click.echo(f"{written} runs exported", err=True)
    sys.exit(Exit.FAILED if held else Exit.OK)


@click.command("import")
@click.argument("file", type=click.File("rb"), default="-")
@storage_option
def import_command(*, file: IO[bytes], storage: str | None) -> None:
    """Create the runs of an export. Those whose ids are taken are left as they are; broken off, it may be repeated."""
    made: list[str | None] = []
    with reported(as_json=False), Flow(storage, worker=False) as flow:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                made.append(import_run(flow.engine.storage, line.decode()))
            except (StorageError, UnicodeDecodeError) as error:
                raise StorageError(
                    f"{file.name}, line {number}: {error}. What came before it is imported ({_count(made)}); mend the "
                    "file and import it again, what is there is left as it is"
                ) from error
    click.echo(_count(made), err=True)


def _count(made: list[str | None]) -> str:
    created = sum(run_id is not None for run_id in made)
    return f"{created} {'run' if created == 1 else 'runs'} imported, {len(made) - created} already there"
