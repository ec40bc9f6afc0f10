"""What most of the broken storages are made of."""

from __future__ import annotations

from flowkit.memory import MemoryStorage
from flowkit.memory.state import State
from flowkit.storage import Storage
from flowkit_testing.forward import Forward


class BrokenMemory(Forward):
    """Memory, with its insides at hand."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self.state = State()
        self._storage = MemoryStorage(self.state)
