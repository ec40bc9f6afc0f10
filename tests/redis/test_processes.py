"""Workers in processes of their own: killed, frozen, with wrong clocks, on a server that restarts under them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowkit import Flow
from flowkit.records import RunQuery, RunStatus
from flowkit_redis import RedisStorage, redis_storage
from flowkit_testing.servers import Server
from tests.redis import worker_child
from tests.redis.conftest import complaints

CHILD = Path(worker_child.__file__)
PATIENCE_S = 60.0
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, url: str) -> Iterator[Start]:
    """Starts workers and waits until they are ready; what is left of them is killed after the test."""
    workers: list[subprocess.Popen[str]] = []

    def one(at: str = url, lease: str = "30s", skew_s: float = 0.0) -> subprocess.Popen[str]:
        command = [sys.executable, str(CHILD), at, str(tmp_path), lease, str(skew_s)]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        workers.append(worker)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        return worker

    yield one
    for worker in workers:
        worker.kill()
        worker.communicate()


@pytest.fixture
def client(url: str) -> Iterator[Flow]:
    """A flow that only asks."""
    with Flow(url, worker=False) as flow:
        yield flow


def effects(folder: Path) -> list[tuple[str, int]]:
    """What workers did, and who."""
    file = folder / "effects"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(what, int(pid)) for what, pid in (line.split() for line in lines)]


def until(what: Callable[[], bool]) -> None:
    """Wait for something that must come."""
    tick = threading.Event()
    for _ in range(int(PATIENCE_S / 0.005)):
        if what():
            return
        tick.wait(0.005)
    raise AssertionError("what had to come did not")


def test_workers_that_are_killed_again_and_again(start: Start, client: Flow, url: str, tmp_path: Path) -> None:
    """X1, D2: every run ends, no completed step runs again, and only steps in flight at a kill run twice."""
    length, kills = 12, 4
    with client:
        handles = [worker_child.chain.options(run_id=f"run-{n}").trigger(f"run-{n}", length) for n in range(12)]
        workers = [start(lease="1500ms"), start(lease="1500ms")]
        for kill in range(kills):
            seen = len(effects(tmp_path))
            until(lambda seen=seen: len(effects(tmp_path)) >= min(seen + 10, 12 * length))  # type: ignore[misc]  # a default has no type in a lambda
            workers[kill % 2].send_signal(signal.SIGKILL)
            workers[kill % 2] = start(lease="1500ms")
        assert [handle.result(timeout=PATIENCE_S) for handle in handles] == [sum(range(length))] * 12

    times = Counter(what for what, _ in effects(tmp_path))
    assert len(times) == 12 * length
    assert sum(times.values()) - len(times) <= kills * 4  # so many runs a worker has in flight
    assert complaints(url) == []


def test_a_frozen_worker_is_fenced_when_it_thaws(start: Start, client: Flow, url: str, tmp_path: Path) -> None:
    """D4: a worker that slept past its lease records nothing more; the other one's outcome stands."""
    with client:
        frozen = start(lease="300ms")
        handle = worker_child.hanging.options(run_id="run").trigger("run")
        until(lambda: ("run:hang", frozen.pid) in effects(tmp_path))
        frozen.send_signal(signal.SIGSTOP)
        other = start()
        assert handle.result(timeout=PATIENCE_S) == "through"

        (tmp_path / "enough").touch()
        frozen.send_signal(signal.SIGCONT)
        until(lambda: ("run:late", frozen.pid) in effects(tmp_path))
        worker_child.chain.options(run_id="after").trigger("after", 3).result(timeout=PATIENCE_S)

        assert handle.result(timeout=1) == "through"
        assert handle.status() is RunStatus.SUCCEEDED
    assert [pid for what, pid in effects(tmp_path) if what == "run:1"] == [other.pid]
    assert complaints(url) == []


def test_a_server_restarts_while_workers_wait(start: Start, tmp_path: Path) -> None:
    """Workers that were blocked when their server died are not deaf when it is back."""
    with Server(appendonly="yes") as server:
        start(server.url)
        start(server.url)
        with Flow(server.url, worker=False):
            assert worker_child.chain.trigger("before", 2).result(timeout=PATIENCE_S) == 1
            for turn in range(2):
                until(lambda: server.ask("CLIENT", "LIST").count(b"cmd=blpop") == 2)
                server.kill()
                server.start()
                handles = [worker_child.chain.trigger(f"after-{turn}-{n}", 2) for n in range(4)]
                assert [handle.result(timeout=PATIENCE_S) for handle in handles] == [1] * 4
        assert complaints(server.url) == []
    assert len(effects(tmp_path)) == 2 * (1 + 2 * 4)


def test_clocks_an_hour_apart(start: Start, client: Flow, url: str, tmp_path: Path) -> None:
    """E4, X1: leases and timers go by the server's clock, whatever those of the workers say."""
    with client:
        start(skew_s=3600)
        start(skew_s=-3600)
        sleepers = [worker_child.sleeper.trigger(1.5) for _ in range(6)]
        chains = [worker_child.chain.trigger(f"run-{n}", 5) for n in range(6)]
        assert [handle.result(timeout=PATIENCE_S) for handle in chains] == [10] * 6
        assert [handle.result(timeout=PATIENCE_S) for handle in sleepers] == ["awake"] * 6
        now_ms = client.engine.clock.now_ms()
        for header in client.engine.storage.list_runs(RunQuery()).headers:
            assert abs(header.created_at_ms - now_ms) < 60_000
            assert header.crashes == 0
    assert len(effects(tmp_path)) == 30
    assert complaints(url) == []


def test_a_forked_child_has_connections_of_its_own(url: str) -> None:
    """Parent and child go on side by side, each over its own connections."""
    storage = redis_storage(url)
    storage.open()
    assert storage.compare_and_set("count", 0, b"0") == 1
    children = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if _count(storage, 20) else 1)
        children.append(pid)
    assert _count(storage, 20)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0]
    found = storage.get("count")
    assert found is not None
    assert found[0] == b"80"
    storage.close()


def _count(storage: RedisStorage, times: int) -> bool:
    done = 0
    while done < times:
        value, revision = storage.get("count") or (b"0", 0)
        done += storage.compare_and_set("count", revision, b"%d" % (int(value) + 1)) is not None
    return True
