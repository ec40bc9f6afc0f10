"""Group commit: whoever comes at whatever moment is written once, in order, and told so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

import flowkit.committer
from flowkit.changes import Change, Writer
from flowkit.committer import Committer
from flowkit.errors import LeaseLost, StorageError
from flowkit.patience import PatientStorage
from flowkit.records import Commit, Done, Fenced, Lease, Verdict
from flowkit.storage import Storage

STEPS = 40


class Log:
    """The one method of a storage that a committer uses; it counts what it is given and who is inside."""

    def __init__(self) -> None:
        self.entries: dict[str, list[bytes]] = {}
        self.batches: list[int] = []
        self.failures: list[Exception] = []
        self.fenced: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self._inside = threading.Lock()

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Append, or fail as told."""
        assert self._inside.acquire(blocking=False), "two batches at once"
        try:
            self.entered.set()
            assert self.gate.wait(60)
            if self.failures:
                raise self.failures.pop()
            self.batches.append(len(commits))
            return [self._one(commit, now_ms or 0) for commit in commits]
        finally:
            self._inside.release()

    def _one(self, commit: Commit, now_ms: int) -> Verdict:
        if commit.run_id in self.fenced:
            return Fenced()
        entries = self.entries.setdefault(commit.run_id, [])
        assert commit.base == len(entries)
        entries.extend(commit.entries)
        return Done(len(entries), cancel=False, inbox=0, now_ms=now_ms)


@pytest.fixture
def log() -> Log:
    """A storage."""
    return Log()


@pytest.fixture
def committer(log: Log) -> Committer:
    """A committer in front of it."""
    storage = PatientStorage(cast("Storage", log), 5.0, lambda _seconds: None)
    return Committer(storage, instant=False, now_ms=lambda: None)


def writer_of(run_id: str) -> Writer:
    """The writing end of a new run."""
    return Writer(Lease(run_id, "owner", 1, 0), 0)


def entries_of(run_id: str) -> list[bytes]:
    """What `STEPS` changes write."""
    return [f"{run_id} {number}".encode() for number in range(STEPS)]


def test_threads_loops_and_posts_at_once(log: Log, committer: Committer) -> None:
    """I4: each run's changes are written once and in their order, however many others write."""

    def in_a_thread(run_id: str) -> None:
        writer = writer_of(run_id)
        for entry in entries_of(run_id):
            committer.append(writer, (entry,))

    def without_waiting(run_id: str) -> None:
        writer = writer_of(run_id)
        for entry in entries_of(run_id):
            committer.post(Change(writer, (entry,)))

    async def in_a_coroutine(run_id: str) -> None:
        writer = writer_of(run_id)
        for entry in entries_of(run_id):
            await committer.write_async(Change(writer, (entry,)))

    async def in_coroutines(run_ids: Sequence[str]) -> None:
        await asyncio.gather(*map(in_a_coroutine, run_ids))

    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit(in_a_thread, f"thread {number}") for number in range(4)]
        work += [pool.submit(without_waiting, "post")]
        loops = ([f"loop {loop} run {number}" for number in range(10)] for loop in range(3))
        work += [pool.submit(asyncio.run, in_coroutines(run_ids)) for run_ids in loops]
        for each in work:
            each.result(60)
    committer.close()
    assert len(log.entries) == 4 + 1 + 30
    assert all(entries == entries_of(run_id) for run_id, entries in log.entries.items())


def test_who_comes_meanwhile_shares_the_next_batch(log: Log, committer: Committer) -> None:
    """While a batch is in flight the next one collects: five who come then are one batch."""
    log.gate.clear()
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(committer.append, writer_of("first"), (b"1",))
        assert log.entered.wait(60)
        others = [Change(writer_of(f"run {number}"), (b"1",)) for number in range(5)]
        for change in others[:3]:
            committer.post(change)
        late = [pool.submit(committer.write, change) for change in others[3:]]
        while len(committer._waiting) < len(others):  # noqa: SLF001  # nothing else tells that they have come
            threading.Event().wait(0.001)
        log.gate.set()
        assert [first.result(60), *(each.result(60) for each in late)] == [1, 1, 1]
    committer.close()
    assert log.batches == [1, 5]


def test_a_lost_answer_is_asked_for_again(log: Log, committer: Committer) -> None:
    """D7: an error of the storage means "unknown", so the same batch is sent again."""
    log.failures = [ConnectionError("reset"), TimeoutError("slow")]
    assert committer.append(writer_of("run"), (b"1", b"2")) == 2
    assert log.entries == {"run": [b"1", b"2"]}


def test_a_refusal_reaches_its_caller_alone(log: Log, committer: Committer) -> None:
    """D4: a run that was taken over writes nothing more; the next caller is not held up by it."""
    log.fenced = {"stolen"}
    stolen = writer_of("stolen")
    for _ in range(2):
        with pytest.raises(LeaseLost):
            committer.append(stolen, (b"1",))
    log.failures = [StorageError("full")] * 2  # a first failure of a lone writer is asked about once
    with pytest.raises(StorageError, match="full"):
        committer.append(writer_of("unlucky"), (b"1",))
    assert committer.append(writer_of("free"), (b"1",)) == 1
    assert log.entries == {"free": [b"1"]}


