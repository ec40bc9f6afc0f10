"""The rows of a run's log: everything that happened to it, in order, never rewritten.

The value of a row is its parts, one behind the other; its tag is text that says the rest:
`kind journal-length-before time sizes commit-id`, for example `1 12 1763777777777 310,b40 token:order-42:13`.
A size with a `b` is that of a reference to a payload in a file of its own, one with an `n` that of a note in JSON.
So the commonest row, a commit of one entry, is written without a copy of the entry.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import IntEnum
from struct import Struct

from attrs import field, frozen

from flowkit_disk.failures import reads_rows

_REF = Struct(">32sQ")
_IN_FILE, _NOTE = "b", "n"


PACKED = 64  # commits of which there may be a copy in one row, beginning with positions 1, 65, 129...


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

    def packed(self) -> bytes:
        """As it stands in a row."""
        return _REF.pack(self.name.encode("ascii"), self.size)

    @staticmethod
    def unpacked(data: bytes) -> BlobRef:
        """What `packed` made."""
        name, size = _REF.unpack(data)
        return BlobRef(name.decode("ascii"), size)


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


def pack_commit(base: int, at_ms: int, commit_id: str, entries: tuple[bytes, ...]) -> tuple[bytes, str]:
    """The value and tag of a commit that only appends entries, all of them in the row: the hot path."""
    if len(entries) == 1:
        return entries[0], f"1 {base} {at_ms} {len(entries[0])} {commit_id}"
    return b"".join(entries), f"1 {base} {at_ms} {','.join([str(len(entry)) for entry in entries])} {commit_id}"


def pack_row(row: LogRow) -> tuple[bytes, str]:
    """The value and tag of any row."""
    data, sizes = [], []
    for part in row.parts:
        packed = part.packed() if isinstance(part, BlobRef) else part
        data.append(packed)
        sizes.append(f"{_IN_FILE if isinstance(part, BlobRef) else ''}{len(packed)}")
    if row.note != NO_NOTE:
        data.append(row.note.packed())
        sizes.append(f"{_NOTE}{len(data[-1])}")
    return b"".join(data), f"{row.kind} {row.base} {row.at_ms} {','.join(sizes)} {row.commit_id}"


@reads_rows
def unpack_row(value: bytes, tag: str) -> LogRow:
    """What `pack_commit` and `pack_row` make.

    Raises:
        StorageError: if they were made by something else.
    """
    kind, base, at_ms, sizes, commit_id = tag.split(" ", 4)
    parts: list[Part] = []
    note, start = NO_NOTE, 0
    for size in sizes.split(",") if sizes else ():
        end = start + int(size.lstrip("bn"))
        data = value[start:end]
        if size[0] == _NOTE:
            note = _unpack_note(data)
        else:
            parts.append(BlobRef.unpacked(data) if size[0] == _IN_FILE else data)
        start = end
    if start != len(value):
        raise ValueError("a log row is cut short")
    return LogRow(Kind(int(kind)), int(base), int(at_ms), commit_id, tuple(parts), note)


@reads_rows
def unpack_entries(value: bytes, tag: str) -> tuple[int, tuple[Part, ...]]:
    """How many journal entries stand before a row, and those in it; short for the commonest rows."""
    kind, base, _, sizes, _ = tag.split(" ", 4)
    if kind == "1" and sizes.isdigit() and int(sizes) == len(value):
        return int(base), (value,)
    row = unpack_row(value, tag)
    return row.base, row.entries


def pack_many(base: int, commits: Iterable[tuple[bytes, ...]]) -> tuple[bytes, str]:
    """The value and tag of a copy of the entries of commits in a row."""
    entries = [entry for commit in commits for entry in commit]
    return b"".join(entries), f"{base} {','.join([str(len(entry)) for entry in entries])}"


@reads_rows
def unpack_many(value: bytes, tag: str) -> tuple[int, tuple[bytes, ...]]:
    """What `pack_many` made: how many journal entries stand before it, and those in it."""
    base, sizes = tag.split(" ")
    start, found = 0, []
    for size in map(int, sizes.split(",")):
        found.append(value[start : start + size])
        start += size
    if start != len(value):
        raise ValueError("a row of many is cut short")
    return int(base), tuple(found)


@reads_rows
def unpack_tail(tag: str) -> tuple[int, int, str]:
    """Of a commit without a note: the journal's length after it, its time and its id."""
    _, base, at_ms, sizes, commit_id = tag.split(" ", 4)
    return int(base) + (sizes.count(",") + 1 if sizes else 0), int(at_ms), commit_id


@reads_rows
def entries_before_and_in(tag: str) -> tuple[int, int]:
    """How many journal entries stand before a row, and how many in it."""
    kind, base, _, sizes, _ = tag.split(" ", 4)
    count = sum(size[0] != _NOTE for size in sizes.split(",")) if sizes and int(kind) == Kind.COMMIT else 0
    return int(base), count


def pack_part(part: Part) -> bytes:
    """A payload that has a row to itself."""
    return b"\x01" + part.packed() if isinstance(part, BlobRef) else b"\x00" + part


@reads_rows
def unpack_part(data: bytes) -> Part:
    """What `pack_part` made."""
    return BlobRef.unpacked(data[1:]) if data[:1] == b"\x01" else data[1:]


def refs(parts: Iterable[Part]) -> list[BlobRef]:
    """Those parts that lie in files."""
    return [part for part in parts if isinstance(part, BlobRef)]


def _unpack_note(data: bytes) -> Note:
    consume, message_id, kind, name = json.loads(data)
    return Note(tuple(consume), message_id, kind, name)
