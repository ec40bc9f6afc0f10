"""Large payloads, each in a file of its own: SQLite writes them twice, and slowly.

A file is written and synced in `spool/` before the transaction that names it, and moved to its place after that.
Whatever a crash leaves in `spool/` is either named by a row, and moved then, or by none, and removed. So files are
looked through only there, however many there are. They carry no checksum, as SQLite's rows carry none: one of a
megabyte costs as much as writing it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from flowkit_disk.directory import sync_directory
from flowkit_disk.failures import damaged, translate
from flowkit_disk.locks import alone, sharing
from flowkit_disk.logrows import BlobRef, Part

LARGE_BYTES = 128 * 1024  # below that a row costs less than a second sync
BLANKS = 16


class Staged:
    """The large payloads of one change: written, but not yet anyone's."""

    def __init__(self) -> None:
        self._refs: dict[int, BlobRef] = {}
        self._payloads: list[bytes] = []  # held, so that no other object takes their identity
        self.used: set[str] = set()  # named by rows of the transaction
        self.committed = False

    def add(self, payload: bytes, ref: BlobRef) -> None:
        """This payload lies in that file."""
        self._refs[id(payload)] = ref
        self._payloads.append(payload)

    def part(self, payload: bytes) -> Part:
        """What a row says for a payload."""
        return self._refs.get(id(payload), payload)

    def names(self) -> list[str]:
        """All that were written."""
        return [ref.name for ref in self._refs.values()]

    def __bool__(self) -> bool:
        return bool(self._refs)

    def __contains__(self, payload: bytes) -> bool:
        return id(payload) in self._refs


class Blobs:
    """The files of a storage.

    Args:
        folder: where they lie.
        lock: whoever has files in the spool shares this; whoever clears it out holds it alone.
        synced: whether they must survive a power cut.
    """

    def __init__(self, folder: Path, lock: Path, *, synced: bool) -> None:
        self._folder = folder
        self._spool = folder / "spool"
        self._lock = lock
        self._synced = synced
        self._blanks: list[str] = []  # names of empty files in the spool

    @contextmanager
    def staged(self, payloads: Iterable[bytes]) -> Iterator[Staged]:
        """Write the large ones among the payloads; if the block sets `committed`, those it used are kept.

        Raises:
            StorageError: they cannot be written.
        """
        large = [payload for payload in payloads if len(payload) > LARGE_BYTES]
        staged = Staged()
        if not large:
            yield staged
            return
        with self._translated(), sharing(self._lock):
            try:
                for payload in large:
                    if payload not in staged:
                        staged.add(payload, self._write(payload))
            except OSError:
                self._remove(staged.names())  # no row can name them yet
                raise
            yield staged
            if staged.committed:
                with suppress(OSError):  # whoever reads looks into the spool too, and the next sweep goes on
                    self._settle(staged.names(), staged.used.__contains__)

    def read(self, part: Part) -> bytes:
        """The payload that a row stands for.

        Raises:
            LookupError: its file is missing.
            StorageError: its file is damaged, or cannot be read.
        """
        if isinstance(part, bytes):
            return part
        for path in (self._home(part.name), self._spool / part.name, self._home(part.name)):
            with self._translated(), suppress(FileNotFoundError):
                data = path.read_bytes()
                if len(data) != part.size:
                    raise damaged(self._folder.parent, f"the payload in {path.name}")
                return data
        raise LookupError(part.name)

    def sweep(self, is_named: Callable[[str], bool]) -> None:
        """Put right what a crash left in the spool, unless somebody has files there now."""
        with self._translated():
            if self._spool.is_dir():
                with alone(self._lock) as free:
                    if free:
                        self._settle([path.name for path in self._spool.iterdir()], is_named)

    @contextmanager
    def retiring(self, names: list[str]) -> Iterator[None]:
        """Remove files whose rows the block removes: by way of the spool, so that a crash at any point is put right."""
        if not names:
            yield
            return
        with self._translated(), sharing(self._lock):
            self._spool.mkdir(mode=0o700, exist_ok=True)
            for name in names:
                with suppress(FileNotFoundError):
                    self._home(name).rename(self._spool / name)
            yield
            self._remove(names)

    def _write(self, payload: bytes) -> BlobRef:
        name, descriptor = self._open_blank()
        try:
            view = memoryview(payload)
            while view:
                view = view[os.write(descriptor, view) :]
            if self._synced:
                os.fsync(descriptor)
        except OSError:
            self._remove([name])
            raise
        finally:
            os.close(descriptor)
        return BlobRef(name, len(payload))

    def _open_blank(self) -> tuple[str, int]:
        """An empty file whose name survives a power cut already: one sync of the spool serves many payloads."""
        while True:
            try:
                name = self._blanks.pop()
                return name, os.open(self._spool / name, os.O_WRONLY | os.O_CLOEXEC)
            except IndexError:
                self._make_blanks()
            except FileNotFoundError:  # swept by a process that opened the storage meanwhile
                continue

    def _make_blanks(self) -> None:
        self._spool.mkdir(mode=0o700, exist_ok=True)
        names = [uuid4().hex for _ in range(BLANKS)]
        for name in names:
            os.close(os.open(self._spool / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        if self._synced:
            sync_directory(self._spool)
        self._blanks += names

    def close(self) -> None:
        """Remove what was made in advance and not used."""
        blanks, self._blanks = self._blanks, []
        with suppress(OSError):
            self._remove(blanks)

    def after_fork_in_child(self) -> None:
        """Leave to the parent what it made in advance."""
        self._blanks = []

    def _settle(self, names: Iterable[str], is_named: Callable[[str], bool]) -> None:
        for name in names:
            if is_named(name):
                home = self._home(name)
                home.parent.mkdir(mode=0o700, exist_ok=True)
                (self._spool / name).rename(home)
            else:
                self._remove([name])

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self._spool / name).unlink(missing_ok=True)

    def _home(self, name: str) -> Path:
        return self._folder / name[:1] / name

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise translate(error, self._folder.parent, 0) from error
