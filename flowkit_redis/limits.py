"""What is not taken: values that are too large, for Redis copies them several times."""

from __future__ import annotations

from collections.abc import Sequence

from flowkit.errors import SerializationError
from flowkit.records import Block, Commit, Finish, Go, NewRun

MAX_VALUE_BYTES = 16 * 1024 * 1024


def check_size(value: bytes, what: str, owner: str) -> None:
    """Refuse a value that is too large, before anything is changed.

    Raises:
        SerializationError: names the value, its size and the limit; sending it again would not help.
    """
    if len(value) > MAX_VALUE_BYTES:
        raise SerializationError(
            f"{what} of {owner!r} has {len(value)} bytes; the redis storage takes at most {MAX_VALUE_BYTES}: "
            "keep large data elsewhere and pass a reference to it"
        )


def check_runs(runs: Sequence[NewRun]) -> None:
    """Refuse new runs with a value that is too large."""
    for new in runs:
        check_size(new.input, "the input", new.run_id)
        for entry in new.entries:
            check_size(entry, "an entry", new.run_id)


def check_commits(commits: Sequence[Commit]) -> None:
    """Refuse commits with a value that is too large; none of the call is applied then."""
    for commit in commits:
        for entry in commit.entries:
            if len(entry) > MAX_VALUE_BYTES:  # the hot path: no call for each entry
                check_size(entry, "an entry", commit.run_id)
        if commit.spawn or commit.send or not isinstance(commit.then, Go):
            _check_rest(commit)


def _check_rest(commit: Commit) -> None:
    check_runs(commit.spawn)
    for send in commit.send:
        check_size(send.message.payload, "a message", send.run_id)
    match commit.then:
        case Finish(result=value) | Block(reason=value):
            check_size(value, "the result", commit.run_id)
        case _:
            pass
