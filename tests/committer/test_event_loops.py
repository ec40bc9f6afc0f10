"""Batches and an event loop: who was answered comes round, and holds nobody up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

import flowkit.committer
from flowkit.changes import Change, Writer
from flowkit.committer import Committer
from tests.committer.log import Log, writer_of


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
