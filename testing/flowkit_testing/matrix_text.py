"""Matrices of explorations in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from flowkit_testing.exploration import Verdict
from flowkit_testing.matrix import Cell, Failure, Matrix, total

_MARKS: dict[Verdict, tuple[str, str]] = {
    "passed": ("●", "green"),
    "failed": ("✗", "bold red"),
    "equal": ("=", "cyan"),
    "not reached": ("?", "yellow"),
    "not tried": ("-", "yellow"),
}
_NO_POINT = Text("·", style="dim")


def print_matrices(console: Console, matrices: Sequence[Matrix]) -> None:
    """Print one table for each exploration, and what the marks in them mean."""
    for matrix in matrices:
        console.print(_drawn(matrix), crop=False)
    console.print(_legend(matrices))


def _drawn(matrix: Matrix) -> RenderableType:
    title = Text.assemble((matrix.task, "bold"), f" on {matrix.storage}", (f"   {matrix.test}", "dim"))
    crashes = [column for column in matrix.columns if column.startswith(("before ", "after "))]
    kinds = list(dict.fromkeys(column.partition(" ")[2] for column in crashes))
    faults = [column for column in matrix.columns if column not in crashes]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("step", no_wrap=True)
    for name in (*kinds, *faults):
        table.add_column("\n".join(name.split(" ")), justify="center", no_wrap=True, vertical="bottom")
    for row in matrix.rows:
        cells = matrix.cells[row]
        others = (_mark(cells[fault]) if fault in cells else Text() for fault in faults)
        table.add_row(row, *(_before_and_after(cells, kind) for kind in kinds), *others)
    below = Text(matrix.summary, style="dim" if matrix.safe else "red")
    failures = [part for failure in matrix.failures[:3] for part in (Text(f"  {failure.schedule}"), _token(failure))]
    return Group(title, table, below, *failures, Text())


def _token(failure: Failure) -> Text:
    """On one line, however long: it is to be copied."""
    return Text(f"    --flowkit-replay={failure.token}", no_wrap=True, overflow="ignore")


def _before_and_after(cells: Mapping[str, Cell], kind: str) -> Text:
    """What came of crashes before and after it; nothing if there were none."""
    found = [cells.get(f"{when} {kind}") for when in ("before", "after")]
    return Text(" ").join(map(_mark, found)) if any(found) else Text()


def _mark(cell: Cell | None) -> Text:
    if cell is None:
        return _NO_POINT
    mark, style = _MARKS[cell.verdict]
    return Text(mark, style=style)


def _legend(matrices: Sequence[Matrix]) -> Text:
    counts = total(matrices)
    parts: list[str | tuple[str, str]] = []
    for verdict, (mark, style) in _MARKS.items():
        parts += [(mark, style), f" {verdict} {counts.get(verdict, 0)}   "]
    return Text.assemble("crashes before and after, then other faults   ", *parts)
