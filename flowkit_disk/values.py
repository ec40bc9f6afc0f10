"""Small shared values, each with a revision. They lie in their rows whatever their size."""

from __future__ import annotations

from flowkit_disk import keys
from flowkit_disk.rows import Rows


def read(rows: Rows, key: str) -> tuple[bytes, int] | None:
    """A value and its revision."""
    data = rows.get(keys.shared(key))
    return None if data is None else (data[8:], int.from_bytes(data[:8], "big"))


def write(rows: Rows, key: str, revision: int, value: bytes) -> int | None:
    """Write a value if its revision is still this; the new revision, or None."""
    known = read(rows, key)
    if revision != (0 if known is None else known[1]):
        return None
    rows.put(keys.shared(key), (revision + 1).to_bytes(8, "big") + value)
    return revision + 1
