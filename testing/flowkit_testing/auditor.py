"""Audits what a storm has left: no run lost, nothing that was completed done again, nothing left lying about.

Steps write down each time they begin (`EffectLog`), outside of flowkit and from any process. When all runs have ended,
`audit` holds that log and the journals together.

    log = EffectLog(folder / "effects")

    @step
    def charge(order: str) -> str:
        return log.note("charge")
    ...
    audit(storage, acknowledged=run_ids, effects=log.read()).assert_clean()

Processes that were frozen and go on may begin a step that another one has completed meanwhile; no library can keep a
process from that, only from recording it. So the log of a storm that freezes processes is read with `frozen=True`.
"""

from __future__ import annotations

import json
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from flowkit import current_run
from flowkit.clock import TOLERATED_MS, system_now_ms
from flowkit.codec import Codec, JsonCodec
from flowkit.entries import RUN_KEY, Entry, Kind, Phase, decode
from flowkit.frozen import frozen
from flowkit.records import AnyOf, Grant, RunHeader, RunStatus
from flowkit.rollback import undo_key
from flowkit.storage import Storage
from flowkit_testing.invariants import broken_rules
from flowkit_testing.states import headers

_OUTCOMES = frozenset({Phase.DONE, Phase.FAILED, Phase.CANCELLED})


@frozen
class Effect:
    """A step has begun to do what it does."""

    key: str  # `run:operation`, the idempotency key
    name: str
    at_ms: int
    token: str


