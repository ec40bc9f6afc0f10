"""Changes as the arguments of scripts: flat lists that `runs.lua` and `commit.lua` read from left to right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import assert_never

from flowkit.records import Block, Commit, Finish, Go, NewRun, Send, Suspend, Then, Yield
from flowkit_redis.keys import Layout, Shard, encoded, indexes_of, lane_of

Word = bytes | int
NONE = b""  # what the scripts read as nil


def run_words(new: NewRun, home: Shard | None) -> list[Word]:
    """A run to create, and which shard counts its places, if not its own."""
    words: list[Word] = [
        encoded(new.run_id),
        lane_of(new.queue, new.task),
        new.priority,
        json.dumps([new.tags, new.parent]).encode(),
        new.input,
        NONE if new.start_at_ms is None else new.start_at_ms,
        NONE if new.limit is None else new.limit.places,
        NONE if new.limit is None else encoded(new.limit.key),
        NONE if home is None else home.number,
    ]
    if new.grant is None:
        words.append(0)
    else:
        words += (1, encoded(new.grant.token), encoded(new.grant.worker), new.grant.lease_ms)
    indexes = indexes_of(new.task, new.tags)
    return [*words, len(indexes), *indexes, len(new.entries), *new.entries]


def message_words(send: Send) -> list[Word]:
    """A message and whom it is for."""
    message = send.message
    return [
        encoded(send.run_id),
        encoded(message.id),
        message.kind.value.encode(),
        encoded(message.name),
        message.payload,
    ]


def append_words(commit: Commit, status: str) -> list[Word]:
    """A commit that only appends."""
    return [
        encoded(commit.run_id),
        encoded(commit.owner),
        commit.fence,
        encoded(commit.commit_id),
        commit.base,
        status.encode(),
        len(commit.entries),
        *commit.entries,
    ]


def commit_words(
    commit: Commit, spawn: Sequence[NewRun], send: Sequence[Send], out: Sequence[bytes], layout: Layout
) -> list[Word]:
    """A commit of any kind; what it does in other shards is in `out`."""
    words: list[Word] = [
        encoded(commit.run_id),
        encoded(commit.owner),
        commit.fence,
        encoded(commit.commit_id),
        commit.base,
        len(commit.entries),
        *commit.entries,
        len(commit.consume),
        *map(encoded, commit.consume),
        len(spawn),
    ]
    for new in spawn:
        words += run_words(new, layout.home(new))
    words.append(len(send))
    for one in send:
        words += message_words(one)
    return [*words, len(out), *out, *_then_words(commit.then)]


def _then_words(then: Then) -> tuple[Word, ...]:
    match then:
        case Go(status=status):
            return b"go", status.value.encode()
        case Yield():
            return (b"yield",)
        case Suspend(wake_at_ms=wake_at, inbox_at_least=enough, cancel_seen=seen):
            return b"suspend", NONE if wake_at is None else wake_at, NONE if enough is None else enough, int(seen)
        case Block(reason=reason):
            return b"block", reason
        case Finish(status=status, result=result):
            return b"finish", status.value.encode(), result
        case _:
            assert_never(then)
