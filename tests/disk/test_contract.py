"""The disk storage keeps the contract, at both durabilities, and answers as the memory storage does."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from fcntl import LOCK_SH, flock
from pathlib import Path

import pytest
from hypothesis import settings

from flowkit.records import Durability
from flowkit.storage import Storage
from flowkit_disk import DiskStorage
from flowkit_testing.contract import DurableStorageContract
from flowkit_testing.machine import storage_machine

_IN_MEMORY = Path("/dev") / "shm"
_folder = Path(tempfile.mkdtemp(prefix="flowkit-test-", dir=_IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None))
_kept_alive: list[int] = []


@pytest.fixture(scope="module", autouse=True)
def _leave_nothing_behind() -> Iterator[None]:
    """Remove what the storages of this module wrote."""
    yield
    for descriptor in _kept_alive:
        os.close(descriptor)
    shutil.rmtree(_folder, ignore_errors=True)


class _Disk(DurableStorageContract):
    """What both durabilities share."""

    durability = Durability.DISK

    def make_storage(self, tmp_path: Path) -> Storage:
        """A new directory, where a sync costs nothing."""
        del tmp_path
        return DiskStorage(tempfile.mkdtemp(dir=_folder), durability=self.durability)

    def reopen(self, storage: Storage) -> Storage:
        """Another object on the same directory."""
        storage.close()
        return self.another(storage)

    def another(self, storage: Storage) -> Storage:
        """As a second process would open it."""
        assert isinstance(storage, DiskStorage)
        other = DiskStorage(storage.path, durability=self.durability)
        other.open()
        return other

    def elsewhere(self, storage: Storage) -> tuple[str, ...]:
        """By its URL."""
        assert isinstance(storage, DiskStorage)
        return "flowkit.storage:open_storage", f"disk:{storage.path}?durability={self.durability}"


class TestDisk(_Disk):
    """Every write survives a power cut."""


class TestProcess(_Disk):
    """Every write survives a killed process."""

    durability = Durability.PROCESS


def _make() -> Storage:
    return DiskStorage(tempfile.mkdtemp(dir=_folder), durability=Durability.PROCESS)


def _restarted(storage: Storage) -> Storage:
    """Another object on the same directory.

    The workers are kept alive, as if others were using their names: the machine's oracle knows no dead processes.
    """
    assert isinstance(storage, DiskStorage)
    for file in (storage.path / "workers").iterdir():
        descriptor = os.open(file, os.O_RDONLY)
        _kept_alive.append(descriptor)
        flock(descriptor, LOCK_SH)
    storage.close()
    again = DiskStorage(storage.path, durability=Durability.PROCESS)
    again.open()
    return again


TestDiskAgainstMemory = storage_machine(_make, restarted=_restarted).TestCase
TestDiskAgainstMemory.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
