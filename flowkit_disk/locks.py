"""Locks between processes, on files, that a dead process lets go of at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, flock
from pathlib import Path
from types import TracebackType

from flowkit_disk.failures import locked, translate

_ALONE = LOCK_EX | LOCK_NB


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


class Queue:
    """Waits for a lock in line with other processes, with a timeout.

    The kernel serves those who are blocked in `flock` in turn, but lets nobody give up; asking again and again allows
    for a timeout, but some process then waits for seconds while another one takes the lock over and over (measured:
    docs/decisions/0006-disk-layout.md). So a thread of our own is blocked, and it is the caller who gives up.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = open_lock(path)
        self._changed = threading.Condition(threading.Lock())
        self._wanted = self._waiting = self._granted = False
        self._thread: threading.Thread | None = None

    def wait(self, timeout_s: float) -> bool:
        """Wait for the lock, for so long at most. One thread at a time may wait."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="flowkit-disk-lock", daemon=True)
                self._thread.start()
            self._wanted = True
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: self._granted, timeout_s)
            except BaseException:
                if self._granted:
                    flock(self.descriptor, LOCK_UN)
                raise
            finally:
                self._wanted = self._granted = False

    def close(self) -> None:
        """End the thread. If it is blocked still, it ends when it gets the lock, which it lets go at once."""
        with self._changed:
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is None:
            os.close(self.descriptor)

    def _run(self) -> None:
        me = threading.current_thread()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: (self._wanted and not self._granted) or self._thread is not me)
                if self._thread is not me:
                    os.close(self.descriptor)
                    return
            flock(self.descriptor, LOCK_EX)
            with self._changed:
                self._granted = self._wanted
                if not self._granted:  # the caller has given up meanwhile
                    flock(self.descriptor, LOCK_UN)
                self._changed.notify_all()


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
        self._descriptor = self._held = -1
        self._queue: Queue | None = None
        self._depth = 0

    def acquire(self) -> bool:
        """Take it; always True. For the hot path: first as if nobody else were there."""
        if not self._try_mutex(False) and not self.mutex.acquire(timeout=self._timeout_s):  # noqa: FBT003  # names cost
            raise locked(self._path.parent, self._timeout_s)
        try:
            if not self._depth:
                try:
                    flock(self._descriptor, _ALONE)
                    self._held = self._descriptor
                except (BlockingIOError, ValueError):  # taken, or our file is not open
                    self._held = self._wait_for_file()
            self._depth += 1
        except BaseException:
            self.mutex.release()
            raise
        return True

    def try_acquire(self) -> bool:
        """Take it if nobody has it."""
        if not self._try_mutex(False):  # noqa: FBT003  # as above
            return False
        try:
            if not self._depth:
                flock(self._descriptor, _ALONE)
                self._held = self._descriptor
            self._depth += 1
        except (BlockingIOError, ValueError):  # taken, or our file is not open
            self.mutex.release()
            return False
        except BaseException:
            self.mutex.release()
            raise
        return True

    def release(self) -> None:
        """Let go of it."""
        self._depth -= 1
        if not self._depth:
            flock(self._held, LOCK_UN)
        self.mutex.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _wait_for_file(self) -> int:
        """The descriptor through which we hold the lock in the end."""
        try:
            if self._descriptor < 0:
                self._descriptor = open_lock(self._path)
                if try_lock(self._descriptor):
                    return self._descriptor
            if self._queue is None:
                self._queue = Queue(self._path)
        except OSError as error:
            raise translate(error, self._path.parent, self._timeout_s) from error
        if not self._queue.wait(self._timeout_s):
            raise locked(self._path.parent, self._timeout_s)
        return self._queue.descriptor

    def close_files(self) -> None:
        """Close the files; the next holder opens them again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.close()

    def close_inherited(self) -> None:
        """In a forked child: close the parent's files, which leaves its lock alone."""
        for descriptor in (self._descriptor, self._queue.descriptor if self._queue is not None else -1):
            if descriptor >= 0:
                os.close(descriptor)
