"""Large payloads lie in files of their own: written first, named by a row, removed with it, whatever happens."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flowkit.errors import StorageError
from flowkit.records import (
    Block,
    Commit,
    Done,
    Exactly,
    Fenced,
    Finish,
    Grant,
    Lease,
    Message,
    MessageKind,
    NewRun,
    RunStatus,
    Send,
    Snapshot,
)
from flowkit_disk import DiskStorage, blobs
from flowkit_disk.logrows import Part

Open = Callable[..., DiskStorage]
Born = Callable[..., Lease]

LARGE = blobs.LARGE_BYTES + 1


def files(storage: DiskStorage) -> list[Path]:
    """The files of payloads that are in their place."""
    return [path for path in (storage.path / "blobs").rglob("*") if path.is_file() and path.parent.name != "spool"]


def spooled(storage: DiskStorage) -> list[Path]:
    """Files that are not in their place and hold something."""
    return [path for path in (storage.path / "blobs").glob("spool/*") if path.stat().st_size]


def commit(storage: DiskStorage, lease: Lease, base: int, *entries: bytes, fence: int = 0) -> object:
    """Append entries."""
    work = Commit(lease.run_id, lease.owner, lease.fence + fence, f"c{base}-{len(entries)}", base, entries)
    return storage.commit([work])[0]


def load(storage: DiskStorage, run_id: str = "run") -> Snapshot:
    """Read a run that must be there."""
    snapshot = storage.load(run_id)
    assert snapshot is not None
    return snapshot


def test_large_and_small_side_by_side(disk: DiskStorage, born: Born) -> None:
    """Only what is large goes to a file, and each comes back in its place."""
    lease = born(disk)
    entries = (b"small", b"L" * LARGE, b"", b"M" * (LARGE - 1), b"N" * LARGE)
    assert isinstance(commit(disk, lease, 0, *entries), Done)
    assert load(disk).entries == entries
    assert load(disk).entries == entries
    assert len(files(disk)) == 2
    assert not spooled(disk)


def test_every_kind_of_payload(disk: DiskStorage, opened: Open, born: Born) -> None:
    """Inputs, forks, messages, reasons, results and children may all be large."""
    large = [bytes([65 + n]) * LARGE for n in range(8)]
    grant = Grant("worker", "token", 3_600_000)
    disk.submit([NewRun("run", "task", large[0], entries=(large[1], b"small"), grant=grant)])
    disk.send("run", Message("id", MessageKind.EVENT, "event", large[2]))
    child, event = NewRun("child", "task", large[3]), Message("id", MessageKind.CHILD, "event", large[4])
    born(disk, "peer")
    work = Commit(
        "run", "token", 1, "c", 2, (large[5],), spawn=(child,), send=(Send("peer", event),), then=Block(large[6])
    )
    assert isinstance(disk.commit([work])[0], Done)
    for storage in (disk, opened()):
        snapshot = load(storage)
        assert (snapshot.input, snapshot.result) == (large[0], large[6])
        assert snapshot.entries == (large[1], b"small", large[5])
        assert [message.payload for message in snapshot.inbox] == [large[2]]
        assert load(storage, "child").input == large[3]
        assert [message.payload for message in load(storage, "peer").inbox] == [large[4]]
    assert len(files(disk)) == 7


def test_one_payload_twice_in_a_commit(disk: DiskStorage, born: Born) -> None:
    """The same object may be in two places."""
    lease = born(disk)
    large = b"x" * LARGE
    then = Finish(RunStatus.SUCCEEDED, large)
    disk.commit([Commit("run", lease.owner, lease.fence, "c", 0, (large, large), then=then)])
    snapshot = load(disk)
    assert (snapshot.entries, snapshot.result) == ((large, large), large)


def test_what_was_refused_leaves_no_file(disk: DiskStorage, born: Born) -> None:
    """A fenced commit, a run that exists, a message that is known: their files go again."""
    lease = born(disk)
    large = b"x" * LARGE
    assert isinstance(commit(disk, lease, 0, large, fence=1), Fenced)
    disk.submit([NewRun("run", "task", large)])
    disk.send("run", Message("id", MessageKind.EVENT))
    disk.send("run", Message("id", MessageKind.EVENT, payload=large))
    assert not files(disk)
    assert not spooled(disk)


def test_purging_removes_the_files(disk: DiskStorage, born: Born) -> None:
    """X3: of the runs that go, and of no others."""
    for run_id in ("run", "stays"):
        lease = born(disk, run_id)
        commit(disk, lease, 0, b"x" * LARGE, b"y" * LARGE)
    end = Finish(RunStatus.SUCCEEDED, b"z" * LARGE)
    disk.commit([Commit("run", "token-run", 1, "end", 2, then=end)], now_ms=5)
    assert len(files(disk)) == 5
    assert disk.purge(6) == 1
    assert len(files(disk)) == 2
    assert load(disk, "stays").entries == (b"x" * LARGE, b"y" * LARGE)


def test_a_long_journal_is_cleared_away_bit_by_bit(
    disk: DiskStorage, born: Born, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X3: nothing is left in the table, neither rows nor what was remembered of messages."""
    monkeypatch.setattr("flowkit_disk.purging.ROWS_AT_ONCE", 4)
    lease = born(disk)
    with disk.ledger.engine.reading() as rows:
        before = rows.count()
    disk.submit([NewRun("long", "task", b"i" * LARGE)], now_ms=0)
    (lease,) = disk.claim(Grant("worker", "token", 1000), Exactly("long"), 1, now_ms=0).leases
    for base in range(0, 20, 2):
        disk.send("long", Message(f"m{base}", MessageKind.EVENT, payload=b"p" * LARGE), now_ms=0)
        work = Commit(
            "long", "token", lease.fence, f"c{base}", base, (b"e", b"f" * LARGE), consume=(f"m{base}", "never")
        )
        assert isinstance(disk.commit([work], now_ms=0)[0], Done)
    disk.commit(
        [Commit("long", "token", lease.fence, "end", 20, then=Finish(RunStatus.FAILED, b"r" * LARGE))], now_ms=0
    )
    assert len(files(disk)) == 22
    assert disk.purge(1) == 1
    assert not files(disk)
    with disk.ledger.engine.reading() as rows:
        assert rows.count() <= before + 1  # the ids of a few runs share a row


