"""What a memory storage keeps, and the changes of one run. Not thread-safe: `MemoryStorage` holds the lock.

Each method is one atomic change. A run is in one place at a time; `_leave` takes it out of that place and the method
that called it puts it into the next one, so heaps, counts and indexes cannot drift apart.
"""

from __future__ import annotations

from threading import Condition, Lock
from typing import assert_never

from flowkit.memory.index import Index
from flowkit.memory.order import Shelf
from flowkit.memory.run import Lane, Place, Run
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
    Suspend,
    Verdict,
    Yield,
)

_MISSING = Missing()
_FENCED = Fenced()


class State:
    """Runs, the orders they are found by, and shared values."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.work = Condition(self.lock)  # told when a run becomes ready or a timer is set
        self.watchers: dict[str, set[Condition]] = {}  # who waits for a change of one run
        self.runs: dict[str, Run] = {}
        self.index = Index()
        self.lanes: dict[tuple[str, str], Lane] = {}
        self.tokens: dict[str, dict[Run, None]] = {}  # what each grant still owns
        self.finished: Shelf[Run] = Shelf()
        self.values: dict[str, tuple[bytes, int]] = {}
        self.next_number = 1

    # ---- runs come and go

    def create(self, new: NewRun, now_ms: int) -> Run:
        """Store a run whose id is free."""
        lane = self.lanes.get((new.queue, new.task))
        if lane is None:
            lane = self.lanes[new.queue, new.task] = Lane()
        seq = self.next_number
        self.next_number += 1
        run = Run(new, seq, lane, created_ms=now_ms, updated_ms=now_ms, entries=list(new.entries))
        lane.ready_count += 1
        self.runs[new.run_id] = run
        self.index.add(run)
        if new.grant is not None and lane.has_room(run, now_ms):
            self.take(run, new.grant, now_ms)
        elif new.grant is None and new.start_at_ms is not None and new.start_at_ms > now_ms:
            self._wait(run, new.start_at_ms, None, now_ms)
        else:
            self._ready(run, now_ms)
        return run

    def forget(self, run: Run) -> None:
        """Remove a run and all that is kept of it."""
        self._leave(run, run.updated_ms)
        del self.runs[run.new.run_id]
        self.index.remove(run)
        self._tell_watchers(run)

    # ---- leases

    def take(self, run: Run, grant: Grant, now_ms: int) -> Lease:
        """Give a run to a new owner. Only this ends the right of the one before (rule D4)."""
        if run.place is Place.LEASED:
            run.crashes += 1  # R4: its owner neither handed it back nor renewed
        self._leave(run, now_ms)
        run.place = Place.LEASED
        run.lane.leased_count += 1
        run.owner = grant.token
        run.worker = grant.worker
        run.fence += 1
        self.tokens.setdefault(grant.token, {})[run] = None
        self.lease_until(run, now_ms + grant.lease_ms, now_ms)
        if run.status is not RunStatus.COMPENSATING:
            self.index.set_status(run, RunStatus.RUNNING)
        self._touch(run, now_ms)
        return run.lease(grant.token)

    def lease_until(self, run: Run, until_ms: int, now_ms: int) -> None:
        """Set the end of a lease; one that a claim has found expired is not on offer any more."""
        run.due_ms = until_ms
        run.lane.hold(run, until_ms, now_ms)

    # ---- the one hot operation

    def commit(self, commit: Commit, now_ms: int) -> Verdict:
        """Apply a commit, or say why not."""
        run = self.runs.get(commit.run_id)
        if run is None:
            return _MISSING
        if commit.commit_id != run.last_commit:  # D7: the answer to the last one may have been lost
            if commit.owner != run.owner or commit.fence != run.fence:
                return _FENCED  # D4: the same operation as the write
            if commit.base != len(run.entries):
                return Gap(len(run.entries))
            self._apply(run, commit, now_ms)
        return Done(len(run.entries), run.cancel, len(run.inbox), now_ms)

    def _apply(self, run: Run, commit: Commit, now_ms: int) -> None:
        run.last_commit = commit.commit_id
        if commit.entries:
            run.entries.extend(commit.entries)
            run.crashes = 0
        for message_id in commit.consume:
            run.inbox.pop(message_id, None)
            run.received[message_id] = None
        for new in commit.spawn:
            if new.run_id not in self.runs:  # E3: a child exists once
                self.create(new, now_ms)
        for send in commit.send:
            self.deliver(send.run_id, send.message, now_ms)
        then = commit.then
        if not isinstance(then, Go):
            self._let_go(run, then, now_ms)
        elif then.status is not run.status:
            self.index.set_status(run, then.status)
        self._touch(run, now_ms)

    def _let_go(self, run: Run, then: Yield | Suspend | Block | Finish, now_ms: int) -> None:
        match then:
            case Yield():
                self._ready(run, now_ms)
            case Suspend(wake_at_ms=wake_at_ms, inbox_at_least=enough, cancel_seen=seen):
                due = wake_at_ms is not None and wake_at_ms <= now_ms
                if (run.cancel and not seen) or due or (enough is not None and len(run.inbox) >= enough):
                    self._ready(run, now_ms)
                else:
                    self._wait(run, wake_at_ms, enough, now_ms)
            case Block(reason=reason):
                self._block(run, reason, now_ms)
            case Finish(status=status, result=result):
                self._finish(run, status, result, now_ms)
            case _:
                assert_never(then)

    # ---- messages

    def deliver(self, run_id: str, message: Message, now_ms: int) -> Delivery:
        """Take in a message, and wake the run if that is enough."""
        run = self.runs.get(run_id)
        if run is None:
            return Delivery.MISSING
        if message.id in run.received:
            return Delivery.DUPLICATE  # E5, and first: whoever asks again after a lost answer is told the truth
        if not _takes(run, message.kind):
            return Delivery.CLOSED
        run.received[message.id] = None
        match message.kind:
            case MessageKind.CANCEL:
                run.cancel = True
                if run.place in (Place.WAITING, Place.BLOCKED):  # E2: always wakes
                    self._ready(run, now_ms)
            case MessageKind.REOPEN:
                run.inbox[message.id] = message
                run.crashes = 0
                run.cancel = False
                run.finished_ms = None
                self._ready(run, now_ms)
            case MessageKind.EVENT | MessageKind.CHILD:
                run.inbox[message.id] = message
                if run.inbox_at_least is not None and len(run.inbox) >= run.inbox_at_least:
                    self._ready(run, now_ms)
            case _:
                assert_never(message.kind)
        self._touch(run, now_ms)
        return Delivery.DELIVERED

    # ---- from place to place

    def _leave(self, run: Run, now_ms: int) -> None:
        match run.place:
            case Place.READY:
                run.lane.ready_count -= 1
            case Place.LEASED if run.owner is not None:
                run.lane.leased_count -= 1
                owned = self.tokens[run.owner]
                del owned[run]
                if not owned:
                    del self.tokens[run.owner]
            case Place.FINISHED:
                self.finished.discard(run)
            case _:
                pass
        run.lane.withdraw(run, now_ms)
        if run.new.limit is not None and run.lane.ready:  # its place may be free for another one
            self.work.notify_all()
        run.owner = run.worker = run.due_ms = run.inbox_at_least = None

    def _ready(self, run: Run, now_ms: int) -> None:
        self._leave(run, now_ms)
        run.place = Place.READY
        run.lane.ready_count += 1
        run.result = None
        run.lane.offer(run, now_ms, now_ms)
        if run.status is not RunStatus.COMPENSATING:
            self.index.set_status(run, RunStatus.PENDING)
        self.work.notify_all()

    def _wait(self, run: Run, wake_at_ms: int | None, enough: int | None, now_ms: int) -> None:
        self._leave(run, now_ms)
        run.place = Place.WAITING
        run.due_ms = wake_at_ms
        run.inbox_at_least = enough
        if run.status is RunStatus.RUNNING:  # a delayed one stays pending
            self.index.set_status(run, RunStatus.WAITING)
        if wake_at_ms is not None:
            run.lane.due.put(run, (wake_at_ms, run.seq))
            run.lane.timers_set += 1
            self.work.notify_all()

    def _block(self, run: Run, reason: bytes, now_ms: int) -> None:
        if run.cancel:  # a cancellation that came before it wakes the run as one that comes after it would
            self._ready(run, now_ms)
            return
        self._leave(run, now_ms)
        run.place = Place.BLOCKED
        run.result = reason
        self.index.set_status(run, RunStatus.BLOCKED)

    def _finish(self, run: Run, status: RunStatus, result: bytes, now_ms: int) -> None:
        self._leave(run, now_ms)
        run.place = Place.FINISHED
        run.result = result
        run.finished_ms = now_ms
        run.inbox.clear()
        self.finished.put(run, (now_ms, run.seq))
        self.index.set_status(run, status)

    # ---- bookkeeping

    def _touch(self, run: Run, now_ms: int) -> None:
        run.updated_ms = now_ms
        run.revision += 1
        if self.watchers:
            self._tell_watchers(run)

    def _tell_watchers(self, run: Run) -> None:
        for watcher in self.watchers.get(run.new.run_id, ()):
            watcher.notify()


def _takes(run: Run, kind: MessageKind) -> bool:
    if kind is MessageKind.REOPEN:
        return run.status in (RunStatus.FAILED, RunStatus.BLOCKED)
    return run.place is not Place.FINISHED
