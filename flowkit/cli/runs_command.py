"""`flowkit runs`: look at stored runs, and change their course."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import IO

import click

from flowkit.cli.check_command import check
from flowkit.cli.exits import Exit, exit_for_error
from flowkit.cli.loading import load_code
from flowkit.cli.options import app_option, json_option, storage_option
from flowkit.cli.output import complain, emit, error_document, quiet_stdout, reported, say
from flowkit.cli.transfer_command import export_command, import_command
from flowkit.cli.views import header_view, item_text, item_view, run_view
from flowkit.codec import Json
from flowkit.errors import FlowkitError, RunFinished
from flowkit.flow import Flow
from flowkit.following import Follower
from flowkit.recording import export
from flowkit.records import RunStatus
from flowkit.registry import tasks


@click.group()
def runs() -> None:
    """List, show, follow, check, cancel, retry, fork, prune and move runs."""


runs.add_command(check)
runs.add_command(export_command)
runs.add_command(import_command)


@runs.command("list")
@click.option("--status", type=click.Choice([str(status) for status in RunStatus]), help="Only runs that stand so.")
@click.option("--task", "task_id", metavar="ID", help="Only runs of this task.")
@click.option("--tag", help="Only runs with this tag.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="At most so many.")
@click.option("--cursor", help="Go on where an earlier page ended; it tells the cursor.")
@app_option
@storage_option
@json_option
def list_runs(
    *,
    status: str | None,
    task_id: str | None,
    tag: str | None,
    limit: int,
    cursor: str | None,
    apps: tuple[str, ...],
    storage: str | None,
    as_json: bool,
) -> None:
    """List runs, newest first.

    With --app, runs whose task that code does not have are marked: they wait until a worker knows their task.
    """
    with reported(as_json=as_json):
        with quiet_stdout(wanted=as_json):
            for app in apps:
                load_code(app)
        with Flow(storage, worker=False) as flow:
            page = flow.runs(status, task_id, tag, limit, cursor)
            now_ms = flow.engine.clock.now_ms()
        known = frozenset(tasks.ids()) if apps else None
        if as_json:
            found: list[Json] = [
                header_view(header) | ({} if known is None else {"task_known": header.task in known}) for header in page
            ]
            emit({"runs": found, "cursor": page.cursor})
            return
        from flowkit.cli.tables import print_runs  # noqa: PLC0415  # rich is loaded where something is drawn

        print_runs(page, now_ms, known)


@runs.command()
@click.argument("run_id")
@click.option("--all", "everything", is_flag=True, help="Every step, however many there are.")
@click.option("--values", is_flag=True, help="What each step returned.")
@click.option(
    "--export",
    "file",
    type=click.File("w", encoding="utf-8", lazy=True),
    help="Write the whole run to a file (- for stdout), to be replayed elsewhere; payloads stay as they are stored.",
)
@storage_option
@json_option
def show(
    *, run_id: str, everything: bool, values: bool, file: IO[str] | None, storage: str | None, as_json: bool
) -> None:
    """Show a run: its input, its outcome, and its steps as a timeline."""
    with reported(as_json=as_json):
        with Flow(storage, worker=False) as flow:
            codec, snapshot = flow.engine.codec, flow.engine.load(run_id)
        if file is not None:
            file.write(export(snapshot))
            return
        if as_json:
            emit(run_view(codec, snapshot))
            return
        from flowkit.cli.timeline import print_run  # noqa: PLC0415  # rich is loaded where something is drawn

        print_run(codec, snapshot, everything=everything, values=values)


@runs.command()
@click.argument("run_id")
@click.option("--follow", is_flag=True, help="Wait for what is still to come, until the run has ended.")
@click.option("--after", default=0, metavar="SEQ", type=click.IntRange(0), help="Only items after this one.")
@storage_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line, one for each item.")
def items(*, run_id: str, follow: bool, after: int, storage: str | None, as_json: bool) -> None:
    """Print what a run has emitted, its side work's failures and its changes of status, in order."""
    with reported(as_json=as_json, in_a_line=True), Flow(storage, worker=False) as flow:
        follower = Follower(flow.engine, run_id, after, follow=follow)
        while (page := follower.page()) is not None:
            for item in page:
                if as_json:
                    emit(item_view(item), in_a_line=True)
                else:
                    click.echo(item_text(item))


