"""A storage that remembers what was asked of it, so that any state it was in can be made again."""

from __future__ import annotations

from collections.abc import Callable

from flowkit.storage import Storage
from flowkit_testing.forward import Forward, T

Change = Callable[[Storage], object]
_CHANGES = frozenset({"submit", "claim", "commit", "renew", "send", "purge", "compare_and_set"})


class LoggedStorage(Forward):
    """A storage, and the changes that were made to it, in order.

    Args:
        storage: where they are made.
    """

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self.changes: list[Change] = []

    def through(self, operation: str, call: Callable[[Storage], T]) -> T:
        """Make a call, and remember it if it may change something."""
        if operation in _CHANGES:
            self.changes.append(call)
        return call(self._storage)
