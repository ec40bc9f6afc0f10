"""Reading runs: headers; journals and inboxes page by page."""

from __future__ import annotations

import sys

from flowkit.errors import StorageError
from flowkit.records import RunHeader, Snapshot
from flowkit_redis import answers
from flowkit_redis.keys import encoded
from flowkit_redis.opening import Opened

ENTRIES_AT_ONCE = 1000
_LAST = b"0"  # the cursor after the last page of an inbox


def read_header(opened: Opened, run_id: str) -> RunHeader | None:
    """The header of a run; None if there is no such run."""
    shard = opened.layout.of(run_id)
    keys = (shard.own, shard.key(b"r:", run_id))
    (words,) = opened.link.run(shard.number, "headers", keys, (b"", encoded(run_id)))
    return None if words is None else answers.header(words)


def read_snapshot(opened: Opened, run_id: str, after: int, limit: int | None) -> Snapshot | None:
    """A run as it is at one moment: a journal only grows, so that its pages fit together.

    Of messages that come while an inbox of many pages is read, some may be there already.

    Raises:
        StorageError: the journal is shorter than the run says, as someone else has written to its keys.
    """
    most = sys.maxsize if limit is None else limit
    first = _page(opened, run_id, after, most, whole=True)
    if first is None:
        return None
    now_ms, words, payload, result, entries, inbox = first
    header = answers.header(words)
    wanted = max(0, min(header.length - after, most))
    while len(entries) < wanted:
        page = _page(opened, run_id, after + len(entries), wanted - len(entries), whole=False)
        if page is None or answers.number_of(page[1]) != answers.number_of(words):
            return read_snapshot(opened, run_id, after, limit)  # it was forgotten, and is another run by now
        if not page[4]:
            raise StorageError(f"the journal of run {run_id!r} has lost entries: {header.length} were recorded")
        entries += page[4]
    messages = () if inbox is None else answers.messages(_inbox(opened, run_id, *inbox))
    return Snapshot(header, payload, result, tuple(entries), messages, now_ms)


def _inbox(opened: Opened, run_id: str, cursor: bytes, messages: list[answers.Answer]) -> list[answers.Answer]:
    """What the first page of an inbox has, and all others."""
    shard = opened.layout.of(run_id)
    keys = (shard.own, shard.key(b"i:", run_id))
    while cursor != _LAST:
        cursor, more = opened.link.run(shard.number, "more_inbox", keys, (b"", encoded(run_id), cursor))
        messages += more
    return messages


def _page(opened: Opened, run_id: str, after: int, limit: int, *, whole: bool) -> answers.Answer:
    shard = opened.layout.of(run_id)
    keys = (shard.own, *(shard.key(kind, run_id) for kind in (b"r:", b"j:", b"i:")))
    words = (b"", encoded(run_id), after, min(limit, ENTRIES_AT_ONCE), int(whole))
    return opened.link.run(shard.number, "load", keys, words)
