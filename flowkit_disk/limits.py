"""The largest value that a disk storage takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flowkit.errors import SerializationError
from flowkit.records import Block, Commit, Finish, NewRun

MAX_VALUE_BYTES = 16 * 1024 * 1024


def check_size(value: bytes, what: str, owner: str) -> None:
    """Refuse a value that is too large, before anything is changed.

    Raises:
        SerializationError: names the value, its size and the limit; sending it again would not help.
    """
    if len(value) > MAX_VALUE_BYTES:
        raise SerializationError(
            f"{what} of {owner!r} has {len(value)} bytes; the disk storage takes at most {MAX_VALUE_BYTES} (16 MiB). "
            "Store large data elsewhere and record where it is"
        )


def payloads_of_run(new: NewRun) -> Iterator[bytes]:
    """The payloads of a new run, each checked."""
    check_size(new.input, "the input", new.run_id)
    yield new.input
    for entry in new.entries:
        check_size(entry, "an entry", new.run_id)
        yield entry


def payloads_of(commits: Sequence[Commit]) -> Iterator[bytes]:
    """The payloads of commits, each checked; if one is too large, none of the commits is applied."""
    for commit in commits:
        for entry in commit.entries:
            check_size(entry, "an entry", commit.run_id)
            yield entry
        for new in commit.spawn:
            yield from payloads_of_run(new)
        for send in commit.send:
            check_size(send.message.payload, "a message", send.run_id)
            yield send.message.payload
        match commit.then:
            case Finish(result=value) | Block(reason=value):
                check_size(value, "the result", commit.run_id)
                yield value
            case _:
                pass
