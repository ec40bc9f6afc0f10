"""Several processes on one directory: they share it fairly, die at any moment, and wake each other."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from fcntl import LOCK_EX, flock
from pathlib import Path
from threading import Thread
from typing import TypeVar

import pytest

from flowkit.errors import StorageError
from flowkit.records import (
    AnyOf,
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
    Verdict,
)
from flowkit_disk import DiskStorage, wake
from flowkit_disk.failures import LockedError
from flowkit_testing.clusters import until

Open = Callable[..., DiskStorage]
Born = Callable[..., Lease]
Python = Callable[..., subprocess.Popen[str]]

T = TypeVar("T")
HOUR_MS = 3_600_000
ANY = AnyOf(("task",))


def entries(storage: DiskStorage, run_id: str) -> tuple[bytes, ...]:
    """The journal of a run."""
    snapshot = storage.load(run_id)
    assert snapshot is not None
    return snapshot.entries


def patiently(call: Callable[[], T]) -> T:
    """Ask until the lock is had: the thread that has waited in line may have it for a moment, and lets go of it."""
    for _ in range(600):
        with suppress(LockedError):
            return call()
    return call()


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that a process says."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_several_processes_write_at_once(python: Python, disk: DiskStorage) -> None:
    """Every commit of each is there, and what they count together misses none."""
    script = """
        name = sys.argv[2]
        lease = born(storage, name, f"worker-{name}")
        for base in range(25):
            assert isinstance(write(storage, lease, base, name.encode()), Done)
            while True:
                value, revision = storage.get("count") or (b"0", 0)
                if storage.compare_and_set("count", revision, b"%d" % (int(value) + 1)):
                    break
        storage.close()
    """
    processes = [python(script, f"run-{n}") for n in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert disk.get("count") == (b"75", 75)
    for n in range(3):
        assert entries(disk, f"run-{n}") == (f"run-{n}".encode(),) * 25


def test_a_writer_that_is_killed_again_and_again(python: Python, disk: DiskStorage) -> None:
    """D1: whatever was acknowledged before SIGKILL is there, once, and the next one goes on from it at once (X1)."""
    script = """
        from random import randbytes
        worker, token = f"worker-{os.getpid()}", f"token-{os.getpid()}"
        storage.submit([NewRun("run", "task", b"input")])
        (lease,) = storage.claim(Grant(worker, token, 3_600_000), Exactly("run"), 1).leases
        base = len(storage.load("run").entries)
        while True:
            size = 200_000 if base % 5 == 4 else 20
            verdict = write(storage, lease, base, b"%d:" % base + randbytes(size), commit_id=f"{token}-{base}")
            assert isinstance(verdict, Done), verdict
            base = verdict.length
            say(base)
    """
    acknowledged = 0
    for round_ in range(6):
        process = python(script)
        assert process.stdout is not None
        for _ in range(1 + 7 * round_ % 11):
            acknowledged = int(line_of(process))
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split("\n")
        acknowledged = max([acknowledged, *(int(line) for line in rest[:-1] if line)])
        process.wait()
        stored = entries(disk, "run")
        assert len(stored) in {acknowledged, acknowledged + 1}
        assert [int(entry.split(b":", 1)[0]) for entry in stored] == list(range(len(stored)))
    assert acknowledged > 6


@pytest.mark.parametrize("how", ["any", "exactly"])
def test_a_dead_process_is_known_at_once(python: Python, disk: DiskStorage, how: str) -> None:
    """X1: its runs are claimable without waiting for the lease, which would last an hour."""
    process = python('lease = born(storage, "run"); say(write(storage, lease, 0, b"x").length); time.sleep(600)')
    assert line_of(process) == "1"
    want = ANY if how == "any" else Exactly("run")
    assert disk.claim(Grant("other", "early", HOUR_MS), want, 1).leases == ()

    process.send_signal(signal.SIGKILL)
    process.wait()

    (lease,) = disk.claim(Grant("other", "token", HOUR_MS), want, 1).leases
    assert (lease.run_id, lease.crashes) == ("run", 1)


@pytest.mark.parametrize("want", [ANY, Exactly("a")], ids=["any", "by id"])
def test_a_dead_process_holds_no_place(python: Python, disk: DiskStorage, want: AnyOf | Exactly) -> None:
    """X1: the place of a run whose process is gone is free at once, for the run itself too."""
    script = """
        storage.submit([NewRun(run_id, "task", b"", limit=Limit(1)) for run_id in "ab"])
        storage.claim(Grant("worker-a", "token-a", 3_600_000), AnyOf(("task",)), 10)
        os._exit(1)
    """
    assert python(script).wait() == 1

    claimed = disk.claim(Grant("worker-b", "token-b", HOUR_MS), want, 10)

    assert len(claimed.leases) == 1
    assert disk.claim(Grant("worker-b", "token-c", HOUR_MS), ANY, 10).leases == ()


def test_whoever_waits_for_work_learns_of_a_death(python: Python, disk: DiskStorage) -> None:
    """X1: an idle worker takes over without being told by anyone."""
    process = python('born(storage, "run"); say("ready"); time.sleep(600)')
    assert line_of(process) == "ready"
    assert disk.claim(Grant("other", "early", HOUR_MS), ANY, 1).leases == ()
    waiter = Thread(target=disk.wait_for_work, args=(ANY, 60.0))
    waiter.start()
    process.send_signal(signal.SIGKILL)
    process.wait()
    waiter.join(50)
    assert not waiter.is_alive()
    assert len(disk.claim(Grant("other", "token", HOUR_MS), ANY, 1).leases) == 1


def test_a_death_concerns_its_own_runs_only(python: Python, disk: DiskStorage, born: Born) -> None:
    """X1: the leases of workers that live are left alone, and so are runs of tasks that nobody here knows."""
    born(disk, "mine", "worker-of-mine")
    process = python("""
        born(storage, "run")
        grant = Grant("worker", "token-foreign", 3_600_000)
        storage.submit([NewRun("foreign", "unknown", b"", grant=grant)])
        say("ready")
        time.sleep(600)
    """)
    assert line_of(process) == "ready"
    mine = python('born(storage, "lives", "another"); say("ready"); sys.stdin.read()')
    assert line_of(mine) == "ready"
    process.send_signal(signal.SIGKILL)
    process.wait()
    claimed = disk.claim(Grant("other", "token", HOUR_MS), ANY, 10)
    assert [lease.run_id for lease in claimed.leases] == ["run"]
    assert disk.claim(Grant("other", "next", HOUR_MS), AnyOf(("unknown",)), 10).leases[0].run_id == "foreign"


def test_a_stopped_owner_is_fenced_when_it_goes_on(python: Python, disk: DiskStorage) -> None:
    """D4: SIGSTOP past the lease, takeover, SIGCONT: what it remembers of its run is of no use to it."""
    process = python("""
        lease = born(storage, "run", lease_ms=1)
        say(write(storage, lease, 0, b"own").length)
        sys.stdin.readline()
        say(type(write(storage, lease, 1, b"zombie")).__name__)
    """)
    assert line_of(process) == "1"
    process.send_signal(signal.SIGSTOP)
    later = 2**42
    (lease,) = disk.claim(Grant("other", "token", HOUR_MS), Exactly("run"), 1, now_ms=later).leases
    disk.commit([Commit("run", "token", lease.fence, "c", 1, (b"successor",))], now_ms=later)
    process.send_signal(signal.SIGCONT)
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert line_of(process) == Fenced.__name__
    assert entries(disk, "run") == (b"own", b"successor")


def test_a_process_that_holds_the_lock_for_too_long(opened: Open, born: Born) -> None:
    """A stopped process hangs nobody: after the busy timeout there is an error, and later it works again."""
    storage = opened(busy_timeout_s=0.1)
    lease = born(storage)
    descriptor = os.open(storage.path / "write.lock", os.O_RDWR)
    flock(descriptor, LOCK_EX)
    commit = Commit("run", lease.owner, lease.fence, "c", 0, (b"entry",))
    for _ in range(2):
        with pytest.raises(StorageError, match="locked by another process"):
            storage.commit([commit])
    snapshot = storage.load("run")
    assert snapshot is not None, "reading needs no lock"
    assert snapshot.entries == ()
    os.close(descriptor)
    assert isinstance(patiently(lambda: storage.commit([commit]))[0], Done)


def test_waiting_in_line_for_the_lock(opened: Open, born: Born) -> None:
    """Whoever has given up does not take the lock when its turn comes, and may queue up again."""
    storage, patient = opened(busy_timeout_s=0.05), opened(busy_timeout_s=60.0)
    lease = born(storage)
    commit = Commit("run", lease.owner, lease.fence, "c", 0, (b"entry",))
    descriptor = os.open(storage.path / "write.lock", os.O_RDWR)
    flock(descriptor, LOCK_EX)
    with pytest.raises(StorageError, match="locked"):
        storage.send("run", _event())
    done: list[Verdict] = []
    thread = Thread(target=lambda: done.extend(patient.commit([commit])))
    thread.start()
    os.close(descriptor)
    thread.join(60)
    assert [type(verdict) for verdict in done] == [Done]
    assert patiently(lambda: storage.send("run", _event())) == "delivered"


def test_closing_while_waiting_in_line(state: Path, born: Born) -> None:
    """The thread that waits for the lock lets go of it as soon as it gets it."""
    storage = DiskStorage(state, busy_timeout_s=0.05)
    storage.open()
    born(storage)
    descriptor = os.open(state / "write.lock", os.O_RDWR)
    flock(descriptor, LOCK_EX)
    with pytest.raises(StorageError, match="locked"):
        storage.send("run", _event())
    storage.close()
    os.close(descriptor)
    again = DiskStorage(state)
    again.open()
    again.send("run", _event())
    again.close()


def test_two_processes_wake_each_other(python: Python, disk: DiskStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte is enough: neither looks for itself during this test."""
    monkeypatch.setattr(wake, "_SHORTEST_S", 600.0)
    monkeypatch.setattr(wake, "_LONGEST_S", 600.0)
    process = python("""
        from flowkit_disk import wake
        wake._SHORTEST_S = wake._LONGEST_S = 600.0
        want = AnyOf(("ping",))
        for n in range(5):
            while not (leases := storage.claim(Grant("ponger", f"t{n}", 1000), want, 1).leases):
                storage.wait_for_work(want, 600.0)
            storage.submit([NewRun(f"pong-{n}", "pong", b"")])
        storage.close()
    """)
    want = AnyOf(("pong",))
    for n in range(5):
        disk.submit([NewRun(f"ping-{n}", "ping", b"")])
        while not disk.claim(Grant("pinger", f"t{n}", 1000), want, 1).leases:
            disk.wait_for_work(want, 600.0)
    assert process.wait() == 0


