"""Forgetting finished runs: first they are taken off the books, then their rows are cleared away bit by bit.

Whatever a crash leaves in between is on the list of garbage, and the next purge goes on with it.
"""

from __future__ import annotations

from attrs import frozen

from flowkit.errors import StorageError
from flowkit_disk import keys
from flowkit_disk.book import Book
from flowkit_disk.changes import Changes
from flowkit_disk.ledger import Ledger
from flowkit_disk.logrows import PACKED, Kind, Part, refs, unpack_part, unpack_row
from flowkit_disk.rows import Rows
from flowkit_disk.runrow import Place

RUNS_AT_ONCE = 100
ROWS_AT_ONCE = 1000


@frozen
class Garbage:
    """What is left of a purged run."""

    key: str
    number: int
    position: int  # how long its log still is
    files: list[str]  # those that the next rows to go name


def purge(ledger: Ledger, before_ms: int, limit: int) -> int:
    """Forget runs that finished before a time, and clear away what is left of those that were forgotten."""
    forgotten = 0
    while forgotten < limit:
        some = min(RUNS_AT_ONCE, limit - forgotten)
        count = ledger.change((), 0, lambda book: _forget_some(ledger, book, before_ms, some))  # noqa: B023  # called at once
        forgotten += count
        if count < some:
            break
    while (garbage := _next_garbage(ledger)) is not None:
        with ledger.blobs.retiring(garbage.files):
            ledger.change((), 0, lambda book: clear_away(book.rows, garbage))  # called at once
    return forgotten


def _forget_some(ledger: Ledger, book: Book, before_ms: int, limit: int) -> int:
    ledger.engine.signals.next_epoch()
    return forget_finished(book, before_ms, limit)


def _next_garbage(ledger: Ledger) -> Garbage | None:
    with ledger.engine.writing() as rows:
        return next_garbage(rows)


def forget_finished(book: Book, before_ms: int, limit: int) -> int:
    """Take runs off the books that finished before a time, the oldest first."""
    changes = Changes(book)
    for forgotten in range(limit):
        first = book.rows.first(keys.FINISHED)
        if first is None or keys.due_time(first[0]) >= keys.clamp_ms(before_ms):
            return forgotten
        run = book.run(first[1].decode())
        if run is None or run.place is not Place.FINISHED:
            raise StorageError(
                "the list of finished runs is damaged; nothing was purged"
            )  # X3: never an unfinished one
        changes.forget(run)
    return max(limit, 0)


def next_garbage(rows: Rows) -> Garbage | None:
    """The next purged run that has rows left."""
    first = rows.first(keys.GARBAGE)
    if first is None:
        return None
    number, position = int(first[0][-15:]), int(first[1])
    return Garbage(first[0], number, position, _files_of(rows, number, position))


def _files_of(rows: Rows, number: int, position: int) -> list[str]:
    parts: list[Part] = []
    for key in (keys.input_of(number), keys.result_of(number)):
        data = rows.get(key)
        parts += [] if data is None else [unpack_part(data)]
    for at in range(position, max(0, position - ROWS_AT_ONCE), -1):
        row = rows.get_tagged(keys.entry(number, at))
        parts += [] if row is None else unpack_row(*row).parts
    return [ref.name for ref in refs(parts)]


def clear_away(rows: Rows, garbage: Garbage) -> None:
    """Remove a bounded number of rows of a purged run, the newest first, and say how many are left."""
    if rows.get(garbage.key) != str(garbage.position).encode():
        return  # another process has been here since
    for name in garbage.files:
        rows.drop(keys.blob(name))
    for payload in (keys.input_of(garbage.number), keys.result_of(garbage.number)):
        rows.drop(payload)
    rest = max(0, garbage.position - ROWS_AT_ONCE)
    for at in range(garbage.position, rest, -1):
        _clear_row(rows, garbage.number, at)
    if rest:
        rows.put(garbage.key, str(rest).encode())
    else:
        rows.drop(garbage.key)


def _clear_row(rows: Rows, number: int, position: int) -> None:
    key = keys.entry(number, position)
    found = rows.get_tagged(key)
    if found is None:
        return
    row = unpack_row(*found)
    received = [row.note.message_id] if row.kind is Kind.MESSAGE else row.note.consume
    for message_id in received:
        rows.drop(keys.message(number, message_id))
    rows.drop(key)
    if position % PACKED == 1:
        rows.drop(keys.pack(number, position))
