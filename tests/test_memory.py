"""The memory storage keeps the contract, and what is its own."""

from __future__ import annotations

from pathlib import Path

from flowkit.memory import MemoryStorage
from flowkit.storage import Storage
from flowkit_testing.contract import StorageContract


class TestMemoryStorage(StorageContract):
    """The reference storage."""

    def make_storage(self, tmp_path: Path) -> Storage:
        """Nothing is on disk."""
        del tmp_path
        return MemoryStorage()

    def reopen(self, storage: Storage) -> Storage:
        """Another object on the same state."""
        assert isinstance(storage, MemoryStorage)
        storage.close()
        return self.another(storage)

    def another(self, storage: Storage) -> Storage:
        """As a second process would see it."""
        assert isinstance(storage, MemoryStorage)
        sibling = storage.sibling()
        sibling.open()
        return sibling