def test_a_result_wakes_another_process(python: Python, disk: DiskStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a run hears of each of its commits, the appended ones as well."""
    monkeypatch.setattr(wake, "_SHORTEST_S", 600.0)
    monkeypatch.setattr(wake, "_LONGEST_S", 600.0)
    process = python("""
        lease = born(storage, "run")
        say("ready")
        for base in range(5):
            sys.stdin.readline()
            write(storage, lease, base, b"x")
        storage.commit([Commit("run", lease.owner, lease.fence, "end", 5, then=Finish(RunStatus.SUCCEEDED, b""))])
        storage.close()
    """)
    assert line_of(process) == "ready"
    assert process.stdin is not None
    revision, status = 0, RunStatus.RUNNING
    for _ in range(5):
        process.stdin.write("\n")
        process.stdin.flush()
        header = disk.wait_for_run("run", revision, 600.0)
        assert header is not None
        revision, status = header.revision, header.status
    while not status.finished:
        header = disk.wait_for_run("run", revision, 600.0)
        assert header is not None
        revision, status = header.revision, header.status
    assert process.wait() == 0


def test_sockets_of_dead_processes_are_cleared_away(python: Python, disk: DiskStorage) -> None:
    """What a killed process left in `wake/` does not stay for ever."""
    process = python("""
        storage.claim(Grant("w", "t", 1000), AnyOf(("none",)), 1)
        storage.wait_for_work(AnyOf(("none",)), 600)
    """)
    until(lambda: any((disk.path / "wake").iterdir()))
    process.send_signal(signal.SIGKILL)
    process.wait()
    disk.submit([NewRun("run", "task", b"")])
    assert not list((disk.path / "wake").iterdir())


def test_lock_files_of_dead_workers_are_cleared_away(python: Python, disk: DiskStorage) -> None:
    """The next claim removes them; those of living workers stay."""
    assert python('born(storage, "run"); os._exit(0)').wait() == 0
    assert len(list((disk.path / "workers").iterdir())) == 1
    disk.claim(Grant("mine", "token", 1000), ANY, 1)
    (left,) = (disk.path / "workers").iterdir()
    assert str(os.getpid()) in left.read_text()


def test_a_suspended_run_outlives_its_process(python: Python, disk: DiskStorage) -> None:
    """E4: a timer is a point in time, whoever set it."""
    script = """
        lease = born(storage, "run")
        storage.commit([Commit("run", lease.owner, lease.fence, "c", 0, (b"x",), then=Suspend(wake_at_ms=2**42))])
        os._exit(0)
    """
    assert python(script).wait() == 0
    assert disk.claim(Grant("mine", "early", 1000), ANY, 1).next_due_ms == 2**42
    (lease,) = disk.claim(Grant("mine", "token", 1000), ANY, 1, now_ms=2**42).leases
    assert lease.crashes == 0, "it was handed back"
    end = Commit("run", "token", lease.fence, "end", 1, then=Finish(RunStatus.SUCCEEDED, b""))
    assert isinstance(disk.commit([end])[0], Done)


def _event() -> Message:
    return Message("id", MessageKind.EVENT)
