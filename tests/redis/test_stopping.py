"""`flowkit worker` on Redis, as an operator stops and watches it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flowkit import Flow
from flowkit.documents import RunInput, encode_input
from flowkit.records import NewRun, RunStatus
from flowkit_redis import redis_storage
from flowkit_testing.clusters import Cluster, until
from flowkit_testing.redis_audit import audit
from flowkit_testing.servers import Server

Start = Callable[..., "subprocess.Popen[bytes]"]
CODE = """
import os
import time
from pathlib import Path

from flowkit import step, task

HERE = Path(__file__).parent


@step
def one(run):
    with (HERE / "begun").open("a") as file:
        file.write(f"{run} {os.getpid()}\\n")
    while not (HERE / "go").exists():
        time.sleep(0.005)
    return os.getpid()


@step
def two():
    return os.getpid()


@task(id="stopping-task")
def body(run):
    return [one(run), two()]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the code is, and what it writes."""
    (tmp_path / "stopped.py").write_text(CODE)
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts workers; what is left of them is killed after the test."""
    workers: list[subprocess.Popen[bytes]] = []

    def one(url: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "from flowkit.cli import main; main()", "worker", str(folder / "stopped.py")]
        environment = os.environ | {"FLOWKIT_STORAGE": url}
        with (folder / "said").open("ab") as said:
            workers.append(subprocess.Popen([*command, *options], env=environment, stdout=said, stderr=said))
        return workers[-1]

    yield one
    for worker in workers:
        worker.kill()
        worker.wait()


def begun(folder: Path) -> list[tuple[str, int]]:
    """The steps that have begun: of which run, in which process."""
    file = folder / "begun"
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return [(run, int(pid)) for run, pid in lines]


@pytest.mark.parametrize("kind", ["server", "cluster"])
def test_sigterm_hands_back(kind: str, start: Start, folder: Path, request: pytest.FixtureRequest) -> None:
    """X5: the steps in flight end and are recorded, what is unfinished goes on elsewhere before any lease has ended."""
    place: Server | Cluster = request.getfixturevalue(f"flowkit_redis_{kind}")
    url = f"{place.url}?namespace=stopping{os.getpid()}"
    with Flow(url, worker=False) as flow:
        for number in range(4):
            given = encode_input(flow.engine.codec, RunInput((f"run-{number}",), {}, "", f"run-{number}"))
            flow.engine.create(NewRun(f"run-{number}", "stopping-task", given))
        handles = [flow.handle(f"run-{number}") for number in range(4)]
        first = start(url, "--lease", "1h")
        until(lambda: len(begun(folder)) == 4)
        first.send_signal(signal.SIGTERM)
        until(lambda: b"SIGTERM: stopping after the steps in flight of 4 runs" in (folder / "said").read_bytes())
        (folder / "go").touch()
        assert first.wait(60) == 0

        second = start(url, "--lease", "1h")
        assert [handle.result(timeout=60) for handle in handles] == [[first.pid, second.pid]] * 4
        assert {handle.status() for handle in handles} == {RunStatus.SUCCEEDED}
        assert [pid for _, pid in begun(folder)] == [first.pid] * 4
        second.send_signal(signal.SIGTERM)
        assert second.wait(60) == 0
    storage = redis_storage(url)
    storage.open()
    with closing(storage):
        assert audit(storage) == []


def test_liveness_tells_whether_the_server_answers(start: Start, folder: Path) -> None:
    """The file is touched while it does, is old when it has hung for a lease, and is gone when the worker stops."""
    alive = folder / "alive"

    def age_s() -> float:
        return time.time() - alive.stat().st_mtime  # noqa: TID251  # what a probe does

    with Server(appendonly="yes") as server:
        worker = start(server.url, "--lease", "600ms", "--liveness", str(alive))
        until(alive.exists)
        server.freeze()
        until(lambda: age_s() > 1.2)
        server.thaw()
        until(lambda: age_s() < 0.6)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    assert not alive.exists()
