"""Servers that are hurt between the effect of a step and its record: runs end as they would have."""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from flowkit import Flow, RunStatus, step, task
from flowkit_testing.auditor import EffectLog
from flowkit_testing.servers import Server
from tests.redis.conftest import complaints

PATIENCE_S = 60.0


def times(effects: EffectLog) -> Counter[str]:
    """How often each was done."""
    return Counter(effect.name for effect in effects.read())


def test_connections_and_scripts_are_gone_at_every_step(
    flowkit_redis_server: Server, url: str, effects: EffectLog
) -> None:
    """D2, D7: CLIENT KILL and SCRIPT FLUSH before each record of four runs side by side: no step is made twice."""

    @step
    def hurt(name: str) -> None:
        effects.note(name)
        for words in (("SCRIPT", "FLUSH"), ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")):
            with contextlib.suppress(OSError):  # another run has killed this connection too
                flowkit_redis_server.ask(*words)

    @task(id="hurt-at-every-step")
    def body(name: str) -> str:
        for number in range(8):
            hurt(f"{name}-{number}")
        return name

    with Flow(url, worker=True) as flow:
        handles = [flow.start(body, f"run-{n}") for n in range(4)]
        assert [handle.result(timeout=PATIENCE_S) for handle in handles] == [f"run-{n}" for n in range(4)]
    assert times(effects) == {f"run-{n}-{number}": 1 for n in range(4) for number in range(8)}
    assert complaints(url) == []


def test_a_server_that_comes_back_with_an_older_file(effects: EffectLog) -> None:
    """After a restart without the last writes, what was lost is done again, what was kept is not, and all goes on."""
    with Server(appendonly="yes", appendfsync="always") as server:
        file, older = server.folder / "appendonlydir", server.folder / "older"
        lost = threading.Event()

        @step
        def kept() -> str:
            return effects.note("kept")

        @step
        def copied() -> None:
            if not lost.is_set():
                shutil.copytree(file, older)

        @step
        def forgotten() -> str:
            return effects.note("forgotten")

        @step
        def injury() -> str:
            if not lost.is_set():
                lost.set()
                server.kill()
                shutil.rmtree(file)
                older.rename(file)
                server.start()
            return effects.note("injury")

        @task(id="older-file")
        def body() -> list[str]:
            one = kept()
            copied()
            return [one, forgotten(), injury()]

        with Flow(server.url, lease="2s", worker=True) as flow:
            tokens = flow.start(body).result(timeout=PATIENCE_S)
            assert len(flow.start(body).result(timeout=PATIENCE_S)) == 3  # the worker is not deaf
        kept_as, forgotten_as, injury_as = (
            [effect.token for effect in effects.read() if effect.name == name]
            for name in ("kept", "forgotten", "injury")
        )
        assert tokens[:2] == [kept_as[0], forgotten_as[1]]
        assert tokens[2] in injury_as[:2]  # of the step that has hurt the server, and the one in its place
        assert times(effects) == {"kept": 2, "forgotten": 3, "injury": 3}
        assert complaints(server.url) == []


class Relief(logging.Handler):
    """Gives a server room again as soon as somebody complains that it has none."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server
        self.complaints = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Somebody complains."""
        if "has no memory left" in record.getMessage():
            self.complaints += 1
            self._server.ask("CONFIG", "SET", "maxmemory", "0")


@pytest.fixture
def small() -> Iterator[Server]:
    """A server whose memory may be full."""
    with Server(maxmemory_policy="noeviction") as server:
        yield server


@pytest.fixture
def relief(small: Server) -> Iterator[Relief]:
    """Room comes after the first complaint."""
    handler, log = Relief(small), logging.getLogger("flowkit.patience")
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


def test_memory_is_full_at_every_undo_and_at_the_end(small: Server, relief: Relief, effects: EffectLog) -> None:
    """G1, G3: a rollback waits for room at each of its records; every undo is made once, newest first."""

    def filled(name: str) -> None:
        effects.note(name)
        small.ask("CONFIG", "SET", "maxmemory", "1mb")

    @step
    def book(name: str) -> str:
        effects.note(f"book {name}")
        return name

    @book.compensate
    def unbook(name: str) -> None:
        filled(f"undo {name}")

    @step(attempts=1)
    def fail() -> None:
        filled("fail")
        raise ValueError("no")

    @task(id="full-at-undo")
    def body() -> None:
        for name in "abc":
            book(name)
        fail()

    with Flow(small.url, worker=False) as flow:
        with pytest.raises(ValueError, match="no"):
            flow.run(body.options(run_id="r"))
        assert flow.handle("r").status() is RunStatus.FAILED
    names = [effect.name for effect in effects.read()]
    assert names == ["book a", "book b", "book c", "fail", "undo c", "undo b", "undo a"]
    assert relief.complaints == 4  # after `fail` and after each undo
    assert complaints(small.url) == []


def test_memory_is_full_when_a_run_ends(small: Server, relief: Relief, effects: EffectLog) -> None:
    """D1: a run whose end does not find room has not ended; when there is room it ends, and nothing is done twice."""

    @step
    def work() -> str:
        return effects.note("work")

    @task(id="full-at-end")
    def body() -> str:
        token = work()
        small.ask("CONFIG", "SET", "maxmemory", "1mb")
        return token

    with Flow(small.url, worker=False) as flow:
        token = flow.run(body.options(run_id="r"))
        assert relief.complaints == 1
        assert flow.handle("r").status() is RunStatus.SUCCEEDED
        assert flow.handle("r").result() == token
    assert times(effects) == {"work": 1}
    assert complaints(small.url) == []
