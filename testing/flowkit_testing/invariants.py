"""What must hold of every journal, whatever happened to the run on the way. Each check names the rule it holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from flowkit.codec import Codec
from flowkit.entries import Entry, Kind, Phase, decode
from flowkit.rollback import undo_key
from flowkit.storage import Storage
from flowkit_testing.states import headers

_OUTCOMES = frozenset({Phase.DONE, Phase.FAILED, Phase.CANCELLED})
_UNDO_MARK = undo_key("")


def broken_rules(storage: Storage, codec: Codec) -> Iterator[str]:
    """All that is wrong with the journals of a storage."""
    for header in headers(storage):
        snapshot = storage.load(header.run_id)
        if snapshot is None:
            continue
        entries = [decode(codec, raw) for raw in snapshot.entries]
        for check in (_undos_newest_first, _undos_of_completed, _timers_keep_their_time):
            yield from (f"{wrong} (run {header.run_id!r})" for wrong in check(entries))


def _undos_newest_first(entries: Sequence[Entry]) -> Iterator[str]:
    """G1: newest first, in reverse order of recording."""
    done = {entry.key: position for position, entry in enumerate(entries) if entry.phase == Phase.DONE}
    for entry in entries:
        if entry.phase != Phase.ROLLBACK:
            continue
        keys = _listed(entry)
        positions = [done[key] for key in keys if key in done]
        if positions != sorted(positions, reverse=True):
            yield f"G1: the rollback of {entry.name!r} undoes {', '.join(keys)}, which is not newest first"
        undone = [key for key in _undone(entries) if key in keys]
        if undone != [key for key in keys if key in undone]:
            yield f"G3: the rollback of {entry.name!r} was to undo {', '.join(keys)} and undid {', '.join(undone)}"


def _undos_of_completed(entries: Sequence[Entry]) -> Iterator[str]:
    """G1, G3: only what was completed is undone, and once."""
    seen: set[str] = set()
    done: set[str] = set()
    for entry in entries:
        if entry.kind != Kind.UNDO:
            if entry.phase == Phase.DONE:
                done.add(entry.key)
        elif entry.phase == Phase.DONE:
            key = entry.key.removesuffix(_UNDO_MARK)
            if key in seen:
                yield f"G3: operation {key} was undone twice"
            seen.add(key)


def _timers_keep_their_time(entries: Sequence[Entry]) -> Iterator[str]:
    """E4: a timer is set once, and never rings early."""
    wakes: dict[str, int] = {}
    for entry in entries:
        if entry.kind != Kind.SLEEP:
            continue
        if entry.phase == Phase.BEGUN and isinstance(entry.data, int):
            if entry.key in wakes:
                yield f"E4: timer {entry.key} was set twice"
            wakes[entry.key] = entry.data
        elif entry.phase == Phase.DONE and entry.at_ms < wakes.get(entry.key, 0):
            yield f"E4: timer {entry.key} rang {wakes[entry.key] - entry.at_ms} ms early"


def _listed(entry: Entry) -> list[str]:
    assert isinstance(entry.data, dict)  # written by flowkit.rollback
    keys = entry.data["undos"]
    assert isinstance(keys, list)
    return [str(key) for key in keys]


def _undone(entries: Iterable[Entry]) -> list[str]:
    """The operations whose undos are settled, in that order, each once."""
    settled = (entry for entry in entries if entry.kind == Kind.UNDO and entry.phase in _OUTCOMES)
    return list(dict.fromkeys(entry.key.removesuffix(_UNDO_MARK) for entry in settled))
