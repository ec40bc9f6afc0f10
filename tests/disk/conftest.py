"""Directories for disk storages, where a sync costs nothing if the machine has such a place; other processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from flowkit.records import Created, Durability, Grant, Lease, NewRun
from flowkit_disk import DiskStorage

_IN_MEMORY = Path("/dev") / "shm"
_PREAMBLE = """
import os, sys, time
from flowkit.records import *
from flowkit_disk import DiskStorage

def born(storage, run_id, worker="worker", lease_ms=3_600_000):
    grant = Grant(worker, f"token-{run_id}", lease_ms)
    return storage.submit([NewRun(run_id, "task", b"input", grant=grant)])[0].lease

def write(storage, lease, base, *entries, commit_id=None):
    commit = Commit(lease.run_id, lease.owner, lease.fence, commit_id or f"c{base}", base, entries)
    return storage.commit([commit])[0]

def say(*words):
    print(*words, flush=True)

storage = DiskStorage(sys.argv[1])
storage.open()
"""


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
        storages.append(storage)
        storage.open()
        return storage

    yield open_one
    for storage in storages:
        storage.close()


@pytest.fixture
def disk(opened: Callable[..., DiskStorage]) -> DiskStorage:
    """An opened storage."""
    return opened()


@pytest.fixture
def born() -> Callable[..., Lease]:
    """Creates runs that are born claimed."""

    def create(storage: DiskStorage, run_id: str = "run", worker: str = "worker", lease_ms: int = 3_600_000) -> Lease:
        grant = Grant(worker, f"token-{run_id}", lease_ms)
        (answer,) = storage.submit([NewRun(run_id, "task", b"input", grant=grant)])
        assert isinstance(answer, Created)
        assert answer.lease is not None
        return answer.lease

    return create


@pytest.fixture
def python(state: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python processes in which `storage` is open on that directory, and `say` prints a line."""
    processes: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: str, preamble: bool = True) -> subprocess.Popen[str]:
        text = (_PREAMBLE if preamble else "") + dedent(script)
        command = [sys.executable, "-c", text, str(state), *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()
