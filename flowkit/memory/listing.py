"""Listing, counting and forgetting runs over the state of a memory storage."""

from __future__ import annotations

from itertools import islice

from flowkit.errors import StorageError
from flowkit.memory.run import Run
from flowkit.memory.state import State
from flowkit.records import Counts, Page, QueueCount, RunQuery


def page(state: State, query: RunQuery, cursor: str | None, limit: int) -> Page:
    """One page, newest first. The cursor is the number of the last run shown, so later runs do not shift pages."""
    numbers = state.index.narrowest(query).below(_bound(cursor, state))
    matching = (run for number in numbers if _fits(run := state.index.runs[number], query))
    runs = list(islice(matching, limit + 1))
    more = len(runs) > limit > 0
    shown = runs[:limit]
    return Page(tuple(run.header() for run in shown), str(shown[-1].seq) if more else None)


def counts(state: State) -> Counts:
    """How many runs there are of each status, and how many are ready and leased in each queue."""
    by_status = {status: len(numbers) for status, numbers in state.index.by_status.items()}
    lanes = sorted((*pair, lane.ready_count, lane.leased_count) for pair, lane in state.lanes.items())
    return Counts(by_status, tuple(QueueCount(*lane) for lane in lanes if lane[2] or lane[3]))


def purge(state: State, before_ms: int, limit: int) -> int:
    """Forget runs that finished before a time, the oldest first."""
    for forgotten in range(limit):
        first = state.finished.first()
        if first is None or first[0][0] >= before_ms:
            return forgotten
        state.forget(first[1])
    return max(limit, 0)


def _fits(run: Run, query: RunQuery) -> bool:
    return (
        query.status in (None, run.status)
        and query.task in (None, run.new.task)
        and (query.tag is None or query.tag in run.new.tags)
    )


def _bound(cursor: str | None, state: State) -> int:
    if cursor is None:
        return state.next_number
    if not cursor.isdecimal():
        raise StorageError(f"{cursor!r} is no cursor of this storage; pass one that an earlier page gave")
    return int(cursor)
