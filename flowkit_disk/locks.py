"""Locks between processes, on files, that a dead process lets go of at once."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, flock
from pathlib import Path
from types import TracebackType

from flowkit_disk.failures import locked, translate

_ALONE = LOCK_EX | LOCK_NB
_SHORTEST_S = 0.0002
_LONGEST_S = 0.002


def open_lock(path: Path) -> int:
    """Open a lock file, making it if there is none."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(descriptor: int) -> bool:
    """Take the lock alone, if nobody has it."""
    try:
        flock(descriptor, _ALONE)
    except BlockingIOError:
        return False
    return True


def lock(descriptor: int, timeout_s: float) -> bool:
    """Take the lock alone, waiting for so long at most.

    It asks again and again instead of blocking: a blocked `flock` has no timeout, so one stopped process would hang
    all others. The short random pauses keep the wait far below that of SQLite's own busy handler.
    """
    if try_lock(descriptor):
        return True
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        time.sleep(random.uniform(_SHORTEST_S, _LONGEST_S))
        if try_lock(descriptor):
            return True
    return False


@contextmanager
def sharing(path: Path) -> Iterator[None]:
    """Hold a lock together with others who share it."""
    descriptor = open_lock(path)
    try:
        flock(descriptor, LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Hold a lock alone; False if someone else has it."""
    descriptor = open_lock(path)
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)


class WriteLock:
    """The right to write: one thread of this process, and this process alone. The holder may take it again.

    Raises (on entering):
        LockedError: it was not to be had within the timeout.
    """

    def __init__(self, path: Path, timeout_s: float) -> None:
        self.mutex = threading.RLock()
        self._try_mutex = self.mutex.acquire
        self._path = path
        self._timeout_s = timeout_s
        self._descriptor = -1
        self._depth = 0

    def acquire(self) -> None:
        """Take it. For the hot path: first as if nobody else were there."""
        if not self._try_mutex(False) and not self.mutex.acquire(timeout=self._timeout_s):  # noqa: FBT003  # names cost
            raise locked(self._path.parent, self._timeout_s)
        try:
            if not self._depth:
                try:
                    flock(self._descriptor, _ALONE)
                except (BlockingIOError, ValueError):  # taken, or our file is not open
                    self._wait_for_file()
            self._depth += 1
        except BaseException:
            self.mutex.release()
            raise

    def release(self) -> None:
        """Let go of it."""
        self._depth -= 1
        if not self._depth:
            flock(self._descriptor, LOCK_UN)
        self.mutex.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _wait_for_file(self) -> None:
        if self._descriptor < 0:
            try:
                self._descriptor = open_lock(self._path)
            except OSError as error:
                raise translate(error, self._path.parent, self._timeout_s) from error
        if not lock(self._descriptor, self._timeout_s):
            raise locked(self._path.parent, self._timeout_s)

    def close_file(self) -> None:
        """Close the file; the next holder opens it again. Closing an inherited copy leaves the parent's lock alone."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
