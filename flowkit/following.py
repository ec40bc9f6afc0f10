"""Read the items of a run, and follow them while it goes on: only what lies after the cursor is read.

An item is an entry of the run's journal, or follows from where one stands in it. The entry at position p makes the item
of `seq` 2p, and one of 2p - 1 for a status that it shows to have begun before it. So cursors need no storage.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

from flowkit.codec import Json
from flowkit.codec.errors import error_text
from flowkit.engine import Engine
from flowkit.entries import RUN_KEY, Entry, Kind, Phase, decode, kind_and_phase
from flowkit.errors import ConfigurationError, RunNotFound
from flowkit.frozen import frozen
from flowkit.items import Item, ItemType, emitted
from flowkit.plans import LONGEST_VIRTUAL_WAIT_S, LONGEST_WAIT_S
from flowkit.records import RunHeader, RunStatus

PAGE = 500  # entries read at a time

_STATUS_OF = {
    Phase.WAITING: RunStatus.WAITING,
    Phase.FAILED: RunStatus.FAILED,
    Phase.CANCELLED: RunStatus.CANCELLED,
    Phase.ROLLBACK: RunStatus.COMPENSATING,
    Phase.REOPENED: RunStatus.RUNNING,
}


@frozen
class StoredItem:
    """An item with its data as stored, for whoever only shows it."""

    seq: int
    type: ItemType
    name: str
    data: Json
    at_ms: int


class Follower:
    """Reads the items of one run, a page at a time.

    Args:
        engine: where the run is stored.
        run_id: which run.
        after: the cursor: only items of a greater `seq` are read.
        follow: wait for what is still to come, until the run has ended.
    """

    def __init__(self, engine: Engine, run_id: str, after: int = 0, *, follow: bool = False) -> None:
        if not isinstance(after, int) or after < 0:
            raise ConfigurationError(f"items(after={after!r}): write the seq of an item, or 0")
        self._engine = engine
        self._run_id = run_id
        self._after = after
        self._follow = follow
        self._position = max(0, after // 2 - 1)  # entries read; one before the cursor tells what came before it
        self._waited = False  # the entry at `position` says that the run went to wait
        self._header: RunHeader | None = None

    def page(self) -> list[StoredItem] | None:
        """The next items, none of them if none came for a while; None: there are no more.

        Raises:
            RunNotFound: there is no such run (any more).
        """
        if self._header is not None and not self._wait(self._header):
            return None
        snapshot = self._engine.storage.load(self._run_id, self._position, PAGE)
        if snapshot is None:
            raise RunNotFound(f"there is no run {self._run_id!r} in this storage")
        found = [item for raw in snapshot.entries for item in self._items_of(raw)]
        if self._position >= snapshot.header.length:
            found += _at_the_end(snapshot.header)
        self._header = snapshot.header
        return [item for item in found if item.seq > self._after]

    def _wait(self, header: RunHeader) -> bool:
        """Wait until there may be more; False if there will not be."""
        if self._position < header.length:
            return True
        if not self._follow or header.status.finished or header.status is RunStatus.BLOCKED:
            return False
        wait_s = LONGEST_VIRTUAL_WAIT_S if self._engine.clock.virtual else LONGEST_WAIT_S
        self._engine.storage.wait_for_run(self._run_id, header.revision, wait_s)
        return True

    def _items_of(self, raw: bytes) -> Iterator[StoredItem]:
        self._position += 1
        kind, phase = kind_and_phase(raw)
        begins = self._position == 1 or self._waited
        self._waited = kind == Kind.RUN and phase == Phase.WAITING
        of_interest = kind == Kind.ITEM or phase == Phase.ROLLBACK or (kind == Kind.RUN and phase in _STATUS_OF)
        if not begins and not of_interest:
            return
        entry = decode(self._engine.codec, raw)
        if begins and entry.phase != Phase.REOPENED:
            yield _status(2 * self._position - 1, RunStatus.RUNNING, entry.at_ms - entry.took_ms)
        if of_interest:
            yield _item(2 * self._position, entry)


def _item(seq: int, entry: Entry) -> StoredItem:
    if entry.kind != Kind.ITEM:
        status = next(status for phase, status in _STATUS_OF.items() if phase == entry.phase)
        error = entry.data.get("error", entry.data.get("cause")) if isinstance(entry.data, dict) else None
        return _status(seq, status, entry.at_ms, error if entry.key == RUN_KEY else None)
    if emitted(entry):
        return StoredItem(seq, ItemType.EMIT, entry.name, entry.data, entry.at_ms)
    assert isinstance(entry.data, dict)  # as `items` writes it
    work = str(entry.data["work"])
    data: Json = {"work": work, "error": error_text(entry.data["error"])}
    return StoredItem(seq, ItemType.STEP_ERROR, work, data, entry.at_ms)


def _status(seq: int, status: RunStatus, at_ms: int, error: Json = None) -> StoredItem:
    return StoredItem(seq, ItemType.STATUS, str(status), None if error is None else {"error": error_text(error)}, at_ms)


def _at_the_end(header: RunHeader) -> list[StoredItem]:
    """How the run stands, where no entry says so."""
    if header.status not in {RunStatus.SUCCEEDED, RunStatus.BLOCKED}:
        return []
    return [_status(2 * header.length + 1, header.status, header.finished_at_ms or header.updated_at_ms)]


def items_of(engine: Engine, run_id: str, after: int, *, follow: bool) -> Iterator[Item]:
    """The items of a run, each as soon as it is there."""
    follower = Follower(engine, run_id, after, follow=follow)
    while (page := follower.page()) is not None:
        yield from _rebuilt(engine, page)


async def items_of_async(engine: Engine, run_id: str, after: int, *, follow: bool) -> AsyncIterator[Item]:
    """As `items_of`, without blocking the event loop."""
    follower = Follower(engine, run_id, after, follow=follow)
    while (page := await asyncio.to_thread(follower.page)) is not None:
        for item in _rebuilt(engine, page):
            yield item


def _rebuilt(engine: Engine, page: list[StoredItem]) -> Iterator[Item]:
    for item in page:
        at = datetime.fromtimestamp(item.at_ms / 1000, UTC)
        yield Item(item.seq, item.type, item.name, engine.codec.from_json(item.data), at)