def test_closing_writes_what_waits(log: Log, committer: Committer) -> None:
    """What was posted is written before `close` returns; who comes after that is written as well."""
    writer = writer_of("run")
    for entry in entries_of("run"):
        committer.post(Change(writer, (entry,)))
    committer.close()
    assert log.entries["run"] == entries_of("run")
    committer.post(Change(writer, (b"late",)))
    committer.close()
    committer.close()
    assert log.entries["run"][-1] == b"late"


def test_a_cancelled_caller_is_written_all_the_same(log: Log, committer: Committer) -> None:
    """D1: cancelling who waits for a write does not take the write back."""
    log.gate.clear()

    async def body() -> None:
        write = asyncio.ensure_future(committer.write_async(Change(writer_of("run"), (b"1",))))
        await asyncio.to_thread(log.entered.wait, 60)
        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write
        log.gate.set()

    asyncio.run(body())
    committer.close()
    assert log.entries == {"run": [b"1"]}


# ---- an event loop comes round ---------------------------------------------------------------------------------------


async def while_in_flight(log: Log, committer: Committer, meanwhile: Callable[[], object]) -> Writer:
    """Write a change; something happens while it is in flight. Returns as soon as it is written."""

    async def beside() -> None:
        await asyncio.to_thread(log.entered.wait, 60)
        log.entered.clear()
        meanwhile()
        log.gate.set()

    log.gate.clear()
    writer = writer_of("first")
    other = asyncio.create_task(beside())
    await committer.append_async(writer, (b"1",))
    assert other.done()
    return writer


