"""Directories for disk storages, where a sync costs nothing if the machine has such a place."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowkit.records import Durability
from flowkit_disk import DiskStorage

_IN_MEMORY = Path("/dev") / "shm"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A new directory that is removed after the test."""
    parent = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="flowkit-test-", dir=parent))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def state(folder: Path) -> Path:
    """The directory of a storage, not there yet."""
    return folder / "state"


@pytest.fixture
def opened(state: Path) -> Iterator[Callable[..., DiskStorage]]:
    """Opens storages in that directory and closes them after the test."""
    storages: list[DiskStorage] = []

    def open_one(durability: Durability = Durability.DISK, busy_timeout_s: float = 10.0) -> DiskStorage:
        storage = DiskStorage(state, durability=durability, busy_timeout_s=busy_timeout_s)
        storage.open()
        storages.append(storage)
        return storage

    yield open_one
    for storage in storages:
        storage.close()


@pytest.fixture
def disk(opened: Callable[..., DiskStorage]) -> DiskStorage:
    """An opened storage."""
    return opened()
