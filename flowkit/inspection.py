"""Look at stored runs: lists of them, what happened in one, what a retry would run again, and forks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from attrs import evolve

from flowkit.codec import Codec, Json, error_text
from flowkit.documents import decode_input, encode_input
from flowkit.entries import RUN_KEY, Entry, Kind, Phase, decode
from flowkit.errors import ConfigurationError, RunRolledBack, SerializationError
from flowkit.frozen import frozen
from flowkit.records import Grant, NewRun, RunHeader, Snapshot
from flowkit.rollback import undo_key


@frozen
class RunList:
    """A page of runs."""

    runs: tuple[RunHeader, ...]
    cursor: str | None  # where the next page begins; None: this was the last

    def __iter__(self) -> Iterator[RunHeader]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)


def fork_of(codec: Codec, snapshot: Snapshot, from_step: str | None, new_id: str) -> NewRun:
    """A new run with the same arguments, and the entries recorded before a step.

    Raises:
        ConfigurationError: no step of that name was recorded.
        RunRolledBack: something that was recorded before it has been undone since.
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
        limit=header.limit,
    )


def _before(codec: Codec, snapshot: Snapshot, from_step: str) -> tuple[bytes, ...]:
    name, _, nth = from_step.partition("#")
    wanted, seen, names = int(nth) if nth.isdecimal() else 1, set[str](), set[str]()
    kept: list[tuple[bytes, Entry]] = []
    entries = [(raw, decode(codec, raw)) for raw in snapshot.entries]
    for position, (raw, entry) in enumerate(entries):
        if entry.kind != Kind.RUN:
            names.add(entry.name)
        if entry.name in {from_step, name} and entry.kind != Kind.RUN:
            seen.add(entry.key)
            if entry.name == from_step or len(seen) >= wanted:
                _refuse_undone(snapshot.header.run_id, kept, entries[position:])
                return tuple(raw for raw, _ in kept)
        if entry.key != RUN_KEY and entry.phase != Phase.ATTEMPT:
            kept.append((raw, entry))
    raise ConfigurationError(
        f"run {snapshot.header.run_id!r} has no step {from_step!r}; it recorded: "
        f"{', '.join(sorted(names)) or 'nothing'}"
    )


def _refuse_undone(run_id: str, kept: Iterable[tuple[bytes, Entry]], later: Iterable[tuple[bytes, Entry]]) -> None:
    """G5: the result of a step that was undone is not used again."""
    undone = {entry.key for _, entry in later if entry.kind == Kind.UNDO}
    gone = [entry.name for _, entry in kept if undo_key(entry.key) in undone]
    if gone:
        raise RunRolledBack(
            f"run {run_id!r} has undone {', '.join(dict.fromkeys(gone))}, so a fork cannot use the result; "
            f"flow.fork(run_id, from_step={gone[0]!r}) runs it anew, flow.fork(run_id) starts afresh"
        )


def same_run(snapshot: Snapshot, grant: Grant) -> NewRun:
    """The run as it was submitted, to resume it without knowing its arguments."""
    header = snapshot.header
    return NewRun(
        header.run_id,
        header.task,
        snapshot.input,
        header.queue,
        header.priority,
        header.tags,
        header.parent,
        grant=grant,
        limit=header.limit,
    )


# ---- what happened in a run -----------------------------------------------------------------------------------------


@frozen
class RecordedCall:
    """One operation of a run as its journal tells it, or (kind `run`) something that befell the run itself."""

    kind: str
    name: str
    key: str
    phase: str  # how far it has come
    began_at_ms: int  # of its first attempt
    ended_at_ms: int | None  # None: it is not over
    attempts: int = 1
    errors: tuple[str, ...] = ()  # of attempts that failed, in one line each
    value: Json = None  # what it returned; what it waits for, while it does


def recorded_calls(codec: Codec, snapshot: Snapshot) -> tuple[RecordedCall, ...]:
    """The operations of a run in the order in which they began.

    Entries whose data this codec cannot read are told without it.
    """
    calls: dict[str, RecordedCall] = {}
    told: list[RecordedCall] = []
    for raw in snapshot.entries:
        entry = _readable(codec, raw)
        if entry.phase == Phase.WAITING:  # whatever it waits for tells more
            continue
        if entry.key == RUN_KEY:
            told.append(_of_run(entry))
            continue
        calls[entry.key] = _continued(calls.get(entry.key), entry)
    order = {key: position for position, key in enumerate(calls)}
    told += calls.values()
    return tuple(sorted(told, key=lambda call: (call.began_at_ms, order.get(call.key, len(order)))))


