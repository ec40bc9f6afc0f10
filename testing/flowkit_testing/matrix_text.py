"""Matrices of explorations in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from flowkit_testing.exploration import Verdict
from flowkit_testing.matrix import Cell, Matrix, total

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
        console.print(_drawn(matrix))
    console.print(_legend(matrices))


def _drawn(matrix: Matrix) -> RenderableType:
    title = Text.assemble((matrix.task, "bold"), f" on {matrix.storage}", (f"   {matrix.test}", "dim"))
    pairs = list(dict.fromkeys(column.replace("before ", "").replace("after ", "") for column in matrix.columns))
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("step", no_wrap=True)
    for pair in pairs:
        table.add_column("\n".join(pair.split(" ")), justify="center", no_wrap=True, vertical="bottom")
    for row in matrix.rows:
        table.add_row(row, *(_marks(matrix.cells[row], pair) for pair in pairs))
    below = Text(matrix.summary, style="dim" if matrix.safe else "red")
    failures = [Text(f"  {failure.schedule}\n    --flowkit-replay={failure.token}") for failure in matrix.failures[:3]]
    return Group(title, table, below, *failures, Text())


def _marks(cells: Mapping[str, Cell], pair: str) -> Text:
    """What came before and after it; nothing if there is neither."""
    fault, _, kind = pair.rpartition(" ")
    found = [cells.get(f"{fault} {when} {kind}".lstrip()) for when in ("before", "after")]
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
    return Text.assemble("each pair is before and after   ", *parts)
