"""What a journal is made of: one frozen record per entry, and its form as a JSON document.

An entry belongs to one operation of a run, named by its key (rule I1). `phase` says how far that operation has come.
Every document carries the format version, so that later versions can read what this one wrote.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from attrs import frozen

from flowkit.codec import Codec, Json
from flowkit.errors import SerializationError

FORMAT: Final = 1
RUN_KEY: Final = ""  # entries about the run itself, not about one of its operations


class Kind(StrEnum):
    """What sort of operation an entry belongs to."""

    RUN = "run"
    STEP = "step"
    CHILD = "child"
    SLEEP = "sleep"
    PATCH = "patch"


class Phase(StrEnum):
    """How far the operation had come when the entry was written."""

    DONE = "done"  # it has a value
    FAILED = "failed"  # its attempts are used up
    ATTEMPT = "attempt"  # one attempt failed, another will follow
    BEGUN = "begun"  # it was started, and nothing more is known
    CANCELLED = "cancelled"  # cancellation was delivered here
    REOPENED = "reopened"  # a failed or blocked run goes on (run entries only)


_DONE: Final = Phase.DONE.value


@frozen
class Entry:
    """One entry."""

    kind: str
    phase: str
    key: str
    name: str
    at_ms: int
    args: str = ""  # digest of the arguments (rule I3)
    data: Json = None  # the value, the error, or what the phase needs


def encode(codec: Codec, entry: Entry) -> bytes:
    """The entry as bytes for a storage."""
    return codec.dumps(
        {
            "v": FORMAT,
            "kind": entry.kind,
            "is": entry.phase,
            "key": entry.key,
            "name": entry.name,
            "at": entry.at_ms,
            "args": entry.args,
            "data": entry.data,
        }
    )


def encode_done(codec: Codec, kind: str, key: str, name: str, at_ms: int, args: str, data: Json) -> bytes:
    """A DONE entry as bytes: one per completed operation, so it takes no detour through an `Entry`."""
    return codec.dumps(
        {"v": FORMAT, "kind": kind, "is": _DONE, "key": key, "name": name, "at": at_ms, "args": args, "data": data}
    )


def decode(codec: Codec, raw: bytes) -> Entry:
    """Read an entry back.

    Raises:
        SerializationError: if it is not one, or was written by a newer version.
    """
    document = codec.loads(raw)
    if not isinstance(document, dict):
        raise SerializationError(f"a journal entry is {type(document).__name__}, not an object: {raw[:80]!r}")
    if document.get("v") != FORMAT:
        raise SerializationError(
            f"a journal entry has format {document.get('v')!r}; this version of flowkit reads {FORMAT}: "
            "it was written by a newer one, so update flowkit on this machine"
        )
    try:
        return Entry(
            document["kind"],  # type: ignore[arg-type]  # checked below, once for all
            document["is"],  # type: ignore[arg-type]
            document["key"],  # type: ignore[arg-type]
            document["name"],  # type: ignore[arg-type]
            document["at"],  # type: ignore[arg-type]
            document["args"],  # type: ignore[arg-type]
            document["data"],
        )
    except KeyError as missing:
        raise SerializationError(f"a journal entry lacks {missing}: {raw[:80]!r}") from None