def _readable(codec: Codec, raw: bytes) -> Entry:
    try:
        return decode(codec, raw)
    except SerializationError:
        return decode(_WithoutData(), raw)


class _WithoutData:
    """A codec for entries of which only the line is wanted."""

    def to_json(self, value: object, hint: object = object) -> Json:
        """Nothing."""

    def from_json(self, data: Json, hint: object = object) -> object:
        """Nothing."""

    def dumps(self, document: Json) -> bytes:
        """Nothing."""
        del document
        return b""

    def loads(self, data: bytes) -> Json:
        """Nothing."""


def _of_run(entry: Entry) -> RecordedCall:
    errors = () if entry.phase == Phase.REOPENED else _errors(entry)
    return RecordedCall(entry.kind, entry.name, entry.key, entry.phase, entry.at_ms, entry.at_ms, 1, errors)


_OVER = frozenset({Phase.DONE, Phase.FAILED, Phase.CANCELLED, Phase.ROLLBACK})
_WITHOUT_ERROR = frozenset({Phase.DONE, Phase.BEGUN})  # whose data is a value


def _continued(before: RecordedCall | None, entry: Entry) -> RecordedCall:
    """The call with one more entry."""
    over = entry.phase in _OVER
    call = before or RecordedCall(
        entry.kind, entry.name, entry.key, entry.phase, entry.at_ms - entry.took_ms, None, attempts=0
    )
    return evolve(
        call,
        phase=entry.phase,
        ended_at_ms=entry.at_ms if over else None,
        attempts=call.attempts + (over or entry.phase == Phase.ATTEMPT),
        errors=call.errors + (() if entry.phase in _WITHOUT_ERROR else _errors(entry)),
        value=entry.data if entry.phase in {Phase.DONE, Phase.BEGUN} else None,
    )


def _errors(entry: Entry) -> tuple[str, ...]:
    """The error that the entry tells of, if any: what an attempt raised, or what a rollback was begun by."""
    if not isinstance(entry.data, Mapping):
        return ()
    error = entry.data.get("error", entry.data.get("cause"))
    return () if error is None else (error_text(error),)


# ---- what is undone -------------------------------------------------------------------------------------------------


@frozen
class Rollback:
    """A task, or a `saga` scope in it, whose completed operations are undone (rule G3)."""

    name: str
    cause: str  # the error that it was left by, in one line
    undone: tuple[str, ...]  # names of the operations, in the order of their undoing
    failed: tuple[str, ...]  # those whose undo has failed for good
    left: tuple[str, ...]  # those whose undo is still to come


def rollbacks(codec: Codec, snapshot: Snapshot) -> tuple[Rollback, ...]:
    """What was undone in a run, what is still to be undone, and why; oldest first."""
    names: dict[str, str] = {}
    undos: dict[str, str] = {}
    begun: list[Entry] = []
    for raw in snapshot.entries:
        entry = _readable(codec, raw)
        if entry.kind == Kind.UNDO:
            undos[entry.key] = entry.phase
        elif entry.phase == Phase.ROLLBACK:
            begun.append(entry)
        else:
            names.setdefault(entry.key, entry.name)
    return tuple(_rollback(entry, names, undos) for entry in begun if isinstance(entry.data, Mapping))


def _rollback(entry: Entry, names: Mapping[str, str], undos: Mapping[str, str]) -> Rollback:
    assert isinstance(entry.data, Mapping)  # callers have looked
    listed = entry.data.get("undos")
    found: dict[str, list[str]] = {Phase.DONE: [], Phase.FAILED: [], "": []}
    for key in listed if isinstance(listed, list) else ():
        phase = undos.get(undo_key(str(key)), "")
        found[phase if phase in found else ""].append(names.get(str(key), f"operation {key}"))
    cause = error_text(entry.data.get("cause"))
    return Rollback(entry.name, cause, tuple(found[Phase.DONE]), tuple(found[Phase.FAILED]), tuple(found[""]))
