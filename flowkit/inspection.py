"""Look at stored runs: lists of them, what a retry would run again, and forks."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve, frozen

from flowkit.codec import Codec
from flowkit.documents import decode_input, encode_input
from flowkit.entries import RUN_KEY, Entry, Kind, Phase, decode
from flowkit.errors import ConfigurationError, RunFinished, RunRolledBack
from flowkit.records import NewRun, RunHeader, RunStatus, Snapshot


@frozen
class RunList:
    """A page of runs."""

    runs: tuple[RunHeader, ...]
    cursor: str | None  # where the next page begins; None: this was the last

    def __iter__(self) -> Iterator[RunHeader]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)


def keys_to_retry(codec: Codec, snapshot: Snapshot) -> tuple[str, ...]:
    """The operations that a retry of this run forgets, so that they run again (rule X2).

    Raises:
        RunFinished: it neither failed nor is blocked.
        RunRolledBack: something was done about the failure already, so going on from there would contradict it.
    """
    header = snapshot.header
    if header.status is RunStatus.BLOCKED:
        return ()
    if header.status is not RunStatus.FAILED:
        raise RunFinished(f"run {header.run_id!r} is {header.status}; only failed and blocked runs can be retried")
    last = decode(codec, snapshot.entries[-1]) if snapshot.entries else None
    again = last.data.get("again") if last is not None and isinstance(last.data, dict) else None
    if last is None or last.key != RUN_KEY or not isinstance(again, list):
        raise RunRolledBack(
            f"run {header.run_id!r} did something about its failure before it ended (compensation, or steps in an "
            "`except` block), so it cannot go on from there; flow.fork(run_id) starts it afresh"
        )
    return tuple(str(key) for key in again)


def fork_of(codec: Codec, snapshot: Snapshot, from_step: str | None, new_id: str) -> NewRun:
    """A new run with the same arguments, and the entries recorded before a step.

    Raises:
        ConfigurationError: no step of that name was recorded.
    """
    header = snapshot.header
    given = evolve(decode_input(codec, snapshot.input), reply=None, expires_at_ms=None)
    entries: tuple[bytes, ...] = ()
    if from_step is not None:
        entries = _before(codec, snapshot, from_step)
    return NewRun(
        new_id,
        header.task,
        encode_input(codec, given),
        header.queue,
        header.priority,
        header.tags,
        entries=entries,
    )


def _before(codec: Codec, snapshot: Snapshot, from_step: str) -> tuple[bytes, ...]:
    name, _, nth = from_step.partition("#")
    wanted, seen, names = int(nth) if nth.isdecimal() else 1, set[str](), set[str]()
    kept: list[bytes] = []
    for raw in snapshot.entries:
        entry: Entry = decode(codec, raw)
        names.add(entry.name)
        if entry.name in {from_step, name} and entry.kind != Kind.RUN:
            seen.add(entry.key)
            if entry.name == from_step or len(seen) >= wanted:
                return tuple(kept)
        if entry.key != RUN_KEY and entry.phase != Phase.ATTEMPT:
            kept.append(raw)
    raise ConfigurationError(
        f"run {snapshot.header.run_id!r} has no step {from_step!r}; it recorded: "
        f"{', '.join(sorted(names)) or 'nothing'}"
    )
