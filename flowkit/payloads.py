"""The payloads in what a storage is asked to store, and how large one may be. For storages of any kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flowkit.errors import SerializationError
from flowkit.frozen import frozen
from flowkit.records import Block, Commit, Finish, Go, NewRun

MAX_VALUE_BYTES = 16 * 1024 * 1024


@frozen
class SizeLimit:
    """The largest value that a storage takes. A call with a larger one is refused before anything is changed.

    Args:
        storage: the storage's name, for messages.
        max_bytes: how large a value may be.

    Raises (each of the methods):
        SerializationError: names the value, its size and the limit; sending it again would not help.
    """

    storage: str
    max_bytes: int = MAX_VALUE_BYTES

    def check(self, value: bytes, what: str, owner: str) -> None:
        """Refuse a value that is too large."""
        if len(value) > self.max_bytes:
            raise SerializationError(
                f"{what} of {owner!r} has {len(value)} bytes; the {self.storage} storage takes at most "
                f"{self.max_bytes}: keep large data elsewhere and pass a reference to it"
            )

    def check_runs(self, runs: Sequence[NewRun]) -> None:
        """Refuse new runs with a value that is too large."""
        for new in runs:
            self.check(new.input, "the input", new.run_id)
            for entry in new.entries:
                self.check(entry, "an entry", new.run_id)

    def check_commits(self, commits: Sequence[Commit]) -> None:
        """Refuse commits with a value that is too large; none of the call is applied then."""
        most = self.max_bytes
        for commit in commits:
            for entry in commit.entries:
                if len(entry) > most:  # the hot path: no call for each entry
                    self.check(entry, "an entry", commit.run_id)
            if commit.spawn or commit.send or type(commit.then) is not Go:
                self._check_rest(commit)

    def _check_rest(self, commit: Commit) -> None:
        self.check_runs(commit.spawn)
        for send in commit.send:
            self.check(send.message.payload, "a message", send.run_id)
        match commit.then:
            case Finish(result=value) | Block(reason=value):
                self.check(value, "the result", commit.run_id)
            case _:
                pass


def payloads_of_run(new: NewRun) -> Iterator[bytes]:
    """The payloads of a new run."""
    yield new.input
    yield from new.entries


def payloads_of(commits: Sequence[Commit]) -> Iterator[bytes]:
    """The payloads of commits, of the runs that they create and the messages that they send."""
    for commit in commits:
        yield from commit.entries
        for new in commit.spawn:
            yield from payloads_of_run(new)
        for send in commit.send:
            yield send.message.payload
        match commit.then:
            case Finish(result=value) | Block(reason=value):
                yield value
            case _:
                pass
