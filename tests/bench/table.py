"""The results of one session: as a table to read, as a baseline to keep, and as a page of the documentation."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from tests.bench.metrics import METRICS, US, Metric

BASELINE = Path(__file__).with_name("baseline.json")
PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- numbers: `nox -s bench -- --flowkit-record` writes what follows -->", "<!-- end of numbers -->"
HEAD = ("metric", "flowkit µs", "bare µs", "bare is", "ratio", "baseline", "limit", "ok")


@frozen
class Row:
    """One result: the medians, in seconds, and the median of the ratios of each round."""

    metric: Metric
    flowkit: float
    bare: float
    ratio: float

    @property
    def ok(self) -> bool:
        """Whether the limit holds, if there is one."""
        return self.metric.limit is None or self.metric.limit.holds(self.flowkit, self.ratio)


def read_baseline() -> dict[str, float]:
    """The ratios that are kept in the repository."""
    if not BASELINE.exists():
        return {}
    return {name: kept["ratio"] for name, kept in json.loads(BASELINE.read_text("utf-8"))["metrics"].items()}


def in_order(rows: Sequence[Row]) -> list[Row]:
    """The rows as the table has them, whatever order the tests ran in."""
    known = list(METRICS)
    return sorted(rows, key=lambda row: known.index(row.metric.name))


def cells(row: Row, baseline: dict[str, float]) -> tuple[str, ...]:
    """A row of the table, as text."""
    kept = baseline.get(row.metric.name)
    return (
        row.metric.name,
        _number(row.flowkit / US),
        _number(row.bare / US),
        row.metric.against,
        f"{row.ratio:.2f}",
        "new" if kept is None else f"{kept:.2f} ({row.ratio / kept - 1:+.0%})",
        "" if row.metric.limit is None else row.metric.limit.text(),
        "" if row.metric.limit is None else "yes" if row.ok else "NO",
    )


def _number(value: float) -> str:
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def as_text(rows: Sequence[Row], baseline: dict[str, float]) -> list[str]:
    """The lines of the table, for a terminal."""
    lines = [HEAD, *(cells(row, baseline) for row in in_order(rows))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def keep(rows: Sequence[Row]) -> None:
    """Write the baseline and the table in the documentation, from the same session."""
    ordered = in_order(rows)
    kept = {
        "python": platform.python_version(),
        "metrics": {
            row.metric.name: {
                "flowkit_us": round(row.flowkit / US, 2),
                "bare_us": round(row.bare / US, 2),
                "ratio": round(row.ratio, 3),
            }
            for row in ordered
        },
    }
    BASELINE.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", "utf-8")
    page = PAGE.read_text("utf-8")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{_markdown(ordered)}\n\n{END}{after}", "utf-8")


def _markdown(rows: Sequence[Row]) -> str:
    shown = [0, 1, 2, 3, 4, 6, 7]  # the page is the baseline, so it has nothing to compare with
    lines = [HEAD, ("---", "--:", "--:", "---", "--:", "", "---", "---"), *(cells(row, {}) for row in rows)]
    return "\n".join("| " + " | ".join(line[i] for i in shown) + " |" for line in lines)
