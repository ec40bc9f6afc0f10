"""The live picture of a run on a terminal: what has just finished, what is under way, and the counts."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from flowkit.cli.events import COLOURS, event_text
from flowkit.cli.times import seconds_text
from flowkit.cli.watch import Board

REDRAWS_PER_S = 8
MOST_ACTIVE = 8


class Picture:
    """Draws the board anew each time it is rendered."""

    def __init__(self, board: Board, title: str) -> None:
        self._board = board
        self._title = title
        self._began_s = time.monotonic()
        self._spinner = Spinner("dots")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        board, now_s = self._board, time.monotonic()
        with board.lock:
            recent, active = tuple(board.recent), tuple(board.active.values())
            done, failed, retries, replayed = board.done, board.failed, board.retries, board.replayed
            waiting = board.waiting
        yield Text.assemble((self._title, "bold"), f"  {seconds_text(now_s - self._began_s)}")
        for event in recent:
            yield Text(event_text(event), style=COLOURS[event.what], no_wrap=True, overflow="ellipsis")
        frame = str(self._spinner.render(now_s))
        for step in active[:MOST_ACTIVE]:
            again = f"  attempt {step.attempt}" if step.attempt > 1 else ""
            yield Text(f"{frame} {step.name}  {seconds_text(now_s - step.since_s)}{again}", no_wrap=True)
        if len(active) > MOST_ACTIVE:
            yield Text(f"  and {len(active) - MOST_ACTIVE} more under way")
        if waiting:
            yield Text(f"… waiting: {waiting}", style="cyan")
        yield Text(_counts(done, replayed, retries, failed), style="dim")


def _counts(done: int, replayed: int, retries: int, failed: int) -> str:
    parts = [f"{done:,} done"]
    parts += [f"{count:,} {what}" for count, what in ((replayed, "from the journal"), (retries, "retries")) if count]
    return "  " + " · ".join([*parts, f"{failed:,} failed"] if failed else parts)


@contextmanager
def live(board: Board, title: str) -> Iterator[None]:
    """Keep the picture on the terminal while the block runs, and take it away after."""
    console = Console(stderr=True, highlight=False)
    picture = Picture(board, title)
    # What the task prints goes above the picture, unless stdout is a pipe, where it belongs.
    with Live(
        picture,
        console=console,
        refresh_per_second=REDRAWS_PER_S,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=True,
    ):
        yield
