"""What is to be written of runs, and what became of it: changes, the commits that they make, and who is told.

Pure but for the telling; `committer` decides when a batch is sent, and by which thread.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

from attrs import define

from flowkit.errors import LeaseLost
from flowkit.records import GO, Commit, Done, Fenced, Gap, Lease, Missing, NewRun, Send, Then, Verdict

log = logging.getLogger(__name__)


@define(eq=False, repr=False)
class Writer:
    """The writing end of one claimed run: who may write, and how long its journal is."""

    lease: Lease
    length: int
    cancel: bool = False  # cancellation has been asked for, as of the last answer
    inbox: int = 0
    lost: str | None = None  # why nothing can be written any more
    on_news: Callable[[], None] | None = None  # called when `cancel` or `inbox` change
    commits: int = 0  # batches so far


@define(eq=False, repr=False)
class Change:
    """What one operation wants written, and what became of it."""

    writer: Writer
    entries: tuple[bytes, ...] = ()
    consume: tuple[str, ...] = ()
    spawn: tuple[NewRun, ...] = ()
    send: tuple[Send, ...] = ()
    then: Then = GO
    position: int = 0  # of its last entry, once it is written
    error: BaseException | None = None
    settled: bool = False
    event: threading.Event | None = None  # a thread waits on it
    loop: asyncio.AbstractEventLoop | None = None
    future: asyncio.Future[int] | None = None

    def answer(self) -> int:
        """The position; or raises what went wrong."""
        if self.error is not None:
            raise self.error
        return self.position


def by_run(batch: list[Change]) -> list[list[Change]]:
    """The changes of each run together; those of a run whose lease is lost are told so."""
    groups: dict[int, list[Change]] = {}
    for change in batch:
        if change.writer.lost is not None:
            fail([change], LeaseLost(change.writer.lost))
        else:
            groups.setdefault(id(change.writer), []).append(change)
    return list(groups.values())


def next_commit(
    writer: Writer,
    entries: tuple[bytes, ...],
    consume: tuple[str, ...],
    spawn: tuple[NewRun, ...],
    send: tuple[Send, ...],
    then: Then,
) -> Commit:
    """The next commit of a run, with an id of its own."""
    lease = writer.lease
    run_id, owner = lease.run_id, lease.owner
    writer.commits += 1
    commit_id = f"{owner}:{run_id}:{writer.commits}"  # D7: the same one is sent again until its answer is known
    return Commit(run_id, owner, lease.fence, commit_id, writer.length, entries, consume, spawn, send, then)


def merge(group: list[Change]) -> Commit:
    """One commit for all that a run's branches handed in; only the last of them can end or suspend the run."""
    last = group[-1]
    if len(group) == 1:
        return next_commit(last.writer, last.entries, last.consume, last.spawn, last.send, last.then)
    return next_commit(
        last.writer,
        tuple(entry for change in group for entry in change.entries),
        tuple(message for change in group for message in change.consume),
        tuple(run for change in group for run in change.spawn),
        tuple(send for change in group for send in change.send),
        last.then,
    )


def fail(group: list[Change], error: BaseException) -> None:
    """They were not written, as far as anyone knows."""
    for change in group:
        change.error, change.settled = error, True
        if change.event is None and change.future is None and change.writer.lost is None:
            # nobody waits for what was posted, and what comes after it must not be stored without it
            change.writer.lost = f"run {change.writer.lease.run_id!r} could not record an item: {error}"


def settle(group: list[Change], commit: Commit, verdict: Verdict) -> None:
    """What the storage said of the commit that a run's changes made together."""
    writer = group[0].writer
    match verdict:
        case Done(length=length, cancel=cancel, inbox=inbox):
            position = commit.base
            for change in group:
                position += len(change.entries)
                change.position, change.settled = position, True
            writer.length = length
            if (cancel, inbox) != (writer.cancel, writer.inbox):
                writer.cancel, writer.inbox = cancel, inbox
                if writer.on_news is not None:
                    writer.on_news()
        case Fenced():
            _lose(group, f"run {commit.run_id!r} was taken over by another worker; this one records nothing more")
        case Missing():
            _lose(group, f"run {commit.run_id!r} is not in the storage any more")
        case Gap(length=length):
            _lose(
                group,
                f"run {commit.run_id!r} has {length} journal entries in the storage where {commit.base} were expected; "
                "it will be replayed from what is stored",
            )


def _lose(group: list[Change], why: str) -> None:
    group[0].writer.lost = why
    for change in group:
        change.error, change.settled = LeaseLost(why), True


def notify(batch: list[Change], then: Callable[[], None] | None = None) -> bool:
    """Wake the waiting threads, and each event loop once, in the order of the journal (rule I4).

    Args:
        batch: the changes, settled.
        then: called by an event loop once it has run what waited for them, if all of them belong to one loop.

    Returns:
        whether `then` will be called, unless the loop ends before.
    """
    loops: dict[asyncio.AbstractEventLoop, list[Change]] = {}
    for change in batch:
        if change.event is not None:
            change.event.set()
        elif change.loop is not None:
            loops.setdefault(change.loop, []).append(change)
    told = False
    for loop, changes in loops.items():
        try:
            loop.call_soon_threadsafe(resolve, changes, then if len(loops) == 1 else None)
            told = True
        except RuntimeError:  # the loop was closed: nobody waits there any more
            log.debug("an event loop went away before its commit was answered")
    return told and len(loops) == 1


def resolve(changes: list[Change], then: Callable[[], None] | None = None) -> None:
    """Tell those who await them on this event loop; `then` is called once they have run on."""
    for change in changes:
        future = change.future
        if future is None or future.done():
            continue
        if change.error is not None:
            future.set_exception(change.error)
        else:
            future.set_result(change.position)
    if then is not None:
        asyncio.get_running_loop().call_soon(then)  # behind those who waited: they run first
