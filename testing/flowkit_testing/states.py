"""What a storage holds, in a form in which two states that lead to the same are equal.

Ids of leases, fences and times are left out: a process that takes a run up does the same whatever they are.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import cast

from attrs import define, field

from flowkit.codec import Codec, Json
from flowkit.entries import Entry, Kind, Phase, decode, split
from flowkit.records import Message, MessageKind, RunHeader, RunQuery, Snapshot
from flowkit.storage import Storage
from flowkit_testing import bystander
from flowkit_testing.log import LoggedStorage

State = Hashable
_WAITS = frozenset({Kind.EVENT, Kind.WAIT, Kind.CONVERGE})  # what they have begun with is a time
Settled = tuple[str, bytes | None, dict[str, list[tuple[str, ...]]]]  # status, result, entries by operation


def headers(storage: Storage) -> Iterator[RunHeader]:
    """All runs that a storage has, but for a bystander."""
    cursor: str | None = None
    while True:
        page = storage.list_runs(RunQuery(), cursor, 100)
        yield from (header for header in page.headers if header.run_id != bystander.RUN_ID)
        cursor = page.cursor
        if cursor is None:
            return


@define
class StateReader:
    """Reads states, and remembers the entries that it has seen."""

    codec: Codec
    _seen: dict[bytes, tuple[str, ...]] = field(factory=dict)

    def of_run(self, snapshot: Snapshot, before: tuple[tuple[str, ...], ...] = ()) -> tuple[Hashable, ...]:
        """A run without times; `before` are the entries that were read earlier, which the snapshot leaves out."""
        header = snapshot.header
        return (
            header.run_id,
            header.status,
            header.worker is not None,
            header.wake_at_ms is not None,
            header.cancel,
            tuple((message.id, self._payload(message)) for message in snapshot.inbox),
            snapshot.result,
            (*before, *(self._entry(raw) for raw in snapshot.entries)),
        )

    def _payload(self, message: Message) -> Hashable:
        """What was sent, without when."""
        if message.kind is not MessageKind.EVENT:
            return message.payload
        document = self.codec.loads(message.payload)
        return repr(document.get("payload")) if isinstance(document, dict) else message.payload

    def _entry(self, raw: bytes) -> tuple[str, ...]:
        known = self._seen.get(raw)
        if known is None:
            known = self._seen[raw] = timeless(decode(self.codec, raw))
        return known


@define
class Watched:
    """What a logged storage holds, read again only where something was changed."""

    storage: LoggedStorage
    reader: StateReader
    _runs: dict[str, tuple[Hashable, ...]] = field(factory=dict)
    _state: State = ()

    def state(self) -> State:
        """All that is stored, without times."""
        with self.storage.lock:
            if self.storage.touched:
                self._read_touched()
                self._state = tuple(self._runs[run_id] for run_id in sorted(self._runs))
            return self._state

    def _read_touched(self) -> None:
        touched, self.storage.touched = self.storage.touched, {}
        for run_id in touched:
            before = self._runs.get(run_id)
            entries = cast("tuple[tuple[str, ...], ...]", before[-1]) if before is not None else ()
            snapshot = self.storage.load(run_id, len(entries))
            if snapshot is not None:
                self._runs[run_id] = self.reader.of_run(snapshot, entries)


def timeless(entry: Entry) -> tuple[str, ...]:
    """An entry without the times in it."""
    return (entry.kind, entry.phase, entry.key, entry.name, entry.args, repr(_timeless_data(entry)))


def _timeless_data(entry: Entry) -> Json:
    if entry.phase == Phase.ATTEMPT and isinstance(entry.data, dict):
        return {name: value for name, value in entry.data.items() if name != "retry_at"}
    if entry.kind == Kind.SLEEP or (entry.kind in _WAITS and entry.phase == Phase.BEGUN):
        return None
    return entry.data


def time_in_steps_ms(storage: Storage) -> int:
    """How long the recorded attempts of all steps and undos took together."""
    snapshots = (storage.load(header.run_id) for header in headers(storage))
    return sum(
        took_ms
        for snapshot in snapshots
        if snapshot is not None
        for _, kind, *_, took_ms in (split(raw)[0] for raw in snapshot.entries)
        if kind in {Kind.STEP, Kind.UNDO}
    )


def settled(storage: Storage, codec: Codec) -> dict[str, Settled]:
    """How all runs have ended: status, result, and the entries of each operation. Order between operations is free."""
    found: dict[str, Settled] = {}
    for header in headers(storage):
        snapshot = storage.load(header.run_id)
        if snapshot is None:
            continue
        operations: dict[str, list[tuple[str, ...]]] = {}
        for raw in snapshot.entries:
            entry = decode(codec, raw)
            operations.setdefault(entry.key, []).append(timeless(entry))
        found[header.run_id] = (str(header.status), snapshot.result, operations)
    return found
