"""What a person sees while a run runs."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from flowkit.cli.events import Happened, event_text
from flowkit.cli.progress import LINES_EACH, Lines, Silent, drawn, listener
from flowkit.cli.screen import MOST_ACTIVE, Picture
from flowkit.cli.watch import Active, Board, Watch
from flowkit.flow import Flow

Call = Callable[..., Any]


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """Yes."""
        return True


def picture(board: Board) -> str:
    """The live picture as plain text."""
    console = Console(file=io.StringIO(), width=100, legacy_windows=False)
    console.print(Picture(board, "the title"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_lines_of_a_long_run_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """After the first steps only counts are told, at most once a second, but failures always."""
    lines, board = Lines(), Board()
    for number in range(LINES_EACH + 100):
        board.done = number + 1
        lines.happened(board, Happened("done", f"step{number}", 0.001))
    lines.happened(board, Happened("failed", "bad", 0.001, "ValueError: no"))
    told = capsys.readouterr().err.splitlines()
    assert told[LINES_EACH - 1].startswith(f"✓ step{LINES_EACH - 1}")
    assert told[LINES_EACH] == f"… {LINES_EACH + 1} steps done"
    assert told[-1] == "✗ bad  1 ms  ValueError: no"
    assert len(told) < LINES_EACH + 50


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Happened("done", "charge", 0.25), "✓ charge  250 ms"),
        (Happened("failed", "charge", 0.25, "OSError: no"), "✗ charge  250 ms  OSError: no"),
        (Happened("retry", "charge", 0, "OSError: no"), "↻ charge failed, will be tried again: OSError: no"),
        (Happened("again", "order", 0, ""), "↻ order starts over after an error"),
        (Happened("waits", "sleep", 90), "… sleep waits 1m 30s"),
        (Happened("replayed", "order", detail="1"), "» 1 completed step answered from the journal"),
        (Happened("replayed", "order", detail="1200"), "» 1,200 completed steps answered from the journal"),
    ],
)
def test_events_are_told_in_a_line(event: Happened, text: str) -> None:
    """Each event has its sign and its words."""
    assert event_text(event) == text


def test_picture_shows_what_is_under_way() -> None:
    """The picture holds what has just ended, what runs, what waits, and the counts."""
    board = Board(done=3, failed=1, retries=2, replayed=1000, waiting="sleep")
    board.recent.append(Happened("done", "reserve", 0.25))
    board.active["r", "1"] = Active("charge", 2, 0.0)
    text = picture(board)
    assert "the title" in text
    assert "✓ reserve  250 ms" in text
    assert "charge" in text
    assert "attempt 2" in text
    assert "waiting: sleep" in text
    assert "3 done · 1,000 from the journal · 2 retries · 1 failed" in text


def test_picture_stays_small() -> None:
    """Of very many steps side by side a few are drawn and the rest counted."""
    board = Board()
    for number in range(50):
        board.active["r", str(number)] = Active("charge", 1, 0.0)
    assert f"and {50 - MOST_ACTIVE} more under way" in picture(board)


def test_terminal_gets_the_picture_and_no_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal progress is drawn, elsewhere told line by line, and with --quiet not at all."""
    assert isinstance(listener(silent=False), Lines)
    assert isinstance(listener(silent=True), Silent)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert isinstance(listener(silent=False), Silent)
    with drawn(Board(done=7), "the title", silent=False):
        pass
    assert "7 done" in terminal.getvalue()


def test_watch_changes_nothing_and_keeps_the_counts(shop: str) -> None:
    """The probe counts what ends, and the error that a body raised here keeps its traceback."""
    from flowkit.cli.loading import load_task  # noqa: PLC0415  # the code under test is a file of this test

    board, told = Board(), list[Happened]()

    class Listener:
        """Keeps what it is told."""

        def happened(self, board: Board, event: Happened) -> None:
            """Keep it."""
            del board
            told.append(event)

    task = load_task(f"{shop}:refuse")
    with Flow("memory:", worker=False) as flow:
        flow.engine.probe = Watch(board, Listener())
        with pytest.raises(Exception, match="no reason"):
            flow.run(task.options(run_id="r"), "no reason")
    assert (board.done, board.failed, board.active) == (1, 1, {})
    assert [(event.what, event.name) for event in told] == [("done", "reserve"), ("failed", "raise_it")]
    assert board.errors["r"].__traceback__ is not None
