"""`flowkit runs check`: which unfinished runs of a storage would today's code break?"""

from __future__ import annotations

import sys

import click

from flowkit.cli.exits import Exit
from flowkit.cli.loading import load_code
from flowkit.cli.options import storage_option
from flowkit.cli.output import emit, quiet_stdout, reported, say
from flowkit.codec import Json
from flowkit.flow import Flow
from flowkit.records import RunStatus
from flowkit.rehearsal import Rehearsal, Verdict, rehearse

_UNFINISHED = [status for status in RunStatus if not status.finished]
_PAGE = 100


@click.command()
@click.argument("modules", metavar="FILE_OR_MODULE...", nargs=-1, required=True)
@click.option("--all", "everything", is_flag=True, help="Print the runs that are fine as well.")
@storage_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(*, modules: tuple[str, ...], everything: bool, storage: str | None, as_json: bool) -> None:
    """Tell which unfinished runs the code of today would break.

    Each of them is replayed as far as it is recorded. No step runs and nothing is written, to the storage or anywhere;
    the code between the steps does run. The exit code is 0 if every run would go on.
    """
    with reported(as_json=as_json), quiet_stdout(wanted=True):
        for module in modules:
            load_code(module)
        with Flow(storage, worker=False) as flow:
            found = [rehearse(flow.engine.load(run_id), flow.engine.codec) for run_id in _unfinished(flow)]
    broken = [rehearsal for rehearsal in found if rehearsal.verdict in {Verdict.BLOCKED, Verdict.DIFFERENT}]
    if as_json:
        emit({"runs": [_document(rehearsal) for rehearsal in found], "broken": len(broken)})
    else:
        _tell(found, broken, everything=everything)
    sys.exit(Exit.FAILED if broken else Exit.OK)


def _unfinished(flow: Flow) -> list[str]:
    run_ids: list[str] = []
    for status in _UNFINISHED:
        cursor: str | None = None
        while True:
            page = flow.runs(status, limit=_PAGE, cursor=cursor)
            run_ids += [header.run_id for header in page]
            cursor = page.cursor
            if cursor is None:
                break
    return list(dict.fromkeys(run_ids))


def _document(rehearsal: Rehearsal) -> dict[str, Json]:
    return {
        "run_id": rehearsal.run_id,
        "task": rehearsal.task,
        "verdict": str(rehearsal.verdict),
        "why": rehearsal.why,
        "next": list(rehearsal.next),
    }


def _tell(found: list[Rehearsal], broken: list[Rehearsal], *, everything: bool) -> None:
    for rehearsal in found if everything else broken:
        click.echo(str(rehearsal))
    unknown = [rehearsal for rehearsal in found if rehearsal.verdict is Verdict.UNKNOWN]
    say(f"{len(found)} unfinished runs: {len(broken)} would break, {len(found) - len(broken) - len(unknown)} are fine")
    if unknown:
        names = ", ".join(sorted({rehearsal.task for rehearsal in unknown}))
        say(f"{len(unknown)} are of tasks that this code does not have: {names}")
