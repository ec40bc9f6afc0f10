"""Listing and counting runs by their blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from flowkit.errors import StorageError
from flowkit.records import Counts, Page, QueueCount, RunHeader, RunQuery, RunStatus
from flowkit_disk import keys
from flowkit_disk.blocks import NOBODY, Block, block_of, codes_of, number_of, status_of
from flowkit_disk.book import run_id_of
from flowkit_disk.lanes import Lanes
from flowkit_disk.reading import read_header
from flowkit_disk.rows import Rows
from flowkit_disk.runrow import Place

LOOKED_AT_MOST = 20_000  # runs whose rows one call reads in search of a tag; the cursor goes on from there
_READY = codes_of(places=frozenset({Place.READY}))
_LEASED = codes_of(places=frozenset({Place.LEASED}))


def page(rows: Rows, lanes: Lanes, extent: tuple[int, int], query: RunQuery, cursor: str | None, limit: int) -> Page:
    """One page, newest first. The cursor is the number of the last run looked at, so later runs do not shift pages."""
    found: list[RunHeader] = []
    previous: str | None = None
    for looked, number in enumerate(_candidates(rows, lanes, extent, query, cursor)):
        if looked >= LOOKED_AT_MOST:
            return Page(tuple(found), previous)
        header = _header(rows, number, query)
        if header is not None:
            if len(found) == limit:
                return Page(tuple(found), previous if limit > 0 else None)
            found.append(header)
            previous = str(number)
        elif len(found) < limit:
            previous = str(number)
    return Page(tuple(found), None)


def counts(rows: Rows, lanes: Lanes, extent: tuple[int, int]) -> Counts:
    """How many runs there are of each status, and how many are ready and leased in each queue."""
    codes: Counter[int] = Counter()
    ready: Counter[int] = Counter()
    leased: Counter[int] = Counter()
    for _, block in _blocks(rows, *extent):
        codes.update(block.codes)
        ready.update(block.lanes[place] for place in block.places(_READY))
        leased.update(block.lanes[place] for place in block.places(_LEASED))
    by_status = dict.fromkeys(RunStatus, 0)
    for value, count in codes.items():
        if value != NOBODY:
            by_status[status_of(value)] += count
    queues = sorted((*lanes.name(rows, lane), ready[lane], leased[lane]) for lane in ready.keys() | leased.keys())
    return Counts(by_status, tuple(QueueCount(*queue) for queue in queues))


def _candidates(
    rows: Rows, lanes: Lanes, extent: tuple[int, int], query: RunQuery, cursor: str | None
) -> Iterator[int]:
    """The numbers of runs that may fit, newest first."""
    first, last = extent
    below = number_of(last + 1, 0)
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdecimal()):
            raise StorageError(f"{cursor!r} is no cursor of this storage; pass one that an earlier page gave")
        below = min(below, int(cursor))
    wanted = codes_of(None if query.status is None else frozenset({query.status}))
    in_task = None if query.task is None else _lanes_of(rows, lanes, query.task)
    for number, block in _blocks(rows, first, min(last, block_of(max(below, 1))[0])):
        for place in block.places(wanted):
            if number_of(number, place) < below and (in_task is None or block.lanes[place] in in_task):
                yield number_of(number, place)


def _blocks(rows: Rows, first: int, last: int) -> Iterator[tuple[int, Block]]:
    for number in range(last, first - 1, -1):
        data = rows.get(keys.block(number))
        if data is not None:
            yield number, Block(data)


def _lanes_of(rows: Rows, lanes: Lanes, task: str) -> frozenset[int]:
    return frozenset(lane for lane in range(1, lanes.count(rows) + 1) if lanes.name(rows, lane)[1] == task)


def _header(rows: Rows, number: int, query: RunQuery) -> RunHeader | None:
    """The header of a run, if it is still there and fits."""
    run_id = run_id_of(rows, number)
    header = None if run_id is None else read_header(rows, run_id)
    if header is None:
        return None
    fits = (
        query.status in (None, header.status)
        and query.task in (None, header.task)
        and (query.tag is None or query.tag in header.tags)
    )
    return header if fits else None
