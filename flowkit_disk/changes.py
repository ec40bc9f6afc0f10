"""The changes of one run, within one transaction. The memory storage's `state` is the model, method for method.

A run has at most one row among the ready, the due and the finished; `_leave` removes it and the method that called it
writes the next one, so a run is in one place at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from flowkit.records import (
    Block,
    Commit,
    Delivery,
    Done,
    Fenced,
    Finish,
    Gap,
    Go,
    Grant,
    Lease,
    Message,
    MessageKind,
    Missing,
    NewRun,
    RunStatus,
    Send,
    Suspend,
    Then,
    Verdict,
    Yield,
)
from flowkit_disk import keys
from flowkit_disk.book import Book
from flowkit_disk.logrows import Kind, Note
from flowkit_disk.runrow import Place, Run


class Changes:
    """Applies what the protocol asks for to the runs of a book."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._rows = book.rows
        self._now_ms = book.now_ms

    # ---- runs come and go

    def create(self, new: NewRun) -> Run:
        """Store a run whose id is free."""
        run = self._book.create(new)
        if new.grant is not None and self.has_room(run):
            self._lease(run, new.grant)
        elif new.grant is None and new.start_at_ms is not None and new.start_at_ms > self._now_ms:
            self._wait(run, new.start_at_ms, None, new_here=True)
        else:
            self._ready(run, new_here=True)
        return run

    def forget(self, run: Run) -> None:
        """Take a run out of everything that finds it; its log becomes garbage."""
        self._leave(run)
        self._rows.put(keys.garbage(run.number), str(run.position).encode())
        self._book.forget(run)

    # ---- leases

    def has_room(self, run: Run) -> bool:
        """Whether the run's limit lets it be leased, apart from a lease that it has already."""
        crowd = self._book.crowd(run)
        if crowd is None or run.limit is None:
            return True
        own = run.place is Place.LEASED and run.due_ms is not None and run.due_ms > self._now_ms
        return crowd.taken(self._now_ms) - own < run.limit.places

    def take(self, run: Run, grant: Grant) -> Lease:
        """Give a run to a new owner. Only this ends the right of the one before (rule D4)."""
        if run.place is Place.LEASED:
            run.crashes += 1  # R4: its owner neither handed it back nor renewed
        self._leave(run)
        self._lease(run, grant)
        self._book.log(run, Kind.MARK)
        return run.lease()

    def _lease(self, run: Run, grant: Grant) -> None:
        run.nth = self._book.next_nth(grant.token)
        run.place = Place.LEASED
        run.owner = grant.token
        run.worker = grant.worker
        run.fence += 1
        self._hold(run, self._now_ms + grant.lease_ms)
        if run.status is not RunStatus.COMPENSATING:
            run.status = RunStatus.RUNNING

    def lease_until(self, run: Run, until_ms: int) -> None:
        """Move the end of a lease. Nothing that its owner knows of changes, so the log says nothing of it."""
        self._remove_due(run)
        self._hold(run, until_ms)
        self._book.touch(run)

    # ---- the one hot operation, when it is more than an append

    def commit(self, commit: Commit) -> Verdict:
        """Apply a commit, or say why not."""
        run = self._book.run(commit.run_id)
        if run is None:
            return Missing()
        if commit.commit_id != run.last_commit:  # D7: the answer to the last one may have been lost
            if commit.owner != run.owner or commit.fence != run.fence:
                return Fenced()  # D4: in the transaction of the write
            if commit.base != run.length:
                return Gap(run.length)
            self._apply(run, commit)
        return Done(run.length, run.cancel, run.inbox, self._now_ms)

    def _apply(self, run: Run, commit: Commit) -> None:
        note = Note(consume=commit.consume)
        self._book.log(run, Kind.COMMIT, commit.entries, commit.commit_id, note)
        if commit.entries:
            run.crashes = 0
        for message_id in commit.consume:
            self._consume(run, message_id)
        self.create_missing(commit.spawn)
        for send in commit.send:
            self.deliver(send)
        run.last_commit = commit.commit_id
        self._go_on(run, commit.then)

    def create_missing(self, runs: Iterable[NewRun]) -> None:
        """Create those whose id is free; the others are left as they are (rule E3)."""
        for new in runs:
            if self._book.run(new.run_id) is None:
                self.create(new)

    def _go_on(self, run: Run, then: Then) -> None:
        match then:
            case Go(status=status):
                run.status = status
            case Yield():
                self._ready(run)
            case Suspend(wake_at_ms=wake_at_ms, inbox_at_least=enough, cancel_seen=seen):
                due = wake_at_ms is not None and wake_at_ms <= self._now_ms
                if (run.cancel and not seen) or due or (enough is not None and run.inbox >= enough):
                    self._ready(run)
                else:
                    self._wait(run, wake_at_ms, enough)
            case Block(reason=reason):
                self._block(run, reason)
            case Finish(status=status, result=result):
                self._finish(run, status, result)
            case _:
                assert_never(then)

    # ---- messages

    def deliver(self, send: Send) -> Delivery:
        """Take in a message, and wake the run if that is enough."""
        message = send.message
        run = self._book.run(send.run_id)
        if run is None:
            return Delivery.MISSING
        if self._rows.has(keys.message(run.number, message.id)):
            return Delivery.DUPLICATE  # E5, and first: whoever asks again after a lost answer is told the truth
        if not _takes(run, message.kind):
            return Delivery.CLOSED
        self._receive(run, message)
        match message.kind:
            case MessageKind.CANCEL:
                run.cancel = True
                if run.place in (Place.WAITING, Place.BLOCKED):  # E2: always wakes
                    self._ready(run)
            case MessageKind.REOPEN:
                run.crashes = 0
                run.cancel = False
                self._ready(run)
                run.finished_ms = None
            case MessageKind.EVENT | MessageKind.CHILD:
                if run.inbox_at_least is not None and run.inbox >= run.inbox_at_least:
                    self._ready(run)
            case _:
                assert_never(message.kind)
        return Delivery.DELIVERED

    def _receive(self, run: Run, message: Message) -> None:
        note = Note(message_id=message.id, message_kind=message.kind, message_name=message.name)
        self._book.log(run, Kind.MESSAGE, (message.payload,), note=note)
        in_inbox = message.kind is not MessageKind.CANCEL
        run.inbox += in_inbox
        self._rows.put(keys.message(run.number, message.id), str(run.position * in_inbox).encode())

    def _consume(self, run: Run, message_id: str) -> None:
        key = keys.message(run.number, message_id)
        lies_at = self._rows.get(key)
        if lies_at is not None and int(lies_at) > run.floor:
            run.inbox -= 1
            if not run.inbox:
                run.floor = run.position
        if lies_at != b"0":
            self._rows.put(key, b"0")  # E5: one that has not come yet is marked received, so it never arrives later

    # ---- from place to place

    def _leave(self, run: Run) -> None:
        match run.place:
            case Place.READY:
                self._withdraw(run, run.ready_ms)
            case Place.FINISHED:
                self._rows.drop(keys.finished_at(run.finished_ms or 0, run.number))
            case _:
                self._remove_due(run)
        run.owner = run.worker = run.due_ms = run.inbox_at_least = None

    def _remove_due(self, run: Run) -> None:
        if run.due_ms is None:
            return
        if not self._rows.drop(keys.due_at(run.lane, run.due_ms, run.number)):
            self._withdraw(run, run.due_ms)  # a claim has found it due and put it among the ready
        if run.place is Place.LEASED and (crowd := self._book.crowd(run)) is not None:
            crowd.release(run, run.due_ms)

    def offer(self, run: Run, since_ms: int) -> None:
        """Put a run among the ready, or among those that will be when their limit has room."""
        crowd = self._book.crowd(run)
        if crowd is None:
            self._rows.put(run.rank(since_ms), run.run_id.encode())
        else:
            crowd.offer(run, since_ms)

    def _withdraw(self, run: Run, since_ms: int) -> None:
        crowd = self._book.crowd(run)
        if crowd is None:
            self._rows.drop(run.rank(since_ms))
        else:
            crowd.withdraw(run, since_ms)

    def _hold(self, run: Run, until_ms: int) -> None:
        self._set_due(run, until_ms)
        crowd = self._book.crowd(run)
        if crowd is not None:
            crowd.hold(run, until_ms)

    def _set_due(self, run: Run, due_ms: int) -> None:
        run.due_ms = due_ms
        self._rows.put(keys.due_at(run.lane, due_ms, run.number), run.run_id.encode())

    def _ready(self, run: Run, *, new_here: bool = False) -> None:
        if not new_here:
            self._leave(run)
        run.place = Place.READY
        run.ready_ms = self._now_ms
        self._book.set_result(run, None)
        if run.status is not RunStatus.COMPENSATING:
            run.status = RunStatus.PENDING
        self.offer(run, run.ready_ms)
        self._book.work = True

    def _wait(self, run: Run, wake_at_ms: int | None, enough: int | None, *, new_here: bool = False) -> None:
        if not new_here:
            self._leave(run)
        run.place = Place.WAITING
        run.inbox_at_least = enough
        if run.status is RunStatus.RUNNING:  # a delayed one stays pending
            run.status = RunStatus.WAITING
        if wake_at_ms is not None:
            self._set_due(run, wake_at_ms)
            self._book.work = True

    def _block(self, run: Run, reason: bytes) -> None:
        if run.cancel:  # a cancellation that came before it wakes the run as one that comes after it would
            self._ready(run)
            return
        self._leave(run)
        run.place = Place.BLOCKED
        run.status = RunStatus.BLOCKED
        self._book.set_result(run, reason)

    def _finish(self, run: Run, status: RunStatus, result: bytes) -> None:
        self._leave(run)
        run.place = Place.FINISHED
        run.status = status
        run.finished_ms = self._now_ms
        run.inbox, run.floor = 0, run.position
        self._book.set_result(run, result)
        self._rows.put(keys.finished_at(self._now_ms, run.number), run.run_id.encode())


def _takes(run: Run, kind: MessageKind) -> bool:
    if kind is MessageKind.REOPEN:
        return run.status in (RunStatus.FAILED, RunStatus.BLOCKED)
    return run.place is not Place.FINISHED
