"""One run drawn as a timeline: each step with its start, how long it took, its attempts, its outcome, its errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from attrs import frozen
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flowkit.cli.chains import STYLES as LINK_STYLES
from flowkit.cli.chains import links_of, text_of
from flowkit.cli.tables import STYLES, console
from flowkit.cli.times import local_time, ms_text
from flowkit.cli.views import input_of, outcome_of
from flowkit.codec import Codec, Json, error_text
from flowkit.entries import Kind, Phase
from flowkit.inspection import RecordedCall, recorded_calls, rollbacks
from flowkit.records import RunHeader, RunStatus, Snapshot

SHOWN_FIRST, SHOWN_LAST = 60, 20  # steps of a long run
NARROWEST, WIDEST = 10, 48  # of the bars, in characters
BESIDES = 70  # what the other columns take
LONGEST_VALUE = 400

MARKS = {
    Phase.DONE: ("✓", "green"),
    Phase.FAILED: ("✗ failed", "red"),
    Phase.ATTEMPT: ("↻ will be tried again", "yellow"),
    Phase.BEGUN: ("… under way", "cyan"),
    Phase.CANCELLED: ("✗ cancelled", "yellow"),
    Phase.REOPENED: ("↻ reopened", "blue"),
    Phase.ROLLBACK: ("↶ undone from here", "magenta"),
}


def mark_of(call: RecordedCall) -> tuple[str, str]:
    """How a call has ended, as a sign and its colour."""
    return next((mark for phase, mark in MARKS.items() if phase == call.phase), (call.phase, ""))


@frozen
class Span:
    """The time that the picture covers, and how wide it is drawn."""

    from_ms: int
    to_ms: int
    width: int

    def bar(self, call: RecordedCall) -> Text:
        """Where in it the call lies."""
        _, style = mark_of(call)
        whole = max(1, self.to_ms - self.from_ms)
        ended = self.to_ms if call.ended_at_ms is None else call.ended_at_ms
        left = min(self.width - 1, (call.began_at_ms - self.from_ms) * self.width // whole)
        length = max(1, min(self.width - left, round((ended - call.began_at_ms) * self.width / whole)))
        return Text(" " * left + ("█" * length if ended > call.began_at_ms else "▏"), style=style)


def print_run(codec: Codec, snapshot: Snapshot, *, everything: bool, values: bool) -> None:
    """Print the run."""
    screen = console()
    _print_head(screen, codec, snapshot)
    calls = recorded_calls(codec, snapshot)
    for link in links_of(codec, snapshot, calls):
        screen.print(Text(text_of(link), style=LINK_STYLES[link.state]), soft_wrap=True)
    if not calls:
        screen.print("\nnothing recorded yet")
        return
    header = snapshot.header
    from_ms = min(header.created_at_ms, calls[0].began_at_ms)
    to_ms = max(
        header.finished_at_ms or header.updated_at_ms, *(call.ended_at_ms or call.began_at_ms for call in calls)
    )
    span = Span(from_ms, to_ms, max(NARROWEST, min(WIDEST, screen.width - BESIDES)))
    screen.print()
    screen.print(_table(calls, span, header.created_at_ms, everything=everything, values=values))


def _print_head(screen: Console, codec: Codec, snapshot: Snapshot) -> None:
    header = snapshot.header
    title = Text.assemble((header.run_id, "bold"), f"  {header.task}  ", (str(header.status), STYLES[header.status]))
    screen.print(title, soft_wrap=True)
    for name, text in (*_facts(header), *_payloads(codec, snapshot), *_undone(codec, snapshot)):
        screen.print(Text.assemble((f"{name:<9}", "dim"), text), soft_wrap=True)


def _facts(header: RunHeader) -> Iterator[tuple[str, str]]:
    created = local_time(header.created_at_ms)
    if header.finished_at_ms is None:
        yield "created", created
        yield "changed", local_time(header.updated_at_ms)
    else:
        yield "created", f"{created}, took {ms_text(header.finished_at_ms - header.created_at_ms)}"
    if header.wake_at_ms is not None and not header.status.finished:
        yield "due", local_time(header.wake_at_ms)
    if header.worker is not None and not header.status.finished:
        yield "worker", header.worker
    if header.queue != "default" or header.status is RunStatus.PENDING:
        yield "queue", header.queue
    if header.tags:
        yield "tags", ", ".join(header.tags)
    if header.parent is not None:
        yield "parent", header.parent
    if header.crashes:
        yield "crashes", f"{header.crashes} in a row"


def _payloads(codec: Codec, snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    given, unreadable = input_of(codec, snapshot)
    yield "input", unreadable or _input_text(given)
    outcome, unreadable = outcome_of(codec, snapshot)
    if unreadable is not None:
        yield "result", unreadable
    elif "error" in outcome:
        yield "error", error_text(outcome["error"])
    elif "value" in outcome:
        yield "value", _short(outcome["value"])


def _undone(codec: Codec, snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """What was undone, what is still to be undone, and why."""
    for rollback in rollbacks(codec, snapshot):
        yield "undoing", f"{rollback.name}, because of {rollback.cause}"
        for name, operations in (("undone", rollback.undone), ("failed", rollback.failed), ("to undo", rollback.left)):
            if operations:
                yield name, ", ".join(operations)


def _input_text(given: dict[str, Json]) -> str:
    args, kwargs = given["args"], given["kwargs"]
    assert isinstance(args, list)  # as input_of makes it
    assert isinstance(kwargs, dict)
    texts = [_short(arg) for arg in args] + [f"{name}={_short(value)}" for name, value in kwargs.items()]
    return f"({', '.join(texts)})"


def _short(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}… ({len(text):,} characters)"


# ---- the table ------------------------------------------------------------------------------------------------------


def _table(calls: Sequence[RecordedCall], span: Span, created_ms: int, *, everything: bool, values: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("start", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, width=span.width)
    table.add_column("step", overflow="fold")
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column("tries", justify="right", no_wrap=True)
    table.add_column("outcome", overflow="fold")
    for row in _selected(calls, everything=everything):
        if isinstance(row, int):
            table.add_row("", "", Text(f"… {row:,} more (--all shows them)", style="dim"), "", "", "")
        else:
            _add_call(table, row, span, created_ms, values=values)
    return table


def _selected(calls: Sequence[RecordedCall], *, everything: bool) -> Iterator[RecordedCall | int]:
    """The first and the last, and what went wrong between them; a number stands for calls that are left out."""
    left_out, last = 0, len(calls) - SHOWN_LAST
    for position, call in enumerate(calls):
        if everything or position < SHOWN_FIRST or position >= last or call.errors or call.phase != Phase.DONE:
            if left_out:
                yield left_out
                left_out = 0
            yield call
        else:
            left_out += 1


def _add_call(table: Table, call: RecordedCall, span: Span, created_ms: int, *, values: bool) -> None:
    mark, style = mark_of(call)
    reused = call.ended_at_ms is not None and call.ended_at_ms < created_ms
    took = "" if call.ended_at_ms is None or call.kind == Kind.RUN else ms_text(call.ended_at_ms - call.began_at_ms)
    table.add_row(
        _offset(call.began_at_ms - created_ms),
        span.bar(call),
        _name(call),
        took,
        str(call.attempts) if call.attempts > 1 else "",
        Text(f"{mark} reused" if reused else mark, style=style),
    )
    for error in call.errors:
        table.add_row("", "", Text(f"  {error}", style="red"), "", "", "")
    if values and call.phase == Phase.DONE and call.kind != Kind.SLEEP:
        table.add_row("", "", Text(f"  {_short(call.value)}", style="dim"), "", "", "")


def _offset(milliseconds: int) -> str:
    return f"-{ms_text(-milliseconds)}" if milliseconds < 0 else f"+{ms_text(milliseconds)}" if milliseconds else "0"


def _name(call: RecordedCall) -> Text:
    match call.kind:
        case Kind.STEP:
            return Text(call.name)
        case Kind.RUN:
            return Text(f"{call.name} itself", style="italic")
        case _:
            return Text.assemble(call.name, (f"  {call.kind}", "dim"))
