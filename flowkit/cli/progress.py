"""Progress of a run, on stderr: live on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import AbstractContextManager, nullcontext

import click

from flowkit.cli.events import Happened, event_text
from flowkit.cli.watch import Board, Listener

LINES_EACH = 40  # so many steps are told one by one; later ones are counted
COUNT_EVERY_S = 1.0


class Silent:
    """Shows nothing."""

    def happened(self, board: Board, event: Happened) -> None:
        """Does nothing."""


class Lines:
    """A line for each step of a short run; counts, once a second, for what follows. Failures always get their line."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told = 0
        self._next_count_s = 0.0

    def happened(self, board: Board, event: Happened) -> None:
        """Print it, or count it."""
        with self._lock:
            if event.what != "done" or self._told < LINES_EACH:
                self._told += 1
                print_line(event_text(event))
                return
            now_s = time.monotonic()
            if now_s >= self._next_count_s:
                self._next_count_s = now_s + COUNT_EVERY_S
                print_line(f"… {board.done:,} steps done")


def print_line(text: str) -> None:
    """A line on stderr, in the encoding that it has."""
    click.echo(text, err=True)


def listener(*, silent: bool) -> Listener:
    """What to tell of the events: a terminal is drawn from the board alone."""
    return Silent() if silent or sys.stderr.isatty() else Lines()


def drawn(board: Board, title: str, *, silent: bool) -> AbstractContextManager[object]:
    """Draw the board on the terminal while the block runs, if there is one."""
    if silent or not sys.stderr.isatty():
        return nullcontext()
    from flowkit.cli.screen import live  # noqa: PLC0415  # rich is loaded where there is a screen

    return live(board, title)
