"""The rows of a run's log: everything that happened to it, in order, never rewritten.

A row is a head of fixed size, the commit id, the lengths of its parts, the parts, and a note in JSON for what is rare.
A part is a payload, or where to find it if it lies in a file of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from enum import IntEnum
from struct import Struct, pack, unpack_from

from attrs import field, frozen

_HEAD = Struct(">BIIQq")  # kind, length of the commit id, number of parts, journal length before, time
_REF = Struct(">32sQI")
_IN_FILE = 1 << 31
_LENGTHS: tuple[Struct, ...] = tuple(Struct(f">{count}I") for count in range(65))


class Kind(IntEnum):
    """What a row tells of."""

    COMMIT = 1  # the owner's: its parts are journal entries
    MARK = 2  # somebody else changed the run: no parts
    MESSAGE = 3  # its one part is the payload


@frozen
class BlobRef:
    """A payload in a file of its own."""

    name: str  # 32 hexadecimal digits
    size: int
    crc: int

    def packed(self) -> bytes:
        """As it stands in a row."""
        return _REF.pack(self.name.encode("ascii"), self.size, self.crc)

    @staticmethod
    def unpacked(data: bytes) -> BlobRef:
        """What `packed` made."""
        name, size, crc = _REF.unpack(data)
        return BlobRef(name.decode("ascii"), size, crc)


Part = bytes | BlobRef


@frozen
class Note:
    """What only some rows have to say."""

    consume: tuple[str, ...] = ()  # message ids that a commit consumed
    message_id: str = ""
    message_kind: str = ""
    message_name: str = ""

    def packed(self) -> bytes:
        """As it stands in a row."""
        return json.dumps([self.consume, self.message_id, self.message_kind, self.message_name]).encode()


NO_NOTE = Note()


@frozen
class LogRow:
    """One row, read."""

    kind: Kind
    base: int  # journal entries before this row
    at_ms: int
    commit_id: str
    parts: tuple[Part, ...]
    note: Note = field(default=NO_NOTE)

    @property
    def entries(self) -> tuple[Part, ...]:
        """The journal entries that it adds."""
        return self.parts if self.kind is Kind.COMMIT else ()


def pack_commit(base: int, at_ms: int, commit_id: bytes, entries: Sequence[bytes]) -> bytes:
    """A commit that only appends entries, all of them small: the hot path."""
    count = len(entries)
    lengths = _LENGTHS[count] if count < len(_LENGTHS) else Struct(f">{count}I")
    head = _HEAD.pack(1, len(commit_id), count, base, at_ms)
    return b"".join((head, commit_id, lengths.pack(*map(len, entries)), *entries))


def pack_row(row: LogRow) -> bytes:
    """Any row."""
    commit_id = row.commit_id.encode("utf-8", "surrogatepass")
    data = [part.packed() if isinstance(part, BlobRef) else part for part in row.parts]
    marks = [_IN_FILE if isinstance(part, BlobRef) else 0 for part in row.parts]
    lengths = [len(part) | mark for part, mark in zip(data, marks, strict=True)]
    head = _HEAD.pack(row.kind, len(commit_id), len(data), row.base, row.at_ms)
    note = b"" if row.note == NO_NOTE else row.note.packed()
    return b"".join((head, commit_id, pack(f">{len(lengths)}I", *lengths), *data, note))


def unpack_row(data: bytes) -> LogRow:
    """What `pack_commit` and `pack_row` make.

    Raises:
        ValueError, struct.error: if the bytes were made by something else.
    """
    kind, id_length, count, base, at_ms = _HEAD.unpack_from(data)
    start = _HEAD.size + id_length
    commit_id = data[_HEAD.size : start].decode("utf-8", "surrogatepass")
    lengths: tuple[int, ...] = unpack_from(f">{count}I", data, start)
    start += 4 * count
    parts: list[Part] = []
    for length in lengths:
        end = start + (length & ~_IN_FILE)
        parts.append(BlobRef.unpacked(data[start:end]) if length & _IN_FILE else data[start:end])
        start = end
    if start > len(data):
        raise ValueError("a log row is cut short")
    note = NO_NOTE if start == len(data) else _unpack_note(data[start:])
    return LogRow(Kind(kind), base, at_ms, commit_id, tuple(parts), note)


def unpack_tail(data: bytes) -> tuple[int, int, str]:
    """Of a commit: the journal's length after it, its time and its id, without looking at the entries."""
    _, id_length, count, base, at_ms = _HEAD.unpack_from(data)
    commit_id = data[_HEAD.size : _HEAD.size + id_length].decode("utf-8", "surrogatepass")
    return base + count, at_ms, commit_id


def entries_before_and_in(data: bytes) -> tuple[int, int]:
    """How many journal entries stand before a row, and how many in it."""
    kind, _, count, base, _ = _HEAD.unpack_from(data)
    return base, count if kind == Kind.COMMIT else 0


def pack_part(part: Part) -> bytes:
    """A payload that has a row to itself."""
    return b"\x01" + part.packed() if isinstance(part, BlobRef) else b"\x00" + part


def unpack_part(data: bytes) -> Part:
    """What `pack_part` made."""
    return BlobRef.unpacked(data[1:]) if data[:1] == b"\x01" else data[1:]


def refs(parts: Iterable[Part]) -> list[BlobRef]:
    """Those parts that lie in files."""
    return [part for part in parts if isinstance(part, BlobRef)]


def _unpack_note(data: bytes) -> Note:
    consume, message_id, kind, name = json.loads(data)
    return Note(tuple(consume), message_id, kind, name)
