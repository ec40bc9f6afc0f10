"""Lists of runs as tables."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flowkit.cli.times import ms_text
from flowkit.inspection import RunList
from flowkit.records import RunHeader, RunStatus

WIDTH_ELSEWHERE = 140  # of what is no terminal
STYLES = {
    RunStatus.PENDING: "blue",
    RunStatus.RUNNING: "cyan",
    RunStatus.WAITING: "cyan",
    RunStatus.COMPENSATING: "magenta",
    RunStatus.BLOCKED: "yellow",
    RunStatus.SUCCEEDED: "green",
    RunStatus.FAILED: "red",
    RunStatus.CANCELLED: "yellow",
}


def console() -> Console:
    """For stdout, wide enough for a log where it is no terminal."""
    plain = Console(highlight=False, emoji=False, markup=False)
    if plain.is_terminal:
        return plain
    return Console(highlight=False, emoji=False, markup=False, width=WIDTH_ELSEWHERE)


def status_text(status: RunStatus) -> Text:
    """The status in its colour."""
    return Text(str(status), style=STYLES[status])


def print_runs(page: RunList, now_ms: int, known: AbstractSet[str] | None) -> None:
    """Print a page of runs."""
    screen = console()
    if not page.runs:
        screen.print("no runs")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", overflow="fold")
    table.add_column("task", overflow="fold")
    table.add_column("status", no_wrap=True)
    table.add_column("created", justify="right", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column("recorded", justify="right", no_wrap=True)
    table.add_column("remarks", overflow="fold")
    for header in page:
        table.add_row(
            header.run_id,
            header.task,
            status_text(header.status),
            f"{ms_text(max(0, now_ms - header.created_at_ms))} ago",
            "" if header.finished_at_ms is None else ms_text(header.finished_at_ms - header.created_at_ms),
            f"{header.length:,}",
            _remarks(header, now_ms, known),
        )
    screen.print(table)
    if page.cursor is not None:
        screen.print(f"more: --cursor {page.cursor}", soft_wrap=True)


def _remarks(header: RunHeader, now_ms: int, known: AbstractSet[str] | None) -> Text:
    parts: list[str] = []
    if not header.status.finished and known is not None and header.task not in known:
        parts.append("unknown task")
    if header.queue != "default":
        parts.append(f"queue {header.queue}")
    if header.wake_at_ms is not None and not header.status.finished:
        parts.append(f"due in {ms_text(max(0, header.wake_at_ms - now_ms))}")
    if header.cancel and not header.status.finished:
        parts.append("cancel asked")
    if header.crashes:
        parts.append(f"{header.crashes} crash{'' if header.crashes == 1 else 'es'} in a row")
    if header.parent is not None:
        parts.append(f"child of {header.parent}")
    parts.extend(f"#{tag}" for tag in header.tags)
    return Text(", ".join(parts), style="dim")
