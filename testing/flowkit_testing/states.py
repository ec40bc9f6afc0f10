"""What a storage holds, in a form in which two states that lead to the same are equal.

Ids of leases, fences and times are left out: a process that takes a run up does the same whatever they are.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from attrs import define, field

from flowkit.codec import Codec, Json
from flowkit.entries import Entry, Kind, Phase, decode
from flowkit.records import Message, MessageKind, RunHeader, RunQuery, Snapshot
from flowkit.storage import Storage

State = Hashable
Settled = tuple[str, bytes | None, dict[str, list[tuple[str, ...]]]]  # status, result, entries by operation


def headers(storage: Storage) -> Iterator[RunHeader]:
    """All runs that a storage has."""
    cursor: str | None = None
    while True:
        page = storage.list_runs(RunQuery(), cursor, 100)
        yield from page.headers
        cursor = page.cursor
        if cursor is None:
            return


@define
class StateReader:
    """Reads states, and remembers the entries that it has seen."""

    codec: Codec
    _seen: dict[bytes, tuple[str, ...]] = field(factory=dict)

    def read(self, storage: Storage) -> State:
        """All that is stored, without times."""
        runs = sorted(header.run_id for header in headers(storage))
        return tuple(self._run(snapshot) for run_id in runs if (snapshot := storage.load(run_id)) is not None)

    def _run(self, snapshot: Snapshot) -> State:
        header = snapshot.header
        return (
            header.run_id,
            header.status,
            header.worker is not None,
            header.wake_at_ms is not None,
            header.cancel,
            tuple((message.id, self._payload(message)) for message in snapshot.inbox),
            snapshot.result,
            tuple(self._entry(raw) for raw in snapshot.entries),
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


def timeless(entry: Entry) -> tuple[str, ...]:
    """An entry without the times in it."""
    return (entry.kind, entry.phase, entry.key, entry.name, entry.args, repr(_timeless_data(entry)))


def _timeless_data(entry: Entry) -> Json:
    if entry.phase == Phase.ATTEMPT and isinstance(entry.data, dict):
        return {name: value for name, value in entry.data.items() if name != "retry_at"}
    if entry.kind == Kind.SLEEP or (entry.kind == Kind.EVENT and entry.phase == Phase.BEGUN):
        return None
    return entry.data


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
