"""`work_each`: side work over many items, so many at a time (rules W1 to W4)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from attrs import frozen

from flowkit.calls import require_async, take_key
from flowkit.effects import Raised
from flowkit.fan_out import check_concurrency, outcome_of, run_line
from flowkit.lines import Scope
from flowkit.run import Run
from flowkit.side_work import WorkHandle, awaitable_of, callable_of, queued, work_frame, work_name
from flowkit.threads import start


@frozen
class _Piece:
    """One piece of work that has not begun."""

    handle: WorkHandle[Any]
    scope: Scope
    call: Callable[[], Any]


def work_each(calls: Iterable[tuple[Callable[..., Any], object]], *, max_concurrency: int) -> list[WorkHandle[Any]]:
    """Queue side work: each function with its item, all as `work` would, but so many at a time.

    Args:
        calls: a step, a task, a sequencer or a plain function, and the item that it gets.
        max_concurrency: how many run at a time.

    Returns:
        A handle each. One that fails stops no other.
    """
    check_concurrency("work_each", max_concurrency)
    frame = work_frame("work_each")
    run, pieces = frame.run, deque[_Piece]()
    for fn, item in calls:
        name = work_name(fn)
        call = awaitable_of(fn, name) if run.is_async else callable_of(fn, name, run)
        key = take_key(frame, None)
        scope = frame.scope.branch(key.removeprefix(frame.scope.prefix), 0)
        pieces.append(_Piece(WorkHandle(name, run, scope), scope, partial(call, item)))
    handles = [piece.handle for piece in pieces]
    queued(frame, handles)
    if run.is_async:
        require_async(run, "work_each")
    for _ in range(min(max_concurrency, len(pieces))):
        if run.is_async:
            _start_next(run, pieces)
        else:
            _start_lane(run, pieces)
    return handles


def _start_lane(run: Run, pieces: deque[_Piece]) -> None:
    """A thread that takes one piece after the other."""

    def body() -> None:
        while pieces:
            try:
                piece = pieces.popleft()
            except IndexError:  # another lane was faster
                return
            piece.handle.finish(run_line(run, piece.scope, piece.call))

    start(run, body, f"flowkit-work-{run.id}")


def _start_next(run: Run, pieces: deque[_Piece]) -> None:
    while pieces:
        piece = pieces.popleft()
        body = run.body
        if body is None or run.reason is not None:  # the run is let go of: the piece has not begun
            piece.handle.finish(Raised(asyncio.CancelledError()))
            continue
        task = piece.handle.task = body.start_branch(piece.scope, piece.call)
        task.add_done_callback(partial(_finish, run, pieces, piece))
        return


def _finish(run: Run, pieces: deque[_Piece], piece: _Piece, task: asyncio.Task[object]) -> None:
    piece.handle.finish(outcome_of(task))
    _start_next(run, pieces)
