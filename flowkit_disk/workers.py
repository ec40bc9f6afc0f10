"""Which workers are alive: each holds a lock on a file while its process lives (rule X1).

The kernel lets go of the lock when a process dies, however it dies, so nobody waits for a lease to run out.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fcntl import LOCK_SH, flock
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from flowkit_disk.failures import translate
from flowkit_disk.locks import open_lock, try_lock

_TRIES = 100


class Workers:
    """The lock files in one folder, and those among them that this storage holds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._held: dict[str, int] = {}  # file name -> descriptor
        self._lock = threading.Lock()

    def hold(self, worker: str) -> None:
        """Show that a worker lives, from now until `release` or the end of this process.

        Raises:
            StorageError: its file cannot be made.
        """
        name = _file_name(worker)
        if name in self._held:
            return
        try:
            with self._lock:
                if name not in self._held:
                    self._held[name] = self._share(self._folder / name, worker)
        except OSError as error:
            raise translate(error, self._folder.parent, 0) from error

    def holds(self, worker: str | None) -> bool:
        """Whether a worker is one of this storage."""
        return worker is not None and _file_name(worker) in self._held

    def release(self) -> None:
        """Show that the workers of this storage live no more."""
        with self._lock:
            for descriptor in self._held.values():
                os.close(descriptor)
            self._held.clear()

    def after_fork_in_child(self) -> None:
        """Close what was inherited: that leaves the parent's locks alone, and does not keep them beyond its death."""
        for descriptor in self._held.values():
            os.close(descriptor)
        self._start_afresh()

    def is_dead(self, worker: str | None) -> bool:
        """Whether the process of a worker is gone."""
        if worker is None or _file_name(worker) in self._held:
            return False
        return self._try(_file_name(worker), None)

    def any_dead(self) -> bool:
        """Whether some process is gone whose leases nobody has ended yet."""
        return any(name not in self._held and self._try(name, None) for name in self._names())

    @contextmanager
    def dead(self) -> Iterator[Dead]:
        """The workers whose processes are gone; while the block runs, none of them can come back."""
        with ExitStack() as stack:
            yield Dead(
                self._folder,
                frozenset(name for name in self._names() if name not in self._held and self._try(name, stack)),
            )

    def _names(self) -> list[str]:
        with suppress(FileNotFoundError):
            return [path.name for path in self._folder.iterdir()]
        return []

    def _try(self, name: str, stack: ExitStack | None) -> bool:
        """Whether a lock is free. It is held on to for the block of the stack, if there is one."""
        try:
            descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        free = try_lock(descriptor)
        if free and stack is not None:
            stack.callback(os.close, descriptor)
        else:
            os.close(descriptor)
        return free

    def _share(self, path: Path, worker: str) -> int:
        for _ in range(_TRIES):
            descriptor = open_lock(path)
            flock(descriptor, LOCK_SH)
            with suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(descriptor).st_ino:  # nobody has removed it meanwhile
                    os.pwrite(descriptor, f"{os.getpid()} {worker}\n".encode("utf-8", "replace"), 0)
                    return descriptor
            os.close(descriptor)
        raise FileNotFoundError(f"{path} is removed again and again")


class Dead:
    """Workers that are gone; a worker is in it by its name."""

    def __init__(self, folder: Path, files: frozenset[str]) -> None:
        self._folder = folder
        self._files = files

    def __bool__(self) -> bool:
        return bool(self._files)

    def __contains__(self, worker: object) -> bool:
        return isinstance(worker, str) and _file_name(worker) in self._files

    def bury(self) -> None:
        """Their leases are ended: nothing of them is left to be found."""
        for name in self._files:
            (self._folder / name).unlink(missing_ok=True)


@lru_cache(maxsize=1024)
def _file_name(worker: str) -> str:
    return sha256(worker.encode("utf-8", "surrogatepass")).hexdigest()[:32] + ".lock"
