"""Group commit: whoever comes at whatever moment is written once, in order, and told so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from flowkit.changes import Change
from flowkit.committer import Committer
from flowkit.errors import LeaseLost, StorageError
from tests.committer.log import Log, entries_of, writer_of


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