@runs.command()
@click.argument("run_ids", metavar="RUN_ID...", nargs=-1, required=True)
@storage_option
@json_option
def cancel(*, run_ids: tuple[str, ...], storage: str | None, as_json: bool) -> None:
    """Cancel runs: each stops at its next step, and its handlers run."""

    def ask(flow: Flow, run_id: str) -> str:
        if not flow.cancel(run_id):
            status = flow.handle(run_id).status()
            raise RunFinished(f"run {run_id!r} is {status}; there is nothing left to cancel")
        return f"run {run_id} is asked to stop"

    _each(run_ids, ask, storage, as_json=as_json)


@runs.command()
@click.argument("run_ids", metavar="RUN_ID...", nargs=-1, required=True)
@storage_option
@json_option
def retry(*, run_ids: tuple[str, ...], storage: str | None, as_json: bool) -> None:
    """Reopen failed or blocked runs: what was completed stays, only what failed runs again.

    A worker takes them up, or `flowkit run ... --run-id ID`.
    """

    def reopen(flow: Flow, run_id: str) -> str:
        flow.retry(run_id)
        return f"run {run_id} is {flow.handle(run_id).status()} again; go on with: flowkit run ... --run-id {run_id}"

    _each(run_ids, reopen, storage, as_json=as_json)


@runs.command()
@click.argument("run_id")
@click.option(
    "--from-step", metavar="NAME", help="Reuse the results before this step (NAME#2: before its second call)."
)
@click.option("--new-id", metavar="ID", help="The new run's id.")
@storage_option
@json_option
def fork(*, run_id: str, from_step: str | None, new_id: str | None, storage: str | None, as_json: bool) -> None:
    """Make a new run with the arguments of another one, and its results before a step.

    Without --from-step it starts afresh.
    """
    with reported(as_json=as_json), Flow(storage, worker=False) as flow:
        handle = flow.fork(run_id, from_step, new_id=new_id)
        header = flow.engine.snapshot(handle.id).header
        if as_json:
            emit(header_view(header) | {"forked_from": run_id})
        else:
            click.echo(handle.id)
            say(f"{header.length} recorded steps reused; go on with: flowkit run ... --run-id {handle.id}")


@runs.command()
@click.option("--older-than", default="30d", show_default=True, metavar="TIME", help='Such as "12h" or "30d".')
@storage_option
@json_option
def prune(*, older_than: str, storage: str | None, as_json: bool) -> None:
    """Forget runs that finished longer ago than a time; unfinished ones never."""
    with reported(as_json=as_json), Flow(storage, worker=False) as flow:
        count = flow.prune(older_than)
        if as_json:
            emit({"pruned": count})
        else:
            click.echo(f"{count} finished run{'' if count == 1 else 's'} older than {older_than} forgotten")


def _each(run_ids: tuple[str, ...], act: Callable[[Flow, str], str], storage: str | None, *, as_json: bool) -> None:
    """Do something to each run; one that cannot be is reported, and the others go on."""
    code, told = Exit.OK, list[Json]()
    with reported(as_json=as_json), Flow(storage, worker=False) as flow:
        for run_id in run_ids:
            try:
                text = act(flow, run_id)
            except FlowkitError as error:
                code = code or exit_for_error(error)
                told.append({"run_id": run_id, "ok": False, "error": error_document(error)})
                if not as_json:
                    complain(str(error))
            else:
                told.append({"run_id": run_id, "ok": True, "error": None})
                if not as_json:
                    click.echo(text)
    if as_json:
        emit({"runs": told, "exit_code": int(code)})
    sys.exit(code)
