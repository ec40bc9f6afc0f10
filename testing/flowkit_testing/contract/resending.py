"""Contract: the answer to any call may be lost, so any call may be sent twice."""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve

from flowkit.memory import MemoryStorage
from flowkit.records import (
    Block,
    Finish,
    Go,
    Limit,
    Message,
    MessageKind,
    NewRun,
    RunQuery,
    RunStatus,
    Send,
    Snapshot,
    Suspend,
    Yield,
)
from flowkit.storage import Storage
from flowkit_testing.contract.base import (
    ANY_TASK,
    LEASE_MS,
    T0,
    StorageSuite,
    begin,
    cancel,
    claim_ids,
    enqueue,
    event,
    grant,
    reopen_run,
    take,
    tell,
)
from flowkit_testing.forward import Forward, T

_CHANGES = frozenset({"submit", "claim", "commit", "renew", "send", "compare_and_set"})
LATE = T0 + LEASE_MS


class SentTwice(Forward):
    """Sends every change twice and hands on the first answer, as if the caller had never seen it.

    Args:
        storage: where it is sent to.
    """

    def through(self, operation: str, call: Callable[[Storage], T]) -> T:
        """Make a call, and a change a second time, which must change nothing more."""
        answer = call(self._storage)
        if operation in _CHANGES:
            before = everything(self._storage)
            call(self._storage)
            after = everything(self._storage)
            assert after == before, f"{operation} sent a second time changed something"
        return answer


def everything(storage: Storage) -> tuple[object, ...]:
    """All that can be read of a storage."""
    headers = storage.list_runs(RunQuery(), limit=1000).headers
    runs = [storage.load(header.run_id) for header in headers]
    counts = storage.stats()
    by_status = {status: number for status, number in counts.by_status.items() if number}
    return headers, [run and evolve(run, now_ms=0) for run in runs], by_status, counts.queues, storage.get("key")


def a_life(storage: Storage) -> None:
    """Runs come, are claimed, write, wait, are cancelled, taken over, blocked, reopened, and end."""
    enqueue(storage, "queued", "second")
    storage.submit([NewRun("limited", "task", b"", limit=Limit(1), start_at_ms=T0 + 5)], now_ms=T0)
    writer = begin(storage)
    tell(storage, "early")
    child = NewRun("child", "task", b"", parent="run")
    writer.write(b"one", consume=("early",), spawn=(child,), send=(Send("queued", event("hello")),))
    writer.write(b"two", then=Go(RunStatus.COMPENSATING))
    writer.write(then=Suspend(T0 + 50, 1))
    tell(storage, "late")
    writer = take(storage)
    storage.renew("worker-1", [writer.lease], LEASE_MS, now_ms=T0)
    claim_ids(storage, "several", limit=2, now_ms=T0 + 5)
    cancel(storage, "queued")
    take(storage, "queued", "successor", now_ms=LATE + 5).write(b"heard", then=Block(b"why"), now_ms=LATE + 5)
    writer.write(b"three", then=Yield())
    take(storage, owner="last").write(b"four", then=Finish(RunStatus.FAILED, b"result"))
    reopen_run(storage)
    take(storage, owner="again").write(consume=("reopen",), then=Finish(RunStatus.SUCCEEDED, b"good"))
    storage.claim(grant("rest"), ANY_TASK, 10, now_ms=LATE + 10)
    storage.compare_and_set("key", 0, b"value")


class Resending(StorageSuite):
    """Who sends again because an answer was lost changes nothing by it (rule D7)."""

    def test_every_call_sent_twice(self, storage: Storage) -> None:
        """D7: a second sending changes nothing, and all comes out as in a storage that each call reached once."""
        oracle = MemoryStorage()
        oracle.open()

        a_life(SentTwice(storage))
        a_life(oracle)

        headers = storage.list_runs(RunQuery()).headers
        assert [header.run_id for header in headers] == ["child", "run", "limited", "second", "queued"]
        for header in headers:
            assert _read(storage.load(header.run_id)) == _read(oracle.load(header.run_id))
        oracle.close()

    def test_a_second_sending_is_told_the_same(self, storage: Storage) -> None:
        """D7: the answer that was lost is given again, and a message is said to have arrived."""
        enqueue(storage, "a", "b")
        writer = begin(storage)
        commit = writer.draft(b"entry", then=Suspend(inbox_at_least=1))
        message = Message("id", MessageKind.EVENT)

        born = [storage.submit([NewRun("new", "task", b"", grant=grant("mine"))], now_ms=T0) for _ in range(2)]
        claims = [storage.claim(grant("token"), ANY_TASK, 2, now_ms=T0).leases for _ in range(2)]
        renewals = [storage.renew("worker-1", claims[0], LEASE_MS, now_ms=T0) for _ in range(2)]
        verdicts = [writer.try_(commit) for _ in range(2)]
        deliveries = [storage.send("run", message, now_ms=T0) for _ in range(2)]

        for answers in (born, claims, renewals, verdicts):
            assert answers[0] == answers[1]
        assert deliveries == ["delivered", "duplicate"]


def _read(snapshot: Snapshot | None) -> Snapshot | None:
    return snapshot and evolve(snapshot, header=evolve(snapshot.header, revision=0), now_ms=0)
