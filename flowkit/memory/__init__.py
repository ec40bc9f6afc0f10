"""The memory storage: everything in this process, gone with it. Fast, and the reference for all other storages."""

from flowkit.memory.store import MemoryStorage, memory_storage

__all__ = ["MemoryStorage", "memory_storage"]
