"""What the parts of the contract share: the hooks that an implementer fills in, and a hand that writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from flowkit.records import (
    AnyOf,
    Commit,
    Created,
    Delivery,
    Done,
    Exactly,
    Go,
    Grant,
    Lease,
    Message,
    MessageKind,
    NewRun,
    RunHeader,
    Send,
    Snapshot,
    Then,
    Verdict,
)
from flowkit.storage import Storage

T0 = 1_700_000_000_000  # when every test begins
LEASE_MS = 1_000
ANY_TASK = AnyOf(("task",))


class StorageSuite:
    """The hooks. Subclass `StorageContract`, which has them and all the tests."""

    def make_storage(self, tmp_path: Path) -> Storage:
        """Make a storage with nothing in it, not opened yet."""
        raise NotImplementedError  # the storage's own tests say it

    def reopen(self, storage: Storage) -> Storage:
        """Close a storage and give an opened one on the same data. A storage in files should make a new object."""
        storage.close()
        storage.open()
        return storage

    def another(self, storage: Storage) -> Storage:
        """Give an opened storage on the same data, as a second process has it; the contract closes it.

        The contract calls the worker of the first storage `worker-1` and that of any other one `worker-2`.
        """
        return storage

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[Storage]:
        """An opened storage with nothing in it."""
        storage = self.make_storage(tmp_path)
        storage.open()
        yield storage
        storage.close()


class Writer:
    """Holds a lease and knows how long the journal is, as a worker does.

    Args:
        storage: where to write.
        lease: in whose name.
        length: entries in the journal now.
    """

    def __init__(self, storage: Storage, lease: Lease, length: int = 0) -> None:
        self.storage = storage
        self.lease = lease
        self.length = length

    def draft(
        self,
        *entries: bytes,
        then: Then | None = None,
        consume: tuple[str, ...] = (),
        spawn: tuple[NewRun, ...] = (),
        send: tuple[Send, ...] = (),
    ) -> Commit:
        """Write a commit down without sending it; its id is new, also to other processes."""
        return Commit(
            run_id=self.lease.run_id,
            owner=self.lease.owner,
            fence=self.lease.fence,
            commit_id=f"commit-{uuid4()}",
            base=self.length,
            entries=entries,
            consume=consume,
            spawn=spawn,
            send=send,
            then=Go() if then is None else then,
        )

    def try_(self, commit: Commit, now_ms: int = T0) -> Verdict:
        """Send a commit and take what comes."""
        (verdict,) = self.storage.commit([commit], now_ms=now_ms)
        if isinstance(verdict, Done):
            self.length = verdict.length
        return verdict

    def write(
        self,
        *entries: bytes,
        then: Then | None = None,
        consume: tuple[str, ...] = (),
        spawn: tuple[NewRun, ...] = (),
        send: tuple[Send, ...] = (),
        now_ms: int = T0,
    ) -> Done:
        """Commit, which must be applied."""
        verdict = self.try_(self.draft(*entries, then=then, consume=consume, spawn=spawn, send=send), now_ms)
        assert isinstance(verdict, Done), verdict
        return verdict


def grant(token: str, *, worker: str = "worker-1", lease_ms: int = LEASE_MS) -> Grant:
    """Ask for leases in the name of a token."""
    return Grant(worker, token, lease_ms)


def begin(
    storage: Storage, run_id: str = "run", *, owner: str | None = None, now_ms: int = T0, worker: str = "worker-1"
) -> Writer:
    """Create a run that is born claimed."""
    born = grant(owner or f"born-{run_id}", worker=worker)
    (answer,) = storage.submit([NewRun(run_id, "task", b"input", grant=born)], now_ms=now_ms)
    assert isinstance(answer, Created), answer
    assert answer.lease is not None
    return Writer(storage, answer.lease)


def enqueue(storage: Storage, *run_ids: str, now_ms: int = T0) -> None:
    """Create runs that wait in the default queue."""
    storage.submit([NewRun(run_id, "task", b"input") for run_id in run_ids], now_ms=now_ms)


def take(
    storage: Storage, run_id: str = "run", owner: str = "taker", *, now_ms: int = T0, worker: str = "worker-1"
) -> Writer:
    """Claim one run, which must be possible."""
    claimed = storage.claim(grant(owner, worker=worker), Exactly(run_id), 1, now_ms=now_ms)
    assert [lease.run_id for lease in claimed.leases] == [run_id], claimed
    return Writer(storage, claimed.leases[0], header_of(storage, run_id).length)


def claim_ids(
    storage: Storage,
    token: str,
    want: AnyOf | Exactly = ANY_TASK,
    limit: int = 10,
    *,
    now_ms: int = T0,
    worker: str = "worker-1",
) -> list[str]:
    """Claim, and tell which runs were granted, in their order."""
    claimed = storage.claim(grant(token, worker=worker), want, limit, now_ms=now_ms)
    return [lease.run_id for lease in claimed.leases]


def snapshot_of(storage: Storage, run_id: str = "run") -> Snapshot:
    """Read a run that must be there."""
    snapshot = storage.load(run_id)
    assert snapshot is not None
    return snapshot


def header_of(storage: Storage, run_id: str = "run") -> RunHeader:
    """Read the header of a run that must be there."""
    return snapshot_of(storage, run_id).header


def event(message_id: str, payload: bytes = b"") -> Message:
    """Make an event."""
    return Message(message_id, MessageKind.EVENT, "event", payload)


def tell(storage: Storage, message_id: str, run_id: str = "run", *, now_ms: int = T0) -> Delivery:
    """Send an event to a run."""
    return storage.send(run_id, event(message_id), now_ms=now_ms)


def cancel(storage: Storage, run_id: str = "run", *, now_ms: int = T0, message_id: str = "cancel") -> Delivery:
    """Ask for a run's cancellation."""
    return storage.send(run_id, Message(message_id, MessageKind.CANCEL), now_ms=now_ms)


def reopen_run(storage: Storage, run_id: str = "run", *, now_ms: int = T0, message_id: str = "reopen") -> Delivery:
    """Ask for a run to be taken up again."""
    return storage.send(run_id, Message(message_id, MessageKind.REOPEN, "retry", b"why"), now_ms=now_ms)
