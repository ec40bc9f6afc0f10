"""Contract: what many threads are answered could have been answered one after the other (linearizability)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import pytest
from attrs import evolve, field, frozen, mutable

from flowkit.memory import MemoryStorage
from flowkit.records import (
    GO,
    Commit,
    Delivery,
    Done,
    Exactly,
    Gap,
    Lease,
    LeaseState,
    Message,
    MessageKind,
    NewRun,
    Snapshot,
    Suspend,
    Then,
    Verdict,
    Yield,
)
from flowkit.storage import Storage
from flowkit_testing.contract.base import LEASE_MS, T0, StorageSuite, enqueue, grant
from flowkit_testing.contract.racing import together
from flowkit_testing.linearizable import Ask, Recorder, check

LATE = T0 + LEASE_MS
_CALLS = 9  # of each thread
_THREADS = 3
_NO_LEASE = Lease("run", "nobody", 0)


@mutable
class Hand:
    """A storage as one thread uses it, and what it has been told: its leases, how long the journal is."""

    storage: Storage
    worker: str
    leases: list[Lease] = field(factory=list)  # newest last; older ones are a zombie's
    length: int = 0


@frozen
class Claim:
    """Take the run, if it is free or its lease has ended."""

    token: str
    now_ms: int

    def __call__(self, world: Hand) -> object:
        """Ask for it; fences are each storage's own."""
        asked = grant(self.token, worker=world.worker)
        leases = world.storage.claim(asked, Exactly("run"), 1, now_ms=self.now_ms).leases
        world.leases += leases
        return [(lease.owner, lease.crashes) for lease in leases]


@frozen
class Write:
    """Commit under a lease that was given to this thread; `back` reaches for an older one."""

    commit_id: str
    back: int
    entries: tuple[bytes, ...] = ()
    consume: tuple[str, ...] = ()
    then: Then = GO

    def __call__(self, world: Hand) -> Verdict:
        """Commit at the length that this thread knows of."""
        lease = world.leases[-1 - self.back] if self.back < len(world.leases) else _NO_LEASE
        commit = Commit("run", lease.owner, lease.fence, self.commit_id, world.length, self.entries)
        (verdict,) = world.storage.commit([evolve(commit, consume=self.consume, then=self.then)], now_ms=T0)
        if isinstance(verdict, Done | Gap):
            world.length = verdict.length
        return verdict


@frozen
class Renew:
    """Extend the newest lease of this thread."""

    now_ms: int

    def __call__(self, world: Hand) -> list[LeaseState]:
        """Ask for it."""
        return world.storage.renew(world.worker, world.leases[-1:], LEASE_MS, now_ms=self.now_ms)


@frozen
class Tell:
    """Send a message."""

    message: Message

    def __call__(self, world: Hand) -> Delivery:
        """Send it."""
        return world.storage.send("run", self.message, now_ms=T0)


@frozen
class Read:
    """Load the run."""

    def __call__(self, world: Hand) -> Snapshot | None:
        """Read all of it but what is each storage's own."""
        snapshot = world.storage.load("run")
        if snapshot is None:
            return None
        world.length = snapshot.header.length
        return evolve(snapshot, now_ms=0, header=evolve(snapshot.header, revision=0))


class OneAfterTheOther:
    """The memory storage, with a hand for each thread (see `linearizable.Model`)."""

    def __init__(self, workers: Callable[[int], str]) -> None:
        self._storage = MemoryStorage()
        self._storage.open()
        enqueue(self._storage, "run")
        self._workers = workers
        self._hands: dict[int, Hand] = {}

    def world(self, thread: int) -> Hand:
        """The hand of a thread."""
        return self._hands.setdefault(thread, Hand(self._storage, self._workers(thread)))

    def state(self) -> object:
        """The run, and when its lease ends, which a renewal moves without being a change."""
        claimed = self._storage.claim(grant("asker"), Exactly("run"), 0, now_ms=T0)
        snapshot = self._storage.load("run")
        return claimed.next_due_ms, snapshot and snapshot.header.revision

    def close(self) -> None:
        """Let go of the storage."""
        self._storage.close()


def plan(draw: Random, thread: int) -> Iterator[Ask[Hand]]:
    """What a thread asks for: mostly to write, with zombies, messages and takeovers among it."""
    yield Claim(f"t{thread}-first", T0)
    for number in range(_CALLS - 1):
        commit_id = f"c{thread}-{number}"
        kinds: list[Ask[Hand]] = [
            Claim(f"t{thread}-{number}", draw.choice((T0, LATE))),
            Write(commit_id, 0, (commit_id.encode(),)),
            Write(commit_id, 0, (commit_id.encode(),), (f"m{draw.randrange(3)}",)),
            Write(commit_id, draw.randrange(2), (b"zombie",)),
            Write(commit_id, 0, (), (), draw.choice((Yield(), Suspend(LATE), Suspend(None, 1)))),
            Renew(draw.choice((T0, LATE))),
            Tell(Message(f"m{draw.randrange(4)}", MessageKind.EVENT, "event")),
            Tell(Message("cancel", MessageKind.CANCEL)),
            Read(),
        ]
        yield draw.choices(kinds, (3, 4, 2, 2, 2, 1, 3, 1, 3))[0]


class Histories(StorageSuite):
    """Whatever threads and processes ask at the same time, each answer fits one order of them all (rules D4, D7)."""

    @pytest.mark.parametrize("seed", range(8))
    def test_concurrent_calls_of_one_run_are_linearizable(self, storage: Storage, seed: int) -> None:
        """Three threads on two storages claim, write, send and read; an order explains it, the memory storage says."""
        other = self.another(storage)
        hands = [Hand(storage, "worker-1") if thread < 2 else Hand(other, "worker-2") for thread in range(_THREADS)]  # noqa: PLR2004  # the third one is the other process's
        storage.submit([NewRun("run", "task", b"input")], now_ms=T0)
        recorder: Recorder[Hand] = Recorder()

        def work(thread: int) -> None:
            for number, ask in enumerate(plan(Random(f"{seed}-{thread}"), thread)):
                recorder.make(thread, number, ask, hands[thread])

        with _taking_turns_often():
            together(work, range(_THREADS))
        if other is not storage:
            other.close()

        check(recorder.calls, lambda: OneAfterTheOther(lambda thread: hands[thread].worker))


@contextmanager
def _taking_turns_often() -> Iterator[None]:
    """Let threads overlap also where a call takes a few microseconds."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
