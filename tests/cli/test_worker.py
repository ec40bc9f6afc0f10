"""`flowkit worker`: it runs what others give it, stops as it is told, and is replaced when it dies instead."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flowkit.cli import worker_command
from flowkit.clock import system_now_ms
from flowkit.documents import RunInput, encode_input
from flowkit.entries import Phase, decode
from flowkit.flow import Flow
from flowkit.records import Durability, Exactly, NewRun, RunStatus
from flowkit.registry import Registry
from flowkit_disk import DiskStorage
from flowkit_disk.book import Book
from flowkit_disk.changes import Changes

Call = Callable[..., Any]
PATIENCE_S = 60.0
CODE = '''
import asyncio
import time
from pathlib import Path

from flowkit import aio, step, task

HERE = Path(__file__).parent


def wait_here(name):
    """Tell that we are here, and stay until we may go on."""
    with (HERE / "log").open("a") as log:
        log.write(f"{name}\\n")
    while not (HERE / f"go {name}").exists():
        time.sleep(0.01)


@step
def one():
    wait_here("one")
    return 1


@step
def two():
    wait_here("two")
    return 2


@task(id="worked", attempts=1)
def worked():
    return one() + two()


@step
async def aone():
    await asyncio.to_thread(wait_here, "one")
    return 1


@step
async def atwo():
    await asyncio.to_thread(wait_here, "two")
    return 2


@step
async def busy():
    wait_here("one")  # blocks the event loop
    return 1


@task(id="worked-async")
async def worked_async():
    return await aone() + await atwo()


@task(id="busy-loop")
async def busy_loop():
    return await busy() + await atwo()


@task(id="slow-lane", queue="slow")
def slow_lane():
    return "slow"


@task(id="unlucky")
def unlucky():
    raise ValueError("no luck")


@task(id="harmless")
def harmless():
    return "done"
'''


class Worker:
    """`flowkit worker` in a process of its own."""

    def __init__(self, folder: Path, number: int, *options: str) -> None:
        self.said_in = folder / f"said {number}"
        command = [sys.executable, "-c", "from flowkit.cli import main; main()", "worker", str(folder / "mytasks.py")]
        with self.said_in.open("wb") as said:
            self.popen = subprocess.Popen(
                [*command, "--storage", f"disk:{folder / 'state'}?durability=process", *options],
                stdout=said,
                stderr=said,
                cwd=folder,
            )

    def said(self) -> str:
        """What it has said so far."""
        return self.said_in.read_text()

    def wait_until(self, what: Callable[[], bool]) -> None:
        """Until something is true, while the process lives."""
        for _ in range(int(PATIENCE_S / 0.01)):
            if what():
                return
            assert self.popen.poll() is None, self.said()
            threading.Event().wait(0.01)
        raise AssertionError(f"what had to become true did not: {self.said()}")

    def wait_until_it_says(self, words: str) -> None:
        """Until a line holds these words."""
        self.wait_until(lambda: words in self.said())

    def signal(self, signum: int) -> None:
        """Send it a signal."""
        self.popen.send_signal(signum)

    def code(self) -> int:
        """Its exit code, when it has ended."""
        return self.popen.wait(PATIENCE_S)


class Scene:
    """A storage in a folder, tasks in a file, a client, and workers that come and go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "mytasks.py").write_text(CODE)
        self.flow = Flow(f"disk:{folder / 'state'}?durability=process", worker=False)
        self._workers: list[Worker] = []

    def worker(self, *options: str) -> Worker:
        """Start one, and wait until it works."""
        worker = Worker(self.folder, len(self._workers), *options)
        self._workers.append(worker)
        worker.wait_until_it_says(" works: ")
        return worker

    def close(self) -> None:
        """Leave no process behind."""
        for worker in self._workers:
            worker.popen.kill()
            worker.popen.wait()

    def submit(self, task: str, run_id: str = "r", queue: str = "default") -> None:
        """Create a run, as a program would that has the tasks."""
        given = encode_input(self.flow.engine.codec, RunInput((), {}, "", run_id))
        self.flow.engine.create(NewRun(run_id, task, given, queue=queue))

    def end_lease(self) -> None:
        """Let the lease of the run be over, however long it was to last."""
        with closing(DiskStorage(self.folder / "state", durability=Durability.PROCESS)) as storage:
            storage.open()

            def change(book: Book) -> None:
                run = book.run("r")
                assert run is not None
                Changes(book).lease_until(run, book.now_ms)

            storage.ledger.change((), system_now_ms(), change)

    def log(self) -> list[str]:
        """The steps that have begun."""
        file = self.folder / "log"
        return file.read_text().splitlines() if file.exists() else []

    def go(self, *names: str) -> None:
        """Let steps end."""
        for name in names:
            (self.folder / f"go {name}").touch()

    def status(self, run_id: str = "r") -> RunStatus:
        """How a run stands."""
        return self.flow.handle(run_id).status()

    def outcomes(self, run_id: str = "r") -> list[str]:
        """The operations that are settled, in the order of the journal."""
        entries = [decode(self.flow.engine.codec, raw) for raw in self.flow.engine.load(run_id).entries]
        return [entry.name for entry in entries if entry.kind == "step" and entry.phase == Phase.DONE]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Nothing has happened yet."""
    scene = Scene(tmp_path)
    with scene.flow:
        yield scene
        scene.close()


@pytest.mark.parametrize(("signum", "task"), [(signal.SIGTERM, "worked"), (signal.SIGINT, "worked-async")])
def test_it_hands_back_after_the_step_in_flight(scene: Scene, signum: int, task: str) -> None:
    """X5: told to stop it lets the step end, records it, gives the run back, and exits with 0; another goes on."""
    alive = scene.folder / "alive"
    worker = scene.worker("--liveness", str(alive))
    scene.submit(task)
    worker.wait_until(lambda: scene.log() == ["one"])
    assert alive.exists()
    worker.signal(signum)
    worker.wait_until_it_says("stopping after the steps in flight of 1 runs")
    scene.submit("harmless", "late")
    scene.go("one", "two")

    assert worker.code() == 0
    assert "run r of " in worker.said()
    assert "was handed back" in worker.said()
    assert not alive.exists()
    header = scene.flow.engine.load("r").header
    assert (header.status, header.worker, header.crashes) == (RunStatus.PENDING, None, 0)
    assert scene.status("late") is RunStatus.PENDING
    scene.worker()
    assert scene.flow.handle("r").result(timeout=PATIENCE_S) == 3
    assert scene.log() == ["one", "two"]


def test_a_second_signal_stops_it_at_once(scene: Scene) -> None:
    """The step in flight is given up, and runs again elsewhere at once, for on disk the dead are known."""
    worker = scene.worker()
    scene.submit("worked")
    worker.wait_until(lambda: scene.log() == ["one"])
    worker.signal(signal.SIGTERM)
    worker.wait_until_it_says("stopping after")
    worker.signal(signal.SIGTERM)

    assert worker.code() == 128 + signal.SIGTERM
    scene.go("one", "two")
    scene.worker()
    assert scene.flow.handle("r").result(timeout=PATIENCE_S) == 3
    assert scene.log() == ["one", "one", "two"]


def test_a_step_that_does_not_end_does_not_keep_the_process(scene: Scene) -> None:
    """After the grace it ends all the same, with the code of its signal, and says what it leaves."""
    worker = scene.worker("--grace", "10ms")
    scene.submit("worked-async")
    worker.wait_until(lambda: scene.log() == ["one"])
    worker.signal(signal.SIGTERM)

    assert worker.code() == 128 + signal.SIGTERM
    assert "1 runs are still in a step" in worker.said()


def test_a_killed_worker_is_replaced_at_once(scene: Scene) -> None:
    """X1: whatever it was doing, another one goes on, here long before its lease has ended."""
    worker, other = scene.worker("--lease", "1h"), scene.worker("--lease", "1h", "--concurrency", "1")
    scene.submit("worked")
    scene.submit("worked", "r2")
    worker.wait_until(lambda: scene.log() == ["one", "one"])
    owner = scene.flow.engine.load("r").header.worker
    assert owner is not None
    victim, heir = (worker, other) if owner in worker.said() else (other, worker)
    victim.signal(signal.SIGKILL)
    victim.code()
    scene.go("one", "two")

    heir.wait_until(lambda: scene.status("r").finished and scene.status("r2").finished)
    assert [scene.status("r"), scene.status("r2")] == [RunStatus.SUCCEEDED] * 2
    assert scene.log().count("two") == 2


def test_a_frozen_worker_is_fenced(scene: Scene) -> None:
    """D4, X1: SIGSTOP past the lease, another one takes over, SIGCONT: what the first still does is not recorded."""
    frozen = scene.worker("--lease", "1h")  # it is over when this test says so, not when the machine is slow
    scene.submit("worked")
    frozen.wait_until(lambda: scene.log() == ["one"])
    frozen.signal(signal.SIGSTOP)
    scene.end_lease()
    heir = scene.worker("--lease", "30s")
    heir.wait_until(lambda: scene.log() == ["one", "one"])
    scene.go("one")
    heir.wait_until(lambda: scene.log() == ["one", "one", "two"])
    frozen.signal(signal.SIGCONT)
    frozen.wait_until_it_says("run r of worked is advanced elsewhere")
    scene.go("two")

    assert scene.flow.handle("r").result(timeout=PATIENCE_S) == 3
    assert scene.outcomes() == ["one", "two"]
    assert scene.log() == ["one", "one", "two"]
    scene.submit("harmless", "next")
    assert scene.flow.handle("next").result(timeout=PATIENCE_S) == "done"


def test_a_busy_event_loop_keeps_its_lease(scene: Scene) -> None:
    """X1: a step that blocks the loop for longer than a lease loses nothing, though another worker looks for prey."""
    worker = scene.worker("--lease", "4s")  # long enough for a machine on which a thread has to wait for its turn
    scene.submit("busy-loop")
    worker.wait_until(lambda: scene.log() == ["one"])
    rival = scene.worker()
    renewals: set[int | None] = set()
    seen = threading.Event()

    def renewed() -> bool:
        seen.wait(0.05)
        renewals.add(due_ms(scene))
        return len(renewals) > 3  # three in each lease

    rival.wait_until(renewed)
    scene.go("one", "two")

    assert scene.flow.handle("r").result(timeout=PATIENCE_S) == 3
    header = scene.flow.engine.load("r").header
    assert header.crashes == 0
    assert scene.log() == ["one", "two"]


def due_ms(scene: Scene) -> int | None:
    """When the lease of the run ends, as whoever would like to have it is told."""
    engine = scene.flow.engine
    return engine.storage.claim(engine.grant(), Exactly("r"), 0).next_due_ms


def test_queues_and_failures(scene: Scene) -> None:
    """X4: a worker serves the queues that it is given, and says how runs have ended."""
    worker = scene.worker("--queues", "slow, other")
    scene.submit("slow-lane", "slow", queue="slow")
    scene.submit("harmless", "default")
    scene.submit("unlucky", "bad", queue="other")

    assert scene.flow.handle("slow").result(timeout=PATIENCE_S) == "slow"
    worker.wait_until_it_says("run bad of unlucky failed: ValueError: no luck")
    worker.wait_until_it_says("run slow of slow-lane succeeded")
    assert scene.status("default") is RunStatus.PENDING
    worker.signal(signal.SIGTERM)
    assert worker.code() == 0
    assert "Traceback" not in worker.said()


def test_an_ignored_signal_stays_ignored(scene: Scene) -> None:
    """Under nohup and in the background of a shell, Ctrl-C is not for the worker."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        worker = scene.worker()
    finally:
        signal.signal(signal.SIGINT, before)
    worker.signal(signal.SIGINT)
    scene.submit("harmless")
    assert scene.flow.handle("r").result(timeout=PATIENCE_S) == "done"
    worker.signal(signal.SIGTERM)
    assert worker.code() == 0


@pytest.mark.usefixtures("imports")
@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["nothing.here"], "nothing.here"),
        (["{folder}/empty.py"], "defines and imports no task"),
        (["{folder}/mytasks.py:worked"], "takes all tasks of a module"),
        (["{folder}/mytasks.py", "--queues", " , "], "no list of queues"),
        (["{folder}/mytasks.py", "--lease", "soon"], "soon"),
        (["{folder}/mytasks.py", "--concurrency", "0"], "concurrency"),
    ],
)
def test_mistakes_are_told(
    flowkit: Call, tmp_path: Path, words: list[str], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, and a message that names what is wrong."""
    if "empty" in words[0]:
        monkeypatch.setattr(worker_command, "tasks", Registry())
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "mytasks.py").write_text("from flowkit import task\n@task\ndef worked(): ...\n")
    ended = flowkit("worker", *(word.format(folder=tmp_path) for word in words))
    assert ended.code == 2
    assert part in ended.err