def test_runs_of_one_loop_share_their_batches(log: Log, committer: Committer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has been answered writes again before the next batch goes, so runs do not fall apart into groups."""
    monkeypatch.setattr(flowkit.committer, "ROUND_S", 60)
    other = writer_of("other")

    async def body() -> None:
        first = await while_in_flight(log, committer, lambda: committer.post(Change(other, (b"1",))))
        await committer.append_async(first, (b"2",))

    asyncio.run(body())
    committer.close()
    assert log.batches == [1, 2]
    assert log.entries == {"first": [b"1", b"2"], "other": [b"1"]}


def test_a_loop_that_is_held_up_holds_nobody_up(
    log: Log, committer: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D1: what others have handed in is written although the loop that was answered does not come round."""
    monkeypatch.setattr(flowkit.committer, "ROUND_S", 0)

    async def body() -> None:
        await while_in_flight(log, committer, lambda: committer.post(Change(writer_of("other"), (b"1",))))
        assert log.entered.wait(60)  # on the loop

    asyncio.run(body())
    committer.close()
    assert log.batches == [1, 1]


def test_threads_do_not_wait_for_a_loop(log: Log, committer: Committer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that has handed in a change goes on as soon as it can, whatever an event loop does."""
    monkeypatch.setattr(flowkit.committer, "ROUND_S", 600)
    with ThreadPoolExecutor(1) as pool:
        written = []

        def meanwhile() -> None:
            written.append(pool.submit(committer.append, writer_of("thread"), (b"1",)))
            while not committer._waiting:  # noqa: SLF001  # nothing else tells that it has come
                threading.Event().wait(0.001)

        async def body() -> None:
            await while_in_flight(log, committer, meanwhile)
            assert written[0].result(60) == 1  # on the loop

        asyncio.run(body())
    committer.close()


def test_closing_does_not_wait_for_a_loop(log: Log, committer: Committer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever closes on the loop that was answered gets what waits written, and then the end."""
    monkeypatch.setattr(flowkit.committer, "ROUND_S", 600)

    async def body() -> None:
        await while_in_flight(log, committer, lambda: committer.post(Change(writer_of("other"), (b"1",))))
        committer.close()
        assert log.batches == [1, 1]

    asyncio.run(body())


# ---- storages that commit at once -----------------------------------------------------------------------------------


class PromptLog(Log):
    """A storage that can commit without waiting; as told, it does so, does not, or leaves in doubt what it did."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[str] = []  # to each commit at once: "yes", "no", "lost", "fails"; then always "yes"
        self.at_once = 0
        self.last: dict[str, str] = {}
        self.inbox = 0

    def commit_at_once(self, commit: Commit, *, now_ms: int | None = None) -> Done | None:
        """Append, or do as told."""
        answer = self.answers.pop(0) if self.answers else "yes"
        if answer == "no":
            return None
        if answer == "fails":
            raise OSError("input/output error")
        [verdict] = self.commit([commit], now_ms=now_ms)
        if answer == "lost" or not isinstance(verdict, Done):
            return None
        self.at_once += 1
        return verdict

    def _one(self, commit: Commit, now_ms: int) -> Verdict:
        entries = self.entries.setdefault(commit.run_id, [])
        if commit.commit_id == self.last.get(commit.run_id):
            return Done(len(entries), cancel=False, inbox=self.inbox, now_ms=now_ms)
        verdict = super()._one(commit, now_ms)
        if isinstance(verdict, Done):
            self.last[commit.run_id] = commit.commit_id
            verdict = Done(verdict.length, cancel=False, inbox=self.inbox, now_ms=now_ms)
        return verdict


@pytest.fixture
def prompt() -> PromptLog:
    """A storage that commits at once."""
    return PromptLog()


@pytest.fixture
def quick(prompt: PromptLog) -> Committer:
    """A committer in front of it."""
    storage = PatientStorage(cast("Storage", prompt), 5.0, lambda _seconds: None)
    return Committer(storage, instant=False, now_ms=lambda: None)


def test_a_lone_coroutine_is_written_at_once(prompt: PromptLog, quick: Committer) -> None:
    """No other thread takes part in it, but now and then, so that the rest of an event loop comes to its turn."""
    turns = 0

    async def body() -> None:
        async def beside() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(beside())
        writer = writer_of("run")
        for number in range(200):
            assert await quick.append_async(writer, (f"{number}".encode(),)) == number + 1
            while quick._turn.locked():  # noqa: SLF001  # the thread tells that it has written before it gives the turn back
                threading.Event().wait(0.001)
        other.cancel()

    asyncio.run(body())
    quick.close()
    assert prompt.entries == {"run": [f"{number}".encode() for number in range(200)]}
    assert prompt.at_once == 200 - 3
    assert turns


@pytest.mark.parametrize("answer", ["no", "lost", "fails"])
def test_a_commit_in_doubt_is_sent_again(prompt: PromptLog, quick: Committer, answer: str) -> None:
    """D7: what was not done at once, or may have been, is the same commit to the thread that goes on with it."""

    async def body() -> list[int]:
        writer = writer_of("run")
        prompt.answers = ["yes", answer]
        return [await quick.append_async(writer, (entry,)) for entry in (b"1", b"2", b"3")]

    assert asyncio.run(body()) == [1, 2, 3]
    quick.close()
    assert prompt.entries == {"run": [b"1", b"2", b"3"]}


def test_a_refusal_is_told_at_once_as_well(prompt: PromptLog, quick: Committer) -> None:
    """D4: a run that was taken over writes nothing more, also not at once."""
    prompt.fenced = {"run"}

    async def body() -> None:
        writer = writer_of("run")
        for _ in range(2):
            with pytest.raises(LeaseLost, match="taken over"):
                await quick.append_async(writer, (b"1",))

    asyncio.run(body())
    quick.close()
    assert not prompt.entries.get("run")


def test_news_come_with_a_commit_at_once(prompt: PromptLog, quick: Committer) -> None:
    """E5: a message that came in is told with the next commit, whichever way that takes."""
    told: list[int] = []

    async def body() -> None:
        writer = writer_of("run")
        writer.on_news = lambda: told.append(writer.inbox)
        await quick.append_async(writer, (b"1",))
        prompt.inbox = 1
        await quick.append_async(writer, (b"2",))

    asyncio.run(body())
    quick.close()
    assert told == [1]
    assert prompt.entries == {"run": [b"1", b"2"]}


def test_a_caller_cancelled_in_doubt_is_written_once(prompt: PromptLog, quick: Committer) -> None:
    """D4: cancelling whoever waits for a commit in doubt neither undoes it nor makes it twice, nor stops others."""
    prompt.answers = ["lost"]

    async def body() -> int:
        writer, other = writer_of("run"), writer_of("other")
        waiting = asyncio.create_task(quick.append_async(writer, (b"1",)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return await quick.append_async(other, (b"1",))

    assert asyncio.run(body()) == 1
    quick.close()
    assert prompt.entries == {"run": [b"1"], "other": [b"1"]}


def test_many_at_once(prompt: PromptLog, quick: Committer) -> None:
    """I4: coroutines of several event loops and threads, each in its order, with every third commit in doubt."""
    prompt.answers = ["yes", "lost", "yes", "no", "yes", "fails"] * 60

    async def in_a_coroutine(run_id: str) -> None:
        writer = writer_of(run_id)
        for entry in entries_of(run_id):
            await quick.append_async(writer, (entry,))

    async def in_coroutines(run_ids: Sequence[str]) -> None:
        await asyncio.gather(*map(in_a_coroutine, run_ids))

    def in_a_thread(run_id: str) -> None:
        writer = writer_of(run_id)
        for entry in entries_of(run_id):
            quick.append(writer, (entry,))

    with ThreadPoolExecutor(8) as pool:
        loops = ([f"loop {loop} run {number}" for number in range(5)] for loop in range(3))
        work = [pool.submit(asyncio.run, in_coroutines(run_ids)) for run_ids in loops]
        work += [pool.submit(in_a_thread, f"thread {number}") for number in range(2)]
        for each in work:
            each.result(60)
    quick.close()
    assert len(prompt.entries) == 15 + 2
    assert all(entries == entries_of(run_id) for run_id, entries in prompt.entries.items())
