"""Examine an open storage: what its writes survive, how long they take, what waits in it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from attrs import frozen

from flowkit.engine import Engine
from flowkit.presence import Member, workers
from flowkit.records import Durability, QueueCount, RunStatus
from flowkit.storage import Storage

KEY: Final = "flowkit:doctor"
WRITES: Final = 20
SUSPICIOUSLY_QUICK_MS: Final = 0.02  # no disk reaches its medium in this time
SLOW_MS: Final = 20.0

PROCESS_ADVICE: Final = (
    "runs survive a killed process, but the last steps may be lost in a power cut; if that matters, let the storage "
    "wait for the disk (disk: without durability=process; Redis with appendfsync always)"
)
TOO_QUICK: Final = (
    "a durable write took {:.3f} ms, less than any disk needs: the folder may be in memory (tmpfs), or the disk may "
    "not wait for its medium"
)

SURVIVES: Final[Mapping[Durability, str]] = {
    Durability.MEMORY: "nothing: it ends with the process that keeps it",
    Durability.PROCESS: "a killed process, not a power cut",
    Durability.DISK: "a killed process and a power cut",
    Durability.REPLICATED: "the loss of a machine",
}


@frozen
class Waiting:
    """Runs of one task in one queue: those that wait for a worker, and those that one advances."""

    queue: str
    task: str
    ready: int
    leased: int
    known: bool | None  # whether the given code has the task; None: no code was given


@frozen
class Diagnosis:
    """What was found."""

    durability: Durability
    survives: str
    write_ms: float
    by_status: Mapping[RunStatus, int]
    queues: tuple[Waiting, ...]
    workers: Mapping[str, Member]  # those that have said lately that they are there
    advice: tuple[str, ...]


def diagnose(engine: Engine, known: AbstractSet[str] | None) -> Diagnosis:
    """Examine the storage of an open flow.

    Args:
        engine: of the flow.
        known: the task ids that the given code has; None: no code was given.

    Raises:
        StorageError: it cannot be written to.
    """
    level = engine.capabilities.durability
    write_ms = _median_write_ms(engine.storage)
    counts = engine.storage.stats()
    queues = tuple(_waiting(each, known) for each in counts.queues)
    alive = workers(engine.storage, engine.clock.now_ms())
    durable = engine.capabilities.advice or durability_advice(level, write_ms)
    advice = [*durable, *_run_advice(counts.by_status, queues), *_unserved(queues, alive)]
    return Diagnosis(level, SURVIVES[level], write_ms, counts.by_status, queues, alive, tuple(advice))


def _median_write_ms(storage: Storage) -> float:
    took_ms: list[float] = []
    for _ in range(WRITES):
        found = storage.get(KEY)
        began_s = time.perf_counter()
        storage.compare_and_set(KEY, 0 if found is None else found[1], b"a write of flowkit doctor")
        took_ms.append((time.perf_counter() - began_s) * 1000)
    return statistics.median(took_ms)


def _waiting(count: QueueCount, known: AbstractSet[str] | None) -> Waiting:
    return Waiting(count.queue, count.task, count.ready, count.leased, None if known is None else count.task in known)


def durability_advice(level: Durability, write_ms: float) -> list[str]:
    """What to change about how durable the storage is."""
    match level:
        case Durability.MEMORY:
            return ["runs are lost with the process; use disk:PATH to keep them"]
        case Durability.PROCESS:
            return [PROCESS_ADVICE]
        case Durability.DISK if write_ms < SUSPICIOUSLY_QUICK_MS:
            return [TOO_QUICK.format(write_ms)]
        case Durability.DISK if write_ms > SLOW_MS:
            return [f"a durable write takes {write_ms:.0f} ms, and each step waits for one; a local SSD takes under 5"]
        case _:
            return []


def _run_advice(by_status: Mapping[RunStatus, int], queues: tuple[Waiting, ...]) -> list[str]:
    advice: list[str] = []
    if blocked := by_status.get(RunStatus.BLOCKED, 0):
        advice.append(
            f"{blocked:,} run{'' if blocked == 1 else 's'} blocked until someone mends something: "
            "flowkit runs list --status blocked"
        )
    unknown = sorted({each.task for each in queues if each.known is False and each.ready})
    advice += [
        f"runs of task {task!r} wait, but the given code does not have it: they need another worker" for task in unknown
    ]
    return advice


def _unserved(queues: tuple[Waiting, ...], alive: Mapping[str, Member]) -> Iterator[str]:
    """X4: runs wait for a worker that knows their task and serves their queue, if there ever is one."""
    for each in queues:
        if not each.ready or each.known is False or not alive:
            continue
        if not any(each.task in member.tasks for member in alive.values()):
            yield f"runs of task {each.task!r} wait, but no worker that is alive knows it: start one with its module"
        elif not any(each.task in member.tasks and each.queue in member.queues for member in alive.values()):
            yield (
                f"runs of task {each.task!r} wait in queue {each.queue!r}, which no worker that knows it serves: "
                f"flowkit worker MODULE --queues {each.queue}"
            )
