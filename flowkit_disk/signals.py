"""A small file of numbers that all processes of a storage share.

It is mapped for reading alone: a write to a mapped page that a full file system cannot back would kill the process.
The numbers are hints and caches: losing them in a crash loses nothing, because processes that relied on them are gone.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from zlib import adler32, crc32

EPOCH, WATCHERS, WORK = slice(0, 8), slice(8, 16), slice(16, 24)
_TABLE = 4096
_SLOTS = 8192
_SIZE = _TABLE + 8 * _SLOTS
NOBODY = bytes(8)
_SOMEBODY = (1).to_bytes(8, "big")


class Signals:
    """The numbers. What must not race is written by whoever holds the write lock."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        size = os.fstat(self.descriptor).st_size
        if size < _SIZE:
            os.pwrite(self.descriptor, bytes(_SIZE - size), size)  # written out, so that room is there from now on
        self.view = mmap.mmap(self.descriptor, _TABLE, access=mmap.ACCESS_READ)

    def close(self) -> None:
        """Let go of the file."""
        self.view.close()
        os.close(self.descriptor)

    def epoch(self) -> bytes:
        """Changes whenever runs are forgotten, so that nobody appends to the log of one that is gone."""
        return self.view[EPOCH]

    def next_epoch(self) -> None:
        """Runs are about to be forgotten."""
        self._count_up(EPOCH)

    def watch(self) -> None:
        """Somebody waits for a run."""
        os.pwrite(self.descriptor, _SOMEBODY, WATCHERS.start)

    def watched(self) -> bool:
        """Whether somebody waits for a run."""
        return self.view[WATCHERS] != NOBODY

    def unwatch(self) -> None:
        """Nobody was found to wait for a run."""
        os.pwrite(self.descriptor, NOBODY, WATCHERS.start)

    def work(self) -> bytes:
        """Changes whenever a run becomes ready or a timer is set."""
        return self.view[WORK]

    def next_work(self) -> None:
        """A run became ready, or a timer was set."""
        self._count_up(WORK)

    def note_token(self, token: str) -> None:
        """A grant with this token is about to be answered."""
        slot, mark = _slot(token)
        os.pwrite(self.descriptor, mark, slot)

    def may_know(self, token: str) -> bool:
        """Whether a grant with this token may have been answered before; never wrongly False while it is recent."""
        slot, mark = _slot(token)
        return os.pread(self.descriptor, 8, slot) == mark

    def _count_up(self, where: slice) -> None:
        number = int.from_bytes(self.view[where], "big")
        os.pwrite(self.descriptor, ((number + 1) % 2**64).to_bytes(8, "big"), where.start)


def _slot(token: str) -> tuple[int, bytes]:
    data = token.encode("utf-8", "surrogatepass")
    hashed = crc32(data)
    return _TABLE + 8 * (hashed % _SLOTS), hashed.to_bytes(4, "big") + (adler32(data) or 1).to_bytes(4, "big")
