"""The hot path: an append checks nothing but its own place in the log, and that is enough (rule D4)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial

import pytest

from flowkit.records import (
    AnyOf,
    Commit,
    Done,
    Durability,
    Exactly,
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
    Verdict,
)
from flowkit_disk import DiskStorage, hints, ledger
from flowkit_disk.blobs import LARGE_BYTES

Open = Callable[..., DiskStorage]
Born = Callable[..., Lease]


def append(storage: DiskStorage, lease: Lease, base: int, entry: bytes = b"entry", commit_id: str = "") -> Verdict:
    """Append one entry."""
    (verdict,) = storage.commit(
        [Commit(lease.run_id, lease.owner, lease.fence, commit_id or f"c{base}", base, (entry,))]
    )
    return verdict


def take_over(storage: DiskStorage, token: str = "successor") -> Lease:  # noqa: S107 # a claim's token is no secret
    """Claim the run after its lease."""
    (lease,) = storage.claim(Grant("other", token, 1000), Exactly("run"), 1, now_ms=2**42).leases
    return lease


def finish(storage: DiskStorage, lease: Lease, base: int) -> None:
    """End the run."""
    end = Commit(lease.run_id, lease.owner, lease.fence, "end", base, then=Finish(RunStatus.SUCCEEDED, b""))
    assert isinstance(storage.commit([end], now_ms=1)[0], Done)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement of every connection."""
    seen: list[str] = []

    class Watched(sqlite3.Connection):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they come
            self.set_trace_callback(seen.append)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Watched))
    return seen


def test_an_append_is_one_row_in_one_transaction(statements: list[str], opened: Open, born: Born) -> None:
    """No row is read, none but the new one is written (besides diskcache's own counters)."""
    storage = opened()
    lease = born(storage)
    append(storage, lease, 0)
    statements.clear()
    append(storage, lease, 1)
    words = [statement.split()[0] for statement in statements]
    assert list(dict.fromkeys(words)) == ["BEGIN", "SELECT", "INSERT", "COMMIT"]
    assert len({statement for statement in statements if "Cache" in statement}) == 2


def test_a_takeover_elsewhere_fences(disk: DiskStorage, opened: Open, born: Born) -> None:
    """What this process remembers of the run is out of date, and the append finds its place taken."""
    lease = born(disk)
    append(disk, lease, 0)
    take_over(opened())
    assert append(disk, lease, 1) == Fenced()
    assert append(disk, lease, 1, commit_id="again") == Fenced()


@pytest.mark.parametrize("kind", [MessageKind.EVENT, MessageKind.CANCEL])
def test_a_message_from_elsewhere_is_told(disk: DiskStorage, opened: Open, born: Born, kind: MessageKind) -> None:
    """E2: the next commit says that something came."""
    lease = born(disk)
    append(disk, lease, 0)
    opened().send("run", Message("id", kind))
    verdict = append(disk, lease, 1)
    assert isinstance(verdict, Done)
    assert (verdict.cancel, verdict.inbox) == (kind is MessageKind.CANCEL, int(kind is MessageKind.EVENT))
    verdict = append(disk, lease, 2)
    assert isinstance(verdict, Done)
    assert (verdict.length, verdict.cancel) == (3, kind is MessageKind.CANCEL)


def test_a_status_changed_elsewhere_under_the_same_lease(disk: DiskStorage, opened: Open, born: Born) -> None:
    """Even an owner in two places agrees with itself."""
    lease = born(disk)
    append(disk, lease, 0)
    other = opened()
    other.commit([Commit("run", lease.owner, lease.fence, "status", 1, then=Go(RunStatus.COMPENSATING))])
    append(disk, lease, 1)
    snapshot = other.load("run")
    assert snapshot is not None
    assert snapshot.header.status is RunStatus.RUNNING


def test_a_zombie_finds_its_run_purged(disk: DiskStorage, opened: Open, born: Born) -> None:
    """A purge takes rows away, so the place behind what the zombie remembers is free again: it must not take it."""
    zombie = born(disk)
    append(disk, zombie, 0)
    other = opened()
    finish(other, take_over(other), 1)
    assert other.purge(2) == 1
    assert append(disk, zombie, 1) == Missing()
    other.submit([NewRun("run", "task", b"")])
    assert append(disk, zombie, 1) == Fenced()
    snapshot = other.load("run")
    assert snapshot is not None
    assert snapshot.entries == ()


def test_a_zombie_in_a_batch_finds_its_run_purged(disk: DiskStorage, opened: Open, born: Born) -> None:
    """The same where several commits share a transaction."""
    zombie, alive = born(disk), born(disk, "alive")
    append(disk, zombie, 0)
    other = opened()
    finish(other, take_over(other), 1)
    other.purge(2)
    batch = [
        Commit("run", zombie.owner, zombie.fence, "z", 1, (b"zombie",)),
        Commit("alive", alive.owner, alive.fence, "a", 0, (b"alive",)),
    ]
    assert [type(verdict) for verdict in disk.commit(batch)] == [Missing, Done]


