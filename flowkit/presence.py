"""Which workers are there, for `flowkit doctor` and for health checks. Nothing depends on it.

Each says so in a shared value now and then, and one that has been told to touches a file.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from attrs import asdict

from flowkit.engine import Engine
from flowkit.frozen import frozen
from flowkit.registry import tasks

log = logging.getLogger(__name__)

KEY = "flowkit:workers"
TRIES = 5
FIRST_MS = 1_000
SILENT_LEASES = 3  # after which a worker is taken to be gone
SHOWN = 12


@frozen
class Member:
    """A worker, as it has last said."""

    queues: tuple[str, ...]
    tasks: tuple[str, ...]
    concurrency: int
    until_ms: int  # gone, unless it says so again before


class Shared(Protocol):
    """What is needed of a storage."""

    def get(self, key: str) -> tuple[bytes, int] | None:
        """Read a small shared value and its revision."""

    def compare_and_set(self, key: str, revision: int, value: bytes) -> int | None:
        """Write it if its revision is still this."""


def workers(storage: Shared, now_ms: int) -> dict[str, Member]:
    """The workers that have said lately that they are there."""
    found = storage.get(KEY)
    return {} if found is None else _living(found[0], now_ms)


def announce(storage: Shared, worker: str, member: Member | None, now_ms: int) -> bool:
    """Say that a worker is there, or (None) that it is not; those that have gone silent are forgotten."""
    for _ in range(TRIES):  # others announce themselves too; it is not worth more
        data, revision = storage.get(KEY) or (b"{}", 0)
        members = _living(data, now_ms)
        members.pop(worker, None)
        if member is not None:
            members[worker] = member
        document = {name: asdict(each) for name, each in members.items()}
        if storage.compare_and_set(KEY, revision, json.dumps(document).encode()) is not None:
            return True
    return False


def _living(data: bytes, now_ms: int) -> dict[str, Member]:
    try:
        document = json.loads(data)
    except ValueError:
        return {}
    members = {str(name): _member(each) for name, each in document.items()} if isinstance(document, Mapping) else {}
    return {name: member for name, member in members.items() if member is not None and member.until_ms > now_ms}


def _member(document: object) -> Member | None:
    match document:
        case {"queues": [*queues], "tasks": [*tasks], "concurrency": int(concurrency), "until_ms": int(until_ms)}:
            return Member(_texts(queues), _texts(tasks), concurrency, until_ms)
        case _:
            return None


def _texts(values: Sequence[object]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)


class Presence:
    """What shows others that a worker is alive.

    Args:
        engine: over the storage in which it says so.
        queues: those that it serves.
        concurrency: how many runs it advances at a time.
        liveness: a file to touch.
    """

    def __init__(self, engine: Engine, queues: tuple[str, ...], concurrency: int, liveness: Path | None) -> None:
        self._engine = engine
        self._queues = queues
        self._concurrency = concurrency
        self._liveness = liveness
        self._next_ms = engine.clock.now_ms() + FIRST_MS
        self._announced = False
        self._looked_s = -math.inf

    def __str__(self) -> str:
        names = sorted(tasks.ids())
        shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        return (
            f"queues {', '.join(self._queues)}, {self._concurrency} runs at a time, "
            f"{len(names)} tasks{f' ({shown})' if shown else ''}"
        )

    def announce(self) -> None:
        """Say now and then that the worker is there; one that ends within a second need not."""
        engine, now_ms = self._engine, self._engine.clock.now_ms()
        if now_ms < self._next_ms:
            return
        self._next_ms = now_ms + engine.lease_ms
        until_ms = now_ms + SILENT_LEASES * engine.lease_ms
        member = Member(self._queues, tasks.ids(), self._concurrency, until_ms)
        self._announced = announce(engine.storage, engine.worker_id, member, now_ms) or self._announced

    def looked(self) -> None:
        """The storage has answered."""
        first = self._looked_s == -math.inf
        self._looked_s = time.monotonic()
        if first:
            self.beat()

    def beat(self) -> None:
        """Touch the file, if the storage has answered within the time of a lease."""
        if self._liveness is None or time.monotonic() - self._looked_s > self._engine.lease_ms / 1000:
            return
        try:
            self._liveness.touch()
        except OSError as error:
            log.warning("the liveness file cannot be touched: %s", error)

    def end(self) -> None:
        """The worker has stopped."""
        if self._liveness is not None:
            with contextlib.suppress(OSError):
                self._liveness.unlink(missing_ok=True)
        if self._announced:
            self._announced = False
            with contextlib.suppress(Exception):  # it is forgotten anyway, a little later
                announce(self._engine.storage, self._engine.worker_id, None, self._engine.clock.now_ms())
