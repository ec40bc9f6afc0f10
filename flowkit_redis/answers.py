"""Answers of scripts as records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from flowkit.records import (
    Done,
    Fenced,
    Gap,
    Lease,
    LeaseState,
    Limit,
    Message,
    MessageKind,
    Missing,
    RunHeader,
    RunStatus,
    Verdict,
)
from flowkit_redis.keys import decoded, split_lane

Answer = Any  # what a script gives back: numbers, bytes, None, and lists of them

_FENCED = Fenced()
_MISSING = Missing()
_WAITING = b"W"


def header(words: Sequence[Answer]) -> RunHeader:
    """A header as `told` in places.lua gives it: the id, then the fields in the order of header.lua."""
    (run_id, _, lane, priority, extra, created, updated, finished, status, place, due) = words[:11]
    (_, length, inbox, crashes, cancel, _, worker, _, _, revision, _, _, _, places, limit) = words[11:26]
    queue, task = split_lane(lane)
    tags, parent = json.loads(extra)
    return RunHeader(
        run_id=decoded(run_id),
        task=task,
        status=RunStatus(status.decode()),
        queue=queue,
        priority=priority,
        tags=tuple(tags),
        parent=parent,
        created_at_ms=created,
        updated_at_ms=updated,
        finished_at_ms=finished,
        wake_at_ms=due if place == _WAITING else None,
        length=length,
        inbox=inbox,
        crashes=crashes,
        cancel=bool(cancel),
        worker=None if worker is None else decoded(worker),
        revision=revision,
        limit=None if places is None else Limit(places, decoded(limit)),
    )


def number_of(words: Sequence[Answer]) -> int:
    """The number by which the run of a header stands in listings."""
    number: int = words[1]
    return number


def born(words: Sequence[Answer]) -> Lease | None:
    """The lease in a header, if the run is leased."""
    owner = words[16]
    return None if owner is None else Lease(decoded(words[0]), decoded(owner), words[18], words[14])


def verdicts(answer: bytes) -> Iterator[Verdict]:
    """What became of commits: `append.lua` tells how."""
    now_ms, *numbers = map(int, answer.split())
    for at in range(0, len(numbers), 4):
        kind, length, cancel, inbox = numbers[at : at + 4]
        if kind == 0:
            yield Done(length, cancel == 1, inbox, now_ms)
        elif kind == 1:
            yield _FENCED
        else:
            yield Gap(length) if kind == 2 else _MISSING  # noqa: PLR2004  # the numbers of append.lua


def lease_states(answer: Sequence[int]) -> Iterator[LeaseState]:
    """What became of leases."""
    for at in range(0, len(answer), 3):
        held, cancel, inbox = answer[at : at + 3]
        yield LeaseState(bool(held), bool(cancel), inbox)


def messages(answer: Sequence[Sequence[bytes]]) -> tuple[Message, ...]:
    """An inbox, oldest first; the answer may have a message twice."""
    by_arrival = {arrival: words for arrival, *words in answer}
    return tuple(
        Message(decoded(message_id), MessageKind(kind.decode()), decoded(name), payload)
        for _, (message_id, kind, name, payload) in sorted(by_arrival.items())
    )
