"""What explorations have found, as plain data: steps by the points at which something was done to them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import asdict, field, frozen

from flowkit.rollback import undo_key
from flowkit_testing.exploration import Exploration, Tried, Verdict, Violation
from flowkit_testing.points import Injury
from flowkit_testing.subject import RUN_ID
from flowkit_testing.trace import What

_IN_ORDER = (
    "before effect", "after effect", "before commit", "after commit", "before wait", "after wait", "before end",
    "after end", "before body", "after body", "before call", "after call",
)  # fmt: skip
VERDICTS: tuple[Verdict, ...] = ("passed", "failed", "equal", "not reached", "not tried")
_WORST_FIRST: tuple[Verdict, ...] = ("failed", "not reached", "not tried", "passed", "equal")
_STEP = re.compile(r"(?P<run>[^:]+): (?P<kind>\w+) (?P<rest>.*)(?P<key> \([^()]*\))(?P<more>.*)$")
_ITSELF = "the run itself"
_FAULTS = {
    "lease": "lease lost",
    "stop": "stopped",
    "lost_ack": "answer lost",
    "not_applied": "not applied",
    "fail": "step fails",
    "late": "comes late",
    "cancel": "cancelled",
    "replay": "replayed",
}
_UNDO = undo_key("")
_KINDS = {"invoke": "effect", "record": "commit", "post": "commit", "pause": "wait", "listen": "wait", "child": "wait"}


@frozen
class Cell:
    """What came of one fault at one kind of point of one step."""

    verdict: Verdict
    schedules: int = 1


@frozen
class Failure:
    """A schedule that breaks something, as a person reads it."""

    schedule: str
    wrong: tuple[str, ...]
    timeline: tuple[str, ...]
    token: str


@frozen
class Matrix:
    """One exploration. `cells` are by row, then by column; a place without a cell has no such point."""

    test: str
    task: str
    storage: str
    summary: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[str, Mapping[str, Cell]]
    failures: tuple[Failure, ...] = ()
    counts: Mapping[str, int] = field(factory=dict)
    doubts: tuple[str, ...] = ()  # what only the author of the task can judge

    @property
    def safe(self) -> bool:
        """True if nothing failed."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """As what any process can be sent."""
        return asdict(self)


def matrix_of(found: Exploration, test: str = "", storage: str = "memory") -> Matrix:
    """Lay an exploration out as a matrix."""
    cells: dict[str, dict[str, Cell]] = {}
    for tried in found.tried:
        if tried.schedule:
            row, column = place_of(tried.schedule[-1])
            of_row = cells.setdefault(row, {})
            of_row[column] = _joined(of_row.get(column), tried)
    columns = sorted({column for row in cells.values() for column in row}, key=_column_order)
    failures = tuple(map(_failure, sorted(found.violations, key=_plainest_first)))
    counts: dict[str, int] = {verdict: sum(tried.verdict == verdict for tried in found.tried) for verdict in VERDICTS}
    rows = tuple(sorted(cells, key=_row_order))  # the steps come first, in the order of their first sight
    return Matrix(
        test, found.task, storage, repr(found), rows, tuple(columns), cells, failures, counts, tuple(found.doubts)
    )


def _plainest_first(violation: Violation) -> tuple[int, bool]:
    return len(violation.schedule), any("storage:" in injury.point.what for injury in violation.schedule)


def _failure(violation: Violation) -> Failure:
    schedule = ", then ".join(map(str, violation.schedule)) or "no fault at all"
    timeline = violation.timeline
    if violation.schedule and not any(str(What.INJECTED) in line for line in timeline):
        timeline = (f"{What.INJECTED}: {schedule}; another process goes on from what is stored", *timeline)
    return Failure(schedule, violation.wrong, timeline, violation.token)


def matrix_from(document: Mapping[str, Any]) -> Matrix:
    """Read what `to_json` has written."""
    cells = {
        row: {column: Cell(**cell) for column, cell in columns.items()} for row, columns in document["cells"].items()
    }
    failures = tuple(
        Failure(failure["schedule"], tuple(failure["wrong"]), tuple(failure["timeline"]), failure["token"])
        for failure in document["failures"]
    )
    rest = {name: document[name] for name in ("test", "task", "storage", "summary", "counts")}
    rest |= {name: tuple(document[name]) for name in ("rows", "columns", "doubts")}
    return Matrix(**rest, cells=cells, failures=failures)


def place_of(injury: Injury) -> tuple[str, str]:
    """The row and the column of a fault: its step, and at which point a crash came, or which other fault it was."""
    row, point = _step_and_point(injury.point.what)
    column = f"{injury.point.when} {point}" if injury.fault == "crash" else _FAULTS.get(injury.fault, injury.fault)
    return row, column


def _step_and_point(what: str) -> tuple[str, str]:
    if what.startswith("storage: "):
        return what, "call"
    step = _STEP.match(what)
    if step is None:
        run, found, rest = what.partition(": ")
        return (f"{_ITSELF}{_of(run)}", rest.split(" ", maxsplit=1)[0]) if found else (what, "effect")
    kind, name, key = step["kind"], step["rest"], step["key"]
    if kind in {"record", "post"}:
        name = name.partition(" ")[2]  # the kind of the entry is no part of the name
    if key == " ()":
        name, key = _ITSELF, ""
    elif key.endswith(f"{_UNDO})"):
        name, key = f"undo of {name}", key.replace(_UNDO, "")
    return f"{name}{key}{_of(step['run'])}", _KINDS.get(kind, kind)


def _of(run_id: str) -> str:
    """Which run, unless it is the one that is explored."""
    return "" if run_id == RUN_ID else f" of {run_id}"


def _row_order(row: str) -> int:
    return 2 if row.startswith("storage: ") else 1 if row.startswith(_ITSELF) else 0


def total(matrices: Iterable[Matrix]) -> dict[str, int]:
    """How many schedules came to what, over all."""
    sums: dict[str, int] = {}
    for matrix in matrices:
        for verdict, count in matrix.counts.items():
            sums[verdict] = sums.get(verdict, 0) + count
    return sums


def worst(cells: Sequence[Cell]) -> Verdict:
    """The verdict that stands for several."""
    verdicts = [cell.verdict for cell in cells]
    return next(verdict for verdict in _WORST_FIRST if verdict in verdicts)


def _joined(cell: Cell | None, tried: Tried) -> Cell:
    new = Cell(tried.verdict)
    return new if cell is None else Cell(worst((cell, new)), cell.schedules + 1)


def _column_order(column: str) -> tuple[int, str]:
    return (_IN_ORDER.index(column), "") if column in _IN_ORDER else (len(_IN_ORDER), column)
