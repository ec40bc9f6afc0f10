"""What a journal is made of: one frozen record per entry, and its stored form.

An entry belongs to one operation of a run, named by its key (rule I1). `phase` says how far that operation has come.
Stored, it is a line that tells what it is, and after the line its data as the codec writes it: the line can be read
without the codec (which may encrypt), and data is only decoded where it is asked for. The line is a JSON list: format
version, kind, phase, key, name, time in ms, digest of the arguments, how long it took in ms.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from flowkit.codec import Codec, Json, JsonCodec
from flowkit.codec.base import LARGE_TEXT, quoted
from flowkit.errors import SerializationError
from flowkit.frozen import hot_record

FORMAT: Final = 1
RUN_KEY: Final = ""  # entries about the run itself, not about one of its operations


class Kind(StrEnum):
    """What sort of operation an entry belongs to."""

    RUN = "run"
    STEP = "step"
    CHILD = "child"
    TRIGGER = "trigger"
    BATCH = "batch"
    WAIT = "wait"
    CONVERGE = "converge"  # a wait for side work
    END = "end"  # how another run has ended; its key is that run's id
    SLEEP = "sleep"
    EVENT = "event"
    PATCH = "patch"
    CHOICE = "choice"  # which of several was first, or did first
    SAGA = "saga"
    UNDO = "undo"
    ITEM = "item"


class Phase(StrEnum):
    """How far the operation had come when the entry was written."""

    DONE = "done"  # it has a value
    FAILED = "failed"  # its attempts are used up
    ATTEMPT = "attempt"  # one attempt failed, another will follow
    BEGUN = "begun"  # it was started, and nothing more is known
    CANCELLED = "cancelled"  # cancellation was delivered here
    ROLLBACK = "rollback"  # what was completed is being undone; recorded before it begins (rule G3)
    WAITING = "waiting"  # the run was let go of until something comes (run entries only)
    REOPENED = "reopened"  # a failed or blocked run goes on (run entries only)


@hot_record
class Entry:
    """One entry."""

    kind: str
    phase: str
    key: str
    name: str
    at_ms: int
    args: str = ""  # digest of the arguments (rule I3)
    data: Json = None  # the value, the error, or what the phase needs
    took_ms: int = 0  # from the start of this attempt to the entry, as far as that is known


@hot_record
class RunEnd:
    """How another run has ended, as a run that waited for it has recorded it."""

    phase: str  # DONE, FAILED or CANCELLED
    run_id: str
    name: str  # of its task
    at_ms: int
    result: bytes  # as its storage has it


def encode_end(end: RunEnd) -> bytes:
    """The entry as bytes; the result stands in it as it came."""
    line: list[str | int] = [FORMAT, Kind.END, end.phase, end.run_id, end.name, end.at_ms, "", 0]
    return _line(line) + b"\n" + end.result


def encode(codec: Codec, entry: Entry) -> bytes:
    """The entry as bytes for a storage."""
    line: list[str | int] = [
        FORMAT,
        entry.kind,
        entry.phase,
        entry.key,
        entry.name,
        entry.at_ms,
        entry.args,
        entry.took_ms,
    ]
    return _line(line) + b"\n" + codec.dumps(entry.data)


def encode_done(codec: Codec, kind: str, key: str, name: str, at_ms: int, args: str, took_ms: int, data: Json) -> bytes:
    """A DONE entry as bytes: one per completed operation, so its line is put together by hand."""
    quoted_key = f'"{key}"' if key.isdigit() else _quoted(key)
    line = f'[{FORMAT},"{kind}","done",{quoted_key},{_quoted(name)},{at_ms},"{args}",{took_ms}]\n'
    if type(data) is str and len(data) >= LARGE_TEXT and type(codec).dumps is JsonCodec.dumps:
        whole = quoted(data, line.encode())  # as `dumps`, without another copy
        if whole is not None:
            return whole
    return line.encode() + codec.dumps(data)


_line_of = json.JSONEncoder(separators=(",", ":")).encode
_read_line = json.JSONDecoder().decode


def _line(line: list[str | int]) -> bytes:
    return _line_of(line).encode()


@functools.lru_cache(maxsize=4096)
def _quoted(text: str) -> str:
    return json.dumps(text)


Line = tuple[int, str, str, str, str, int, str, int]  # what stands before an entry's data
_FIELDS = 8


def kind_and_phase(raw: bytes) -> tuple[str, str]:
    """What sort of entry it is, without decoding its data.

    Raises:
        SerializationError: if it is none.
    """
    (_, kind, phase, *_), _ = split(raw)
    return kind, phase


def decode(codec: Codec, raw: bytes) -> Entry:
    """Read an entry back.

    Raises:
        SerializationError: if it is not one, or was written by a newer version.
    """
    (_, kind, phase, key, name, at_ms, args, took_ms), payload = split(raw)
    return Entry(kind, phase, key, name, at_ms, args, codec.loads(payload), took_ms)


def split(raw: bytes) -> tuple[Line, bytes]:
    """What an entry says before its data, and its data as it is stored.

    Raises:
        SerializationError: if it is no entry, or was written by a newer version.
    """
    head, newline, payload = raw.partition(b"\n")
    try:
        line = _read_line(head.decode())
        if type(line) is not list:
            raise TypeError("it does not begin with a list")
        if line[0] == FORMAT and len(line) == _FIELDS and newline:
            return tuple(line), payload
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise SerializationError(f"a journal entry is damaged ({error}): {raw[:80]!r}") from error
    if line[0] == FORMAT:
        raise SerializationError(f"a journal entry is damaged: {raw[:80]!r}")
    raise SerializationError(
        f"a journal entry has format {line[0]!r}; this version of flowkit reads {FORMAT}: "
        "if it was written by a newer one, update flowkit on this machine"
    )


def split_all(entries: Iterable[bytes]) -> Iterable[tuple[Line, bytes]]:
    """`split` of each. The lines are read as one JSON list, in a third of the time.

    Raises:
        SerializationError: as `split` does.
    """
    parts = [raw.partition(b"\n") for raw in entries]
    try:
        lines: list[Line] = _read_line(f"[{b','.join([head for head, _, _ in parts]).decode()}]")
        if any([line[0] != FORMAT or len(line) != _FIELDS for line in lines]):  # noqa: C419  # measured: a fifth less
            lines = []
    except (ValueError, TypeError, LookupError, RecursionError):
        lines = []
    if len(lines) == len(parts) and all([newline for _, newline, _ in parts]):  # noqa: C419  # as above
        return zip(lines, [payload for _, _, payload in parts], strict=True)
    return [split(head + newline + payload) for head, newline, payload in parts]  # says which is none, and why
