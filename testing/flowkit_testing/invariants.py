"""What must hold of every journal, whatever happened to the run on the way. Each check names the rule it holds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from flowkit.codec import Codec
from flowkit.entries import RUN_KEY, Entry, Kind, Phase, decode
from flowkit.records import RunHeader, RunStatus
from flowkit.registry import tasks
from flowkit.rollback import undo_key
from flowkit.storage import Storage
from flowkit_testing.checks import Check
from flowkit_testing.states import headers

_OUTCOMES = frozenset({Phase.DONE, Phase.FAILED, Phase.CANCELLED})
_UNDO_MARK = undo_key("")
_ONE_AFTER_ANOTHER = frozenset({Kind.STEP, Kind.SLEEP, Kind.EVENT})
_UNDONE_STATUSES = frozenset({RunStatus.FAILED, RunStatus.CANCELLED})


def broken_rules(storage: Storage, codec: Codec, undoable: Collection[tuple[str, str]] = ()) -> Iterator[str]:
    """All that is wrong with the journals of a storage.

    Args:
        storage: where they are.
        codec: how they are encoded.
        undoable: run and key of the steps that have an undo.
    """
    for header in headers(storage):
        snapshot = storage.load(header.run_id)
        if snapshot is None:
            continue
        entries = [decode(codec, raw) for raw in snapshot.entries]
        with_undo = {key for run_id, key in undoable if run_id == header.run_id}
        for wrong in (
            *_undos_newest_first(entries),
            *_undos_of_completed(entries),
            *_all_undone(header, entries, with_undo),
            *_no_turning_round(header, entries),
            *_timers_keep_their_time(entries),
            *_nothing_under_way(header, entries),
            *_final_failures_are_final(entries),
        ):
            yield f"{wrong} (run {header.run_id!r})"


def _undos_newest_first(entries: Sequence[Entry]) -> Iterator[str]:
    """G1: newest first, in reverse order of recording."""
    done = {entry.key: position for position, entry in enumerate(entries) if entry.phase == Phase.DONE}
    for entry in entries:
        if entry.phase != Phase.ROLLBACK:
            continue
        keys = _listed(entry)
        positions = [done[key] for key in keys if key in done]
        if positions != sorted(positions, reverse=True):
            yield Check.UNDOS.broken(
                f"G1: the rollback of {entry.name!r} undoes {', '.join(keys)}, which is not newest first"
            )
        undone = [key for key in _undone(entries) if key in keys]
        if undone != [key for key in keys if key in undone]:
            yield Check.UNDOS.broken(
                f"G3: the rollback of {entry.name!r} was to undo {', '.join(keys)} and undid {', '.join(undone)}"
            )


def _undos_of_completed(entries: Sequence[Entry]) -> Iterator[str]:
    """G1, G3: only what was completed is undone, and once."""
    seen: set[str] = set()
    done: set[str] = set()
    listed: set[str] = set()
    for entry in entries:
        if entry.phase == Phase.ROLLBACK:
            listed.update(_listed(entry))
        if entry.kind != Kind.UNDO:
            if entry.phase == Phase.DONE:
                done.add(entry.key)
        elif entry.phase == Phase.DONE:
            key = entry.key.removesuffix(_UNDO_MARK)
            if key in seen:
                yield Check.UNDOS.broken(f"G3: operation {key} was undone twice")
            if key not in listed:
                yield Check.UNDOS.broken(f"G3: operation {key} was undone, which is on the list of no rollback")
            seen.add(key)


def _all_undone(header: RunHeader, entries: Sequence[Entry], with_undo: Collection[str]) -> Iterator[str]:
    """G1: a run that has failed or was cancelled has undone all that it had completed."""
    if header.status not in _UNDONE_STATUSES:
        return
    settled = set(_undone(entries))
    for entry in entries:
        if entry.phase == Phase.DONE and entry.key in with_undo and entry.key not in settled:
            yield Check.UNDOS.broken(
                f"G1: {entry.kind} {entry.name!r} (operation {entry.key}) was completed and never undone, though the "
                f"run ended {header.status}"
            )


def _no_turning_round(header: RunHeader, entries: Sequence[Entry]) -> Iterator[str]:
    """G3: once the rollback of a run has begun, it goes to its end, and nothing else does."""
    begun: Entry | None = None
    for entry in entries:
        if entry.key == RUN_KEY and entry.phase in {Phase.ROLLBACK, Phase.REOPENED}:
            begun = entry if entry.phase == Phase.ROLLBACK else None
        elif begun is not None and entry.kind not in {Kind.UNDO, Kind.ITEM} and entry.key != RUN_KEY:
            yield Check.ROLLBACK_GOES_ON.broken(
                f"G3: {entry.kind} {entry.name!r} (operation {entry.key}) was recorded after the rollback had begun"
            )
    if begun is None or not header.status.finished:
        return
    if header.status is RunStatus.SUCCEEDED:
        yield Check.ROLLBACK_GOES_ON.broken("G3: the run has succeeded after its rollback had begun")
    left = [key for key in _listed(begun) if key not in set(_undone(entries))]
    if left:
        yield Check.ROLLBACK_GOES_ON.broken(f"G3: the rollback ended without undoing {', '.join(left)}")


def _timers_keep_their_time(entries: Sequence[Entry]) -> Iterator[str]:
    """E4: a timer is set once, and never rings early."""
    wakes: dict[str, int] = {}
    for entry in entries:
        if entry.kind != Kind.SLEEP:
            continue
        if entry.phase == Phase.BEGUN and isinstance(entry.data, int):
            if entry.key in wakes:
                yield Check.ENDS.broken(f"E4: timer {entry.key} was set twice")
            wakes[entry.key] = entry.data
        elif entry.phase == Phase.DONE and entry.at_ms < wakes.get(entry.key, 0):
            early_ms = wakes[entry.key] - entry.at_ms
            yield Check.SAME_OUTCOME.broken(f"E4: timer {entry.key} rang {early_ms} ms early")


def _nothing_under_way(header: RunHeader, entries: Sequence[Entry]) -> Iterator[str]:
    """E1: what a sync body waits for in its own line of calls has come before it can have succeeded."""
    spec = tasks.find(header.task)
    if header.status is not RunStatus.SUCCEEDED or spec is None or spec.is_async:  # async calls may be cancelled
        return
    under_way: dict[str, Entry] = {}
    for entry in entries:
        if entry.kind in _ONE_AFTER_ANOTHER and entry.key.isdecimal():
            if entry.phase in _OUTCOMES:
                under_way.pop(entry.key, None)
            else:
                under_way[entry.key] = entry
    for entry in under_way.values():
        yield Check.SAME_OUTCOME.broken(
            f"E1: the run has succeeded though its {entry.kind} {entry.name!r} (operation {entry.key}) was still under "
            "way: its body went on after it was told to let go"
        )


def _final_failures_are_final(entries: Sequence[Entry]) -> Iterator[str]:
    """R3: once a final failure was delivered to the body, it is not started over."""
    failed: Entry | None = None
    for entry in entries:
        if entry.key != RUN_KEY:
            if entry.kind == Kind.STEP and entry.phase == Phase.FAILED and entry.key.isdecimal():
                failed = entry
        elif entry.phase == Phase.REOPENED:
            failed = None
        elif entry.phase == Phase.ATTEMPT and failed is not None:
            yield Check.RETRY_BUDGET.broken(
                f"R3: the task was started over after its step {failed.name!r} (operation {failed.key}) had failed for "
                "good"
            )


def _listed(entry: Entry) -> list[str]:
    assert isinstance(entry.data, dict)  # written by flowkit.rollback
    keys = entry.data["undos"]
    assert isinstance(keys, list)
    return [str(key) for key in keys]


def _undone(entries: Iterable[Entry]) -> list[str]:
    """The operations whose undos are settled, in that order, each once."""
    settled = (entry for entry in entries if entry.kind == Kind.UNDO and entry.phase in _OUTCOMES)
    return list(dict.fromkeys(entry.key.removesuffix(_UNDO_MARK) for entry in settled))
