"""Committers in front of what stands in for a storage."""

from __future__ import annotations

from typing import cast

import pytest

from flowkit.committer import Committer
from flowkit.patience import PatientStorage
from flowkit.storage import Storage
from tests.committer.log import Log, PromptLog


@pytest.fixture
def log() -> Log:
    """A storage."""
    return Log()


@pytest.fixture
def committer(log: Log) -> Committer:
    """A committer in front of it."""
    return in_front_of(log)


@pytest.fixture
def prompt() -> PromptLog:
    """A storage that commits at once."""
    return PromptLog()


@pytest.fixture
def quick(prompt: PromptLog) -> Committer:
    """A committer in front of it."""
    return in_front_of(prompt)


def in_front_of(log: Log) -> Committer:
    """A committer that hands its batches to it."""
    storage = PatientStorage(cast("Storage", log), 5.0, lambda _seconds: None)
    return Committer(storage, instant=False, now_ms=lambda: None)