class EffectLog:
    """A file to which any process adds a line for each effect, in one write, so that no death tears it.

    Args:
        path: the file; made when it is needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, name: str) -> str:
        """The running step begins; returns a token of this time, never given before."""
        effect = (current_run().idempotency_key, name, system_now_ms(), uuid.uuid4().hex)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, json.dumps(effect).encode() + b"\n")
        finally:
            os.close(descriptor)
        return effect[-1]

    def read(self) -> list[Effect]:
        """All lines so far."""
        if not self.path.exists():
            return []
        return [Effect(*json.loads(line)) for line in self.path.read_bytes().splitlines()]


@frozen
class Audit:
    """What was found; `str` of it is a table of the figures and all that is wrong."""

    figures: Mapping[str, int]
    findings: tuple[str, ...]

    def assert_clean(self) -> None:
        """Fail with everything that is wrong.

        Raises:
            AssertionError: if anything is.
        """
        assert not self.findings, str(self)

    def __str__(self) -> str:
        width = max(map(len, self.figures), default=0)
        lines = [f"{name:<{width}}  {value:,}" for name, value in self.figures.items()]
        return "\n".join([*lines, *(f"! {finding}" for finding in self.findings)])


def audit(
    storage: Storage,
    *,
    acknowledged: Iterable[str],
    effects: Sequence[Effect] = (),
    codec: Codec | None = None,
    frozen: bool = False,
) -> Audit:
    """Audit a storage whose runs should all have ended.

    Args:
        storage: opened, and no worker on it.
        acknowledged: the ids of all runs of which somebody was told that they exist.
        effects: what the steps have done.
        codec: reads the journals.
        frozen: processes were stopped and went on, so a completed step may have begun again there, unrecorded.
    """
    codec = codec or JsonCodec()
    found = list(headers(storage))
    journals = {header.run_id: _journal(storage, header, codec) for header in found}
    done = Counter(entry.kind for journal in journals.values() for entry in journal if entry.phase == Phase.DONE)
    begun = Counter(effect.key for effect in effects)
    figures = {
        "runs": len(found),
        **{f"runs {status}": count for status, count in sorted(Counter(header.status for header in found).items())},
        "journal entries": sum(map(len, journals.values())),
        **{f"{kind}s completed": count for kind, count in sorted(done.items()) if kind != Kind.RUN},
        "effects begun": len(effects),
        "effects begun again": len(effects) - len(begun),
        "most times one began": max(begun.values(), default=0),
    }
    findings = [
        *_lost(acknowledged, journals),
        *_unfinished(found),
        *_left_over(storage, found),
        *(wrong for run_id, journal in journals.items() for wrong in _twice(run_id, journal)),
        *(wrong for run_id, journal in journals.items() for wrong in _undone(run_id, journal)),
        *_children(found, journals),
        *([] if frozen else _again(effects, journals)),
        *_unknown(effects, journals),
        *broken_rules(storage, codec),
    ]
    return Audit(figures, tuple(findings))


def _journal(storage: Storage, header: RunHeader, codec: Codec) -> list[Entry]:
    snapshot = storage.load(header.run_id)
    return [] if snapshot is None else [decode(codec, raw) for raw in snapshot.entries]


def _lost(acknowledged: Iterable[str], journals: Mapping[str, object]) -> Iterator[str]:
    for run_id in acknowledged:
        if run_id not in journals:
            yield f"X1: run {run_id!r} was acknowledged and is not there"


def _unfinished(found: Iterable[RunHeader]) -> Iterator[str]:
    for header in found:
        if not header.status.finished:
            yield f"X1: run {header.run_id!r} of {header.task} is {header.status} and has not ended"
        if header.worker is not None or header.inbox:
            yield f"run {header.run_id!r} is held by {header.worker} and has {header.inbox} messages waiting"


def _left_over(storage: Storage, found: Sequence[RunHeader]) -> Iterator[str]:
    """Nothing is in a queue, nothing comes due, nothing is leased."""
    for count in storage.stats().queues:
        yield f"{count.ready} runs of {count.task} are ready in queue {count.queue}, {count.leased} leased"
    everything = AnyOf(tuple({header.task for header in found}), tuple({header.queue for header in found}))
    claimed = storage.claim(Grant("auditor", uuid.uuid4().hex, 1_000), everything, 1)
    for lease in claimed.leases:
        yield f"run {lease.run_id!r} could be claimed"
    if claimed.next_due_ms is not None:
        yield f"a timer or a lease is left, due in {claimed.next_due_ms - claimed.now_ms} ms"


def _twice(run_id: str, journal: Iterable[Entry]) -> Iterator[str]:
    """D4: one outcome for each operation; a retry of the run forgets some."""
    settled: set[str] = set()
    for entry in journal:
        if entry.key == RUN_KEY:
            if entry.phase == Phase.REOPENED and isinstance(entry.data, dict):
                keys = entry.data.get("keys")
                settled -= {str(key) for key in keys} if isinstance(keys, list) else set()
        elif entry.key in settled and entry.kind != Kind.SAGA:
            yield f"D4: operation {entry.key} ({entry.name}) of run {run_id!r} was settled, and then {entry.phase}"
        elif entry.phase in _OUTCOMES:
            settled.add(entry.key)


def _undone(run_id: str, journal: Sequence[Entry]) -> Iterator[str]:
    """G1, G2: what a rollback was to undo is undone, or says why not."""
    settled = {entry.key for entry in journal if entry.kind == Kind.UNDO and entry.phase in _OUTCOMES}
    for entry in journal:
        if entry.phase == Phase.ROLLBACK and isinstance(entry.data, dict):
            undos = entry.data.get("undos")
            for key in undos if isinstance(undos, list) else ():
                if undo_key(str(key)) not in settled:
                    yield f"G1: operation {key} of run {run_id!r} was to be undone and was not"


def _children(found: Iterable[RunHeader], journals: Mapping[str, Sequence[Entry]]) -> Iterator[str]:
    """E3: children have parents, and what was triggered exists."""
    for header in found:
        if header.parent is not None and header.parent not in journals:
            yield f"E3: run {header.run_id!r} is the child of {header.parent!r}, which is not there"
    for run_id, journal in journals.items():
        for entry in journal:
            triggered = entry.data if entry.kind == Kind.TRIGGER and entry.phase == Phase.DONE else None
            if isinstance(triggered, str) and triggered not in journals:
                yield f"E3: run {run_id!r} triggered {triggered!r}, which is not there"


def _again(effects: Sequence[Effect], journals: Mapping[str, Sequence[Entry]]) -> Iterator[str]:
    """D2, G1: what was completed did not begin again."""
    over = {
        f"{run_id}:{entry.key}": entry
        for run_id, journal in journals.items()
        for entry in journal
        if entry.phase in _OUTCOMES
    }
    begun = Counter(effect.key for effect in effects)
    for effect in effects:
        entry = over.get(effect.key)
        # a journal is dated by the storage's clock, which may be a little apart from this machine's; and what began
        # but once did not begin again
        if entry is not None and effect.at_ms > entry.at_ms + TOLERATED_MS and begun[effect.key] > 1:
            late_ms = effect.at_ms - entry.at_ms
            yield f"D2: {effect.name} ({effect.key}) began again {late_ms} ms after it was recorded as {entry.phase}"


def _unknown(effects: Iterable[Effect], journals: Mapping[str, Sequence[Entry]]) -> Iterator[str]:
    """D1: an effect belongs to an operation that a journal knows."""
    known = {f"{run_id}:{entry.key}" for run_id, journal in journals.items() for entry in journal}
    for effect in effects:
        if effect.key not in known:
            yield f"D1: {effect.name} ({effect.key}) was begun, and no journal knows of it"


def ended(storage: Storage) -> bool:
    """Whether all runs have ended, or wait for a person."""
    counts = storage.stats().by_status
    return not any(count for status, count in counts.items() if not (status.finished or status is RunStatus.BLOCKED))