@pytest.mark.parametrize("when", ["before the row", "after the row"])
def test_a_crash_between_file_and_row(
    disk: DiskStorage, opened: Open, born: Born, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The next one that opens the storage moves files that are named to their place, and removes the others."""
    lease = born(disk)
    crash = KeyboardInterrupt()

    def die(*_: object) -> None:
        raise crash

    with monkeypatch.context() as patch:
        patch.setattr(disk.ledger.blobs, "_settle", die)
        if when == "before the row":
            patch.setattr(disk.ledger.engine, "attempt", die)
        with pytest.raises(KeyboardInterrupt):
            commit(disk, lease, 0, b"x" * LARGE)
    assert len(spooled(disk)) == 1
    if when == "after the row":
        assert load(disk).entries == (b"x" * LARGE,), "found where it lies"

    other = opened()

    assert not spooled(disk)
    assert len(files(disk)) == (when == "after the row")
    assert load(other).entries == ((b"x" * LARGE,) if when == "after the row" else ())
    assert isinstance(commit(disk, lease, 0, b"x" * LARGE), Done)


def test_a_sweep_leaves_alone_what_is_being_written(disk: DiskStorage, opened: Open, born: Born) -> None:
    """A file that another process has written, and not yet named, is not taken from it."""
    lease = born(disk)
    with disk.ledger.blobs.staged([b"x" * LARGE]) as staged:
        opened()
        assert len(spooled(disk)) == 1
        assert len(staged.names()) == 1
    assert isinstance(commit(disk, lease, 0, b"x" * LARGE), Done)
    opened()
    assert isinstance(commit(disk, lease, 1, b"y" * LARGE), Done), "the files made in advance were swept: no matter"
    assert load(disk).entries == (b"x" * LARGE, b"y" * LARGE)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_while_purging(
    disk: DiskStorage, opened: Open, born: Born, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """What was taken off the books is cleared away by the next purge, files included; what was not is whole."""
    lease = born(disk)
    commit(disk, lease, 0, b"x" * LARGE)
    disk.commit([Commit("run", lease.owner, lease.fence, "end", 1, then=Finish(RunStatus.SUCCEEDED, b""))], now_ms=5)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(
            "flowkit_disk.purging.clear_away" if when == "before" else "flowkit_disk.blobs.Blobs._remove", die
        )
        with pytest.raises(KeyboardInterrupt):
            disk.purge(6)
    assert disk.load("run") is None
    other = opened()
    other.purge(6)
    assert not files(disk)
    assert not spooled(disk)
    assert other.purge(6) == 0


@pytest.mark.parametrize("how", ["missing", "cut"])
def test_a_file_that_is_not_what_was_written(disk: DiskStorage, born: Born, how: str) -> None:
    """One clear error, never other bytes."""
    lease = born(disk)
    commit(disk, lease, 0, b"x" * LARGE)
    (path,) = files(disk)
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(b"x" * (LARGE - 1))
    with pytest.raises(StorageError, match=r"damaged|missing"):
        disk.load("run")


def test_a_file_that_cannot_be_read(disk: DiskStorage, born: Born) -> None:
    """What the file system says is passed on, with the path."""
    lease = born(disk)
    commit(disk, lease, 0, b"x" * LARGE)
    (path,) = files(disk)
    path.unlink()
    path.mkdir()
    with pytest.raises(StorageError, match=str(disk.path)):
        disk.load("run")


def test_a_process_that_ends_leaves_no_empty_files(disk: DiskStorage, born: Born) -> None:
    """Those made in advance go when it closes the storage."""
    commit(disk, born(disk), 0, b"x" * LARGE)
    disk.close()
    assert os.listdir(disk.path / "blobs" / "spool") == []  # noqa: PTH208 # names are enough


def test_a_payload_goes_while_it_is_read(disk: DiskStorage, born: Born, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is purged while somebody reads it is no longer there, which is no damage."""
    lease = born(disk)
    commit(disk, lease, 0, b"x" * LARGE)
    disk.commit([Commit("run", lease.owner, lease.fence, "end", 1, then=Finish(RunStatus.SUCCEEDED, b""))], now_ms=5)
    read = disk.ledger.blobs.read

    def read_late(part: Part) -> bytes:
        disk.purge(6)
        return read(part)

    monkeypatch.setattr(disk.ledger.blobs, "read", read_late)
    assert disk.load("run") is None
