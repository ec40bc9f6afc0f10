"""What this process remembers of the runs it advances, so that an append needs to read nothing.

A hint says where the log of a run ended when we last looked. It needs no truth, only a check: an append adds the row
behind that end and is refused if there is one. Whatever happens to a run adds a row to its log, a claim by another
worker above all, so an append that goes through proves that nothing has happened: the owner is the same (rule D4), no
message came, nobody cancelled. Only a purge takes rows away, so it changes the storage's epoch, and hints of an
earlier epoch count for nothing.
"""

from __future__ import annotations

from attrs import define

from flowkit.records import Commit, Done, Go, RunStatus
from flowkit_disk.logrows import PACKED
from flowkit_disk.runrow import Run

REMEMBERED_AT_MOST = 10_000  # runs
SMALL_BYTES = 1024  # of a commit that is worth a copy; bounds what is remembered of a run as well


@define(eq=False)
class Hint:
    """The end of a run's log, and what its row says."""

    number: int
    owner: str
    fence: int
    status: RunStatus
    cancel: bool
    inbox: int
    position: int
    length: int
    last_commit: str | None
    block: list[tuple[bytes, ...]] | None = None  # the entries of each commit since a multiple of PACKED; None: not all
    block_base: int = 0

    def fits(self, commit: Commit) -> bool:
        """Whether a commit only appends to what we remember."""
        then = commit.then
        return (
            self.length == commit.base
            and self.owner == commit.owner
            and self.fence == commit.fence
            and self.last_commit != commit.commit_id
            and type(then) is Go
            and then.status is self.status
            and bool(commit.entries)
            and not (commit.consume or commit.spawn or commit.send)
        )

    def ends_block(self) -> bool:
        """Whether one more commit completes a block that can be copied into one row."""
        return self.block is not None and len(self.block) == PACKED - 1

    def appended(self, commit: Commit, size: int, now_ms: int) -> Done:
        """The commit was appended, with so many bytes of entries."""
        block = self.block
        if self.position % PACKED == 0:
            self.block = [commit.entries] if size <= SMALL_BYTES else None
            self.block_base = self.length
        elif block is not None:
            if size <= SMALL_BYTES:
                block.append(commit.entries)
            else:
                self.block = None
        self.position += 1
        self.length += len(commit.entries)
        self.last_commit = commit.commit_id
        return Done(self.length, self.cancel, self.inbox, now_ms)


class Hints:
    """The hints of one storage in this process."""

    def __init__(self) -> None:
        self._hints: dict[str, Hint] = {}
        self.get = self._hints.get  # what we remember of a run; on the hot path
        self.epoch = b"-"  # of the signals when the hints were true

    def remember(self, run: Run, epoch: bytes) -> None:
        """We have just seen this of a leased run, in a transaction of that epoch."""
        if epoch != self.epoch:
            self._hints.clear()
            self.epoch = epoch
        if len(self._hints) >= REMEMBERED_AT_MOST:
            self._hints.clear()
        self._hints[run.run_id] = Hint(
            number=run.number,
            owner=run.owner or "",
            fence=run.fence,
            status=run.status,
            cancel=run.cancel,
            inbox=run.inbox,
            position=run.position,
            length=run.length,
            last_commit=run.last_commit,
        )

    def forget(self, run_id: str) -> None:
        """Something else became of a run."""
        self._hints.pop(run_id, None)

    def clear(self) -> None:
        """Trust nothing that we remember."""
        self._hints.clear()
