"""Storages that commit at once: a lone writer is written without another thread, and what is in doubt is sent again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from flowkit.committer import Committer
from flowkit.errors import LeaseLost
from tests.committer.log import PromptLog, entries_of, writer_of


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
