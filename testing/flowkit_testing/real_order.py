"""What processes of the real tier are told, and what they tell: JSON, on a pipe and in files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attrs import asdict, define, field, frozen

Counted = list[tuple[str, str, int, int]]
"""Run, key and number of an attempt, and how often."""


@define
class Memory:
    """What was seen so far, for the next process to go on from: this one may be gone at any time."""

    struck: int = 0  # how many faults of the schedule have happened
    now_ms: int = 0  # virtual time
    begun: Counted = field(factory=list)
    allowed: Counted = field(factory=list)
    fences: dict[str, int] = field(factory=dict)


@define
class Report:
    """Written by a process before it dies or stands still, and at its end."""

    memory: Memory
    wrong: list[str] = field(factory=list)
    timeline: list[str] = field(factory=list)
    undoable: list[tuple[str, str]] = field(factory=list)
    calls_after_cancel: int = 0
    error: str = ""  # why it could not do what it was told

    def write(self, path: str) -> None:
        """Put it there, whole or not at all."""
        beside = Path(path + ".part")
        beside.write_text(json.dumps(asdict(self)), encoding="utf-8")
        beside.replace(path)

    @classmethod
    def read(cls, path: str) -> Report:
        """What a process has written."""
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        pairs = [(run_id, key) for run_id, key in found.pop("undoable")]
        return cls(memory_of(found.pop("memory")), undoable=pairs, **found)


@frozen
class Order:
    """What a process is to do."""

    url: str  # of the storage
    module: str
    file: str
    task: str
    args: list[Any]  # as JSON, like all that follows
    kwargs: dict[str, Any]
    events: list[tuple[str, Any]]
    token: str  # of the whole schedule
    memory: Memory
    report: str  # the path of its report
    submits: bool = False  # its predecessor has died before it knew that the run was there
    takes_over: str = ""  # the run that it is to take from a process that stands still
    stands: bool = False  # as soon as it has taken it

    @property
    def go_on(self) -> Path:
        """Where it reads what was seen while it stood still."""
        return Path(self.report + ".go-on")


def order_of(text: str) -> Order:
    """An order as it was sent."""
    given = json.loads(text)
    memory = memory_of(given.pop("memory"))
    events = [(name, payload) for name, payload in given.pop("events")]
    return Order(memory=memory, events=events, **given)


def text_of(order: Order) -> str:
    """An order as a line."""
    return json.dumps(asdict(order))


def memory_of(given: dict[str, Any]) -> Memory:
    """From JSON."""
    begun, allowed = (
        [(run, key, number, times) for run, key, number, times in given.pop(name)] for name in ("begun", "allowed")
    )
    return Memory(begun=begun, allowed=allowed, **given)


def pass_memory(memory: Memory, order: Order) -> None:
    """Let a process that stands still know what has happened meanwhile, before it is let go on."""
    order.go_on.write_text(json.dumps(asdict(memory)), encoding="utf-8")
