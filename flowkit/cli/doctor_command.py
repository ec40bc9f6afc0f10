"""`flowkit doctor`: is the storage there, how durable is it really, what should be changed."""

from __future__ import annotations

import sys

import click

from flowkit.cli.diagnosis import Diagnosis, diagnose
from flowkit.cli.exits import Exit
from flowkit.cli.loading import load_code
from flowkit.cli.options import app_option, json_option, storage_option
from flowkit.cli.output import emit, quiet_stdout, reported
from flowkit.codec import Json
from flowkit.config import redact, storage_url
from flowkit.flow import Flow
from flowkit.registry import tasks


@click.command()
@app_option
@storage_option
@json_option
def doctor(*, apps: tuple[str, ...], storage: str | None, as_json: bool) -> None:
    """Look at the storage: whether it is there, how durable it really is, what waits in it, what to change.

    With --app, waiting runs whose task that code does not have are pointed out. Exit code 1: something should be
    changed; 5: the storage cannot be used.
    """
    with reported(as_json=as_json):
        with quiet_stdout(wanted=as_json):
            for app in apps:
                load_code(app)
        url = storage_url(storage)
        with Flow(url.url, worker=False) as flow:
            found = diagnose(flow.engine, frozenset(tasks.ids()) if apps else None)
    if as_json:
        emit(_document(found, redact(url.url), url.source))
    else:
        _print(found, redact(url.url), url.source)
    sys.exit(Exit.FAILED if found.advice else Exit.OK)


def _document(found: Diagnosis, url: str, source: str) -> Json:
    queues: list[Json] = [
        {"queue": each.queue, "task": each.task, "ready": each.ready, "leased": each.leased, "known": each.known}
        for each in found.queues
    ]
    return {
        "storage": url,
        "from": source,
        "durability": str(found.durability),
        "survives": found.survives,
        "write_ms": found.write_ms,
        "runs": {str(status): count for status, count in found.by_status.items()},
        "queues": queues,
        "workers": _workers(found),
        "advice": list(found.advice),
    }


def _workers(found: Diagnosis) -> dict[str, Json]:
    return {
        name: {"queues": list(member.queues), "tasks": list(member.tasks), "concurrency": member.concurrency}
        for name, member in found.workers.items()
    }


def _print(found: Diagnosis, url: str, source: str) -> None:
    click.echo(f"storage     {url}  (from {source})")
    click.echo(f"durability  {found.durability}: what is recorded survives {found.survives}")
    click.echo(f"a write     {found.write_ms:.2f} ms")
    counts = [f"{count:,} {status}" for status, count in found.by_status.items() if count]
    click.echo(f"runs        {', '.join(counts) or 'none'}")
    for each in found.queues:
        mark = "" if each.known is not False else click.style("  unknown task", fg="yellow")
        counts_text = f"{each.ready:,} wait, {each.leased:,} under way"
        click.echo(f"queue       {each.queue}: {counts_text}, of task {each.task}{mark}")
    for name, member in found.workers.items():
        served = ", ".join(member.queues)
        click.echo(f"worker      {name}: {member.concurrency} at a time, {len(member.tasks)} tasks, queues {served}")
    if not found.advice:
        click.echo(click.style("✓ nothing to change", fg="green"))
    for text in found.advice:
        click.echo(f"{click.style('!', fg='yellow', bold=True)} {text}")