def test_a_batch_is_one_transaction(statements: list[str], opened: Open, born: Born) -> None:
    """Group commit: many runs, one sync."""
    storage = opened()
    leases = [born(storage, f"run-{n}") for n in range(10)]
    statements.clear()
    commits = [Commit(lease.run_id, lease.owner, lease.fence, "c", 0, (b"entry",)) for lease in leases]
    assert all(isinstance(verdict, Done) for verdict in storage.commit(commits))
    assert [statement for statement in statements if statement == "COMMIT"] == ["COMMIT"]
    assert not [statement for statement in statements if statement.startswith("UPDATE Cache")]


def test_a_batch_with_one_run_twice(disk: DiskStorage, born: Born) -> None:
    """In the order given; the second builds upon the first."""
    lease = born(disk)
    commits = [Commit("run", lease.owner, lease.fence, f"c{n}", base, (b"%d" % n,)) for n, base in enumerate((0, 1, 1))]
    assert [type(verdict) for verdict in disk.commit(commits)] == [Done, Done, Gap]
    snapshot = disk.load("run")
    assert snapshot is not None
    assert snapshot.entries == (b"0", b"1")


def test_a_failed_batch_is_forgotten(disk: DiskStorage, born: Born, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was remembered of appends in a transaction that was not kept must not be relied on."""
    lease = born(disk)
    append(disk, lease, 0)
    with monkeypatch.context() as patch:
        patch.setattr("flowkit_disk.book.Book.write", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            disk.commit([Commit("run", lease.owner, lease.fence, f"c{base}", base, (b"lost",)) for base in (1, 2)])
    assert append(disk, lease, 3) == Gap(1)
    assert isinstance(append(disk, lease, 1, b"kept"), Done)
    snapshot = disk.load("run")
    assert snapshot is not None
    assert snapshot.entries == (b"entry", b"kept")


def test_hints_are_bounded(disk: DiskStorage, born: Born, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many runs a process advances, what it remembers is bounded, and the rest is looked up."""
    monkeypatch.setattr(hints, "REMEMBERED_AT_MOST", 3)
    leases = [born(disk, f"run-{n}") for n in range(10)]
    for base in range(3):
        for lease in leases:
            assert append(disk, lease, base) == Done(base + 1, cancel=False, inbox=0, now_ms=_now(disk, lease, base))


def _now(storage: DiskStorage, lease: Lease, base: int) -> int:
    snapshot = storage.load(lease.run_id)
    assert snapshot is not None
    assert len(snapshot.entries) == base + 1
    return snapshot.header.updated_at_ms


@pytest.mark.parametrize("begin", [0, 1, 30])
def test_a_long_journal_is_read_by_the_block(statements: list[str], opened: Open, born: Born, begin: int) -> None:
    """Every 64 commits are copied into one row, so that resuming a long run does not take a read for each."""
    storage = opened()
    lease = born(storage)
    for n in range(begin):
        storage.send("run", Message(f"m{n}", MessageKind.CANCEL))
    entries: list[bytes] = []
    while len(entries) < 300:
        some = tuple(b"%d" % (len(entries) + n) for n in range(1 + (len(entries) % 5 == 0)))
        storage.commit([Commit("run", lease.owner, lease.fence, f"c{len(entries)}", len(entries), some)])
        entries += some
    statements.clear()
    snapshot = storage.load("run")
    assert snapshot is not None
    assert snapshot.entries == tuple(entries)
    assert len(statements) < 150 + begin
    for after, limit in ((0, 10), (63, 2), (64, 1), (65, 200), (130, None), (299, 5), (len(entries), None)):
        page = storage.load("run", after, limit)
        assert page is not None
        assert page.entries == tuple(entries[after : None if limit is None else after + limit])


def test_a_block_with_something_else_in_it_is_read_row_by_row(disk: DiskStorage, opened: Open, born: Born) -> None:
    """Large entries, messages and other owners are no part of a copy."""
    lease = born(disk)
    entries: list[bytes] = []
    for n in range(200):
        entry = bytes(5000) if n == 70 else b"%d" % n
        if n == 140:
            opened().send("run", Message("id", MessageKind.EVENT))
        assert isinstance(append(disk, lease, n, entry), Done)
        entries.append(entry)
    lease = take_over(disk)
    for n in range(200, 300):
        assert isinstance(append(disk, lease, n, b"%d" % n), Done)
        entries.append(b"%d" % n)
    snapshot = opened().load("run")
    assert snapshot is not None
    assert snapshot.entries == tuple(entries)


def test_the_first_commit_after_opening_anew(disk: DiskStorage, opened: Open, born: Born) -> None:
    """D7: an owner whose process lost its storage for a moment goes on under its lease."""
    lease = born(disk)
    append(disk, lease, 0)
    disk.close()
    disk.open()
    assert isinstance(append(disk, lease, 1), Done)
    assert isinstance(append(opened(), lease, 2), Done)


def work_of(storage: DiskStorage, statements: list[str], call: Callable[[], object]) -> int:
    """How many statements a call takes."""
    del storage
    statements.clear()
    call()
    return len(statements)


def test_a_claim_does_not_look_at_others(statements: list[str], opened: Open) -> None:
    """X4: with a thousand runs of unknown tasks, and as many finished, a claim takes the same statements.

    Each of them is a search in an index, so the runs that are not wanted cost nothing.
    """
    storage = opened()
    storage.submit([NewRun("a", "task", b""), NewRun("b", "task", b"")], now_ms=1)
    want = AnyOf(("task",))
    few = work_of(storage, statements, lambda: storage.claim(Grant("w", "t1", 1000), want, 1, now_ms=2))
    storage.submit([NewRun(f"x{n}", "unknown", b"") for n in range(1000)], now_ms=0)
    many = work_of(storage, statements, lambda: storage.claim(Grant("w", "t2", 1000), want, 1, now_ms=2))
    assert many <= few


def test_every_statement_searches_an_index(statements: list[str], opened: Open, born: Born) -> None:
    """Nothing that a run goes through scans the table."""
    storage = opened()
    lease = born(storage)
    append(storage, lease, 0)
    storage.submit([NewRun("other", "task", b"")])
    storage.claim(Grant("w", "t", 1000), AnyOf(("task",)), 5)
    storage.send("run", Message("id", MessageKind.EVENT))
    finish(storage, lease, 1)
    storage.purge(2)
    storage.load("other")
    reading = {statement for statement in statements if statement.startswith("SELECT") and "FROM Cache" in statement}
    other = sqlite3.connect(storage.path / "cache.db")
    for statement in reading:
        plan = " ".join(row[3] for row in other.execute(f"EXPLAIN QUERY PLAN {statement}"))
        assert "SEARCH" in plan, (statement, plan)
        assert "SCAN" not in plan, (statement, plan)
    other.close()
    assert reading


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


# ---- commits that an event loop makes -------------------------------------------------------------------------------


def at_once(storage: DiskStorage, lease: Lease, base: int, entry: bytes = b"entry") -> Done | None:
    """Append one entry if nobody has to wait for it."""
    return storage.commit_at_once(Commit(lease.run_id, lease.owner, lease.fence, f"c{base}", base, (entry,)))


def test_an_append_at_once(opened: Open, born: Born) -> None:
    """Without a sync of the disk to wait for, an append may be made by an event loop."""
    storage = opened(durability=Durability.PROCESS)
    lease = born(storage)
    done = at_once(storage, lease, 0)
    assert done is not None
    assert done.length == 1
    assert at_once(storage, lease, 0) is None  # D7: the same one again is for `commit` to answer
    assert isinstance(append(storage, lease, 0), Done)
    snapshot = storage.load("run")
    assert snapshot is not None
    assert snapshot.entries == (b"entry",)


def test_nothing_is_waited_for_at_once(opened: Open, born: Born, monkeypatch: pytest.MonkeyPatch) -> None:
    """D1: what would have to be synced, or wait for another writer, or for a checkpoint, is left to `commit`."""
    synced = opened()
    assert at_once(synced, born(synced), 0) is None
    synced.close()

    storage, other = opened(durability=Durability.PROCESS), opened(durability=Durability.PROCESS)
    lease = born(storage, run_id="second")
    large = b"x" * (LARGE_BYTES + 1)
    assert at_once(storage, lease, 0, large) is None
    with other._engine.lock:  # noqa: SLF001  # as a process that is writing
        assert at_once(storage, lease, 0) is None
    monkeypatch.setattr(ledger, "CHECKPOINT_PAGES", 1)
    assert at_once(storage, lease, 0) is None
    monkeypatch.undo()
    assert at_once(storage, lease, 0) is not None


def test_a_takeover_elsewhere_fences_at_once(opened: Open, born: Born) -> None:
    """D4: a commit at once is refused as any other is, and says nothing of its own about it."""
    storage, other = opened(durability=Durability.PROCESS), opened(durability=Durability.PROCESS)
    lease = born(storage)
    take_over(other)
    assert at_once(storage, lease, 0) is None
    assert isinstance(append(storage, lease, 0), Fenced)
