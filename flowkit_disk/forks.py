"""What a fork must not find: a thread inside SQLite, or a lock that nobody in the child can let go of.

Before a fork all users are led out and kept out. The child closes what it inherited, and that includes the connections
of threads that it does not have. SQLite's documentation advises against it ("do not even call sqlite3_close"), and it
is tested: a connection that is leaked instead makes SQLite believe that the child holds file locks, which the kernel
does not give to children; the next process to close the database then removes the write-ahead log under the child, and
what the child commits is lost. A connection that is closed while nobody is inside it does no harm.
"""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """Something that has to be quiet while its process forks."""

    def before_fork(self) -> None:
        """Lead everyone out and keep them out."""

    def after_fork_in_parent(self) -> None:
        """Let them in again."""

    def after_fork_in_child(self) -> None:
        """Let go of what was inherited."""


_watched: WeakSet[Forkable] = WeakSet()
_quiet = threading.local()


def watch(user: Forkable) -> None:
    """Tell this object of forks, as long as it lives."""
    _watched.add(user)


def _before() -> None:
    _quiet.users = sorted(_watched, key=id)  # in one order, so that two forking threads cannot wait for each other
    for user in _quiet.users:
        user.before_fork()


def _after_in_parent() -> None:
    for user in _quiet.__dict__.pop("users", ()):
        user.after_fork_in_parent()


def _after_in_child() -> None:
    for user in _quiet.__dict__.pop("users", ()):
        user.after_fork_in_child()


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)


class Gate:
    """Counts the threads inside, and lets none in while it is shut. A thread inside may enter again."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._inside: dict[int, int] = {}
        self._shut = 0

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._changed:
            while self._shut and me not in self._inside:
                self._changed.wait()
            self._inside[me] = self._inside.get(me, 0) + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        me = threading.get_ident()
        with self._changed:
            self._inside[me] -= 1
            if not self._inside[me]:
                del self._inside[me]
            if self._shut:
                self._changed.notify_all()

    def shut(self) -> None:
        """Let nobody in, and wait until all others are out."""
        me = threading.get_ident()
        with self._changed:
            self._shut += 1
            while self._inside.keys() - {me}:
                self._changed.wait()

    def reopen(self) -> None:
        """Let them in again."""
        with self._changed:
            self._shut -= 1
            self._changed.notify_all()
