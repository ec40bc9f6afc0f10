"""Reading a run without a lock: read it, then look whether it changed meanwhile.

All that a run goes through either rewrites its row or is appended to its log by its owner. So if the row is the same
after reading as before, what was read belongs together: it is the run as it was at some moment in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flowkit.records import Message, MessageKind, RunHeader, Snapshot
from flowkit_disk import keys
from flowkit_disk.logrows import (
    PACKED,
    Kind,
    LogRow,
    Part,
    entries_before_and_in,
    unpack_entries,
    unpack_many,
    unpack_part,
    unpack_row,
    unpack_tail,
)
from flowkit_disk.rows import Rows
from flowkit_disk.runrow import Place, Run, add_tail, unpack_run

T = TypeVar("T")

_TRIES = 20
Fetch = Callable[[Part], bytes]


class RestlessError(Exception):
    """The run changed during every try. Under the write lock it keeps still."""


def read_header(rows: Rows, run_id: str) -> RunHeader | None:
    """A run's header; None if there is no such run."""
    return _steadily(rows, run_id, lambda run: run.header())


def read_snapshot(rows: Rows, run_id: str, after: int, limit: int | None, fetch: Fetch, now_ms: int) -> Snapshot | None:
    """A run with its payloads and a page of its journal; None if there is no such run."""
    return _steadily(rows, run_id, lambda run: _Reader(rows, run, fetch).snapshot(after, limit, now_ms))


def _steadily(rows: Rows, run_id: str, read: Callable[[Run], T | None]) -> T | None:
    key = keys.run(run_id)
    before = rows.get(key)
    for _ in range(_TRIES):
        if before is None:
            return None
        run = unpack_run(before)
        if run.place is Place.LEASED:
            _add_tail(rows, run)
        found = read(run)
        after = rows.get(key)
        if found is not None and after == before:
            return found
        before = after
    raise RestlessError(f"{run_id!r}: it changes faster than it can be read, or a row or file of it is missing")


def _add_tail(rows: Rows, run: Run) -> None:
    last = _last_position(rows, run)
    if last > run.position:
        found = rows.get_tagged(keys.entry(run.number, last))
        if found is not None:
            add_tail(run, last, *unpack_tail(found[1]))


def _last_position(rows: Rows, run: Run) -> int:
    """The log has no holes, so its end is found by doubling steps and halving them again."""
    known, step = run.position, 1
    while rows.has(keys.entry(run.number, known + step)):
        known += step
        step *= 2
    while step > 1:
        step //= 2
        if rows.has(keys.entry(run.number, known + step)):
            known += step
    return known


class _Reader:
    """Reads the log of one run. A row that is missing means that the run was purged meanwhile."""

    def __init__(self, rows: Rows, run: Run, fetch: Fetch) -> None:
        self._rows = rows
        self._run = run
        self._fetch = fetch

    def snapshot(self, after: int, limit: int | None, now_ms: int) -> Snapshot | None:
        try:
            run = self._run
            return Snapshot(
                header=run.header(),
                input=self._payload(run.input, keys.input_of(run.number)),
                result=self._payload(run.result, keys.result_of(run.number)) if run.has_result else None,
                entries=self._entries(after, limit),
                inbox=self._inbox(),
                now_ms=now_ms,
            )
        except LookupError:
            return None

    def _payload(self, inline: bytes | None, key: str) -> bytes:
        return inline if inline is not None else self._fetch(unpack_part(_found(self._rows.get(key))))

    def _entries(self, after: int, limit: int | None) -> tuple[bytes, ...]:
        run = self._run
        end = run.length if limit is None else min(run.length, after + limit)
        found: list[bytes] = []
        position = self._position_after(after) if after < end else run.position + 1
        while position <= run.position and after + len(found) < end:
            base, parts, position = self._rows_at(position)
            skipped = max(0, after - base)
            wanted = end - after - len(found)
            found += [
                part if isinstance(part, bytes) else self._fetch(part) for part in parts[skipped : skipped + wanted]
            ]
        return tuple(found)

    def _rows_at(self, position: int) -> tuple[int, tuple[Part, ...], int]:
        """The entries of a row, or of many if there is a copy of them; how many stand before; where to go on."""
        if position % PACKED == 1 and position + PACKED <= self._run.position + 1:
            many = self._rows.get_tagged(keys.pack(self._run.number, position))
            if many is not None:
                return *unpack_many(*many), position + PACKED
        return *unpack_entries(*self._packed(position)), position + 1

    def _position_after(self, after: int) -> int:
        """The first row of the log that holds an entry behind that many."""
        low, high = 1, self._run.position
        while low < high and after:
            middle = (low + high) // 2
            before, count = entries_before_and_in(self._packed(middle)[1])
            if before + count > after:
                high = middle
            else:
                low = middle + 1
        return low

    def _inbox(self) -> tuple[Message, ...]:
        run = self._run
        waiting: dict[str, Message] = {}
        if run.inbox:
            for position in range(run.floor + 1, run.position + 1):
                row = unpack_row(*self._packed(position))
                for message_id in row.note.consume:
                    waiting.pop(message_id, None)
                if row.kind is Kind.MESSAGE and row.note.message_kind != MessageKind.CANCEL:
                    waiting[row.note.message_id] = self._message(row)
        return tuple(waiting.values())

    def _message(self, row: LogRow) -> Message:
        note = row.note
        return Message(note.message_id, MessageKind(note.message_kind), note.message_name, self._fetch(row.parts[0]))

    def _packed(self, position: int) -> tuple[bytes, str]:
        return _found(self._rows.get_tagged(keys.entry(self._run.number, position)))


def _found(data: T | None) -> T:
    if data is None:
        raise LookupError
    return data
