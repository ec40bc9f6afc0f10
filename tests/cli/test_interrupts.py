"""Ctrl-C and SIGTERM: the run is handed back after the step in flight, or at once, and says how to go on."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import define

from flowkit.cli.interrupts import Stop, stopping
from flowkit.flow import Flow
from flowkit.records import RunStatus

CODE = '''
import asyncio
import os
import time
from pathlib import Path

from flowkit import aio, sleep, step, task

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


@step
def two():
    wait_here("two")


@task(id="interrupted-sync")
def plain():
    one()
    two()
    return "done"


@step
async def aone():
    await asyncio.to_thread(wait_here, "one")


@step
async def atwo():
    await asyncio.to_thread(wait_here, "two")


@task(id="interrupted-async")
async def asynchronous():
    await aone()
    await atwo()
    return "done"


@task(id="interrupted-nap")
def nap():
    one()
    sleep("1h")


@task(id="interrupted-anap")
async def anap():
    await aone()
    await aio.sleep("1h")
'''


@define
class Process:
    """`flowkit run` in a process of its own."""

    folder: Path
    popen: subprocess.Popen[str]

    def read_until(self, words: str) -> str:
        """Read stderr up to a line with these words."""
        assert self.popen.stderr is not None
        told = ""
        for line in self.popen.stderr:
            told += line
            if words in line:
                return told
        raise AssertionError(f"never said {words!r}, but: {told}")

    def wait_for_step(self, name: str) -> None:
        """Until a step has begun."""
        while name not in self.log():
            assert self.popen.poll() is None, self.popen.communicate()
            threading.Event().wait(0.01)

    def log(self) -> list[str]:
        """The steps that have begun."""
        file = self.folder / "log"
        return file.read_text().splitlines() if file.exists() else []

    def let_go(self, name: str) -> None:
        """Let a step end."""
        (self.folder / f"go {name}").touch()

    def wait_until_it_waits(self) -> None:
        """Until the run has let go, and waits for a time."""
        with Flow(f"disk:{self.folder / 'runs'}", worker=False) as flow:
            while flow.handle("r").status() is not RunStatus.WAITING:
                assert self.popen.poll() is None, self.popen.communicate()
                threading.Event().wait(0.01)

    def end(self) -> tuple[int, str, str]:
        """Wait for its end: exit code, stdout, the rest of stderr."""
        out, err = self.popen.communicate()
        return self.popen.returncode, out, err


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start a process on code and a storage of this test's own."""
    (tmp_path / "slow.py").write_text(CODE)
    started: list[subprocess.Popen[str]] = []

    def begin(*words: str) -> Process:
        command = [sys.executable, "-c", "from flowkit.cli import main; main()", *words]
        popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        started.append(popen)
        return Process(tmp_path, popen)

    yield begin
    for popen in started:
        popen.kill()
        popen.communicate()


def run(task: str) -> tuple[str, ...]:
    """The words of a run."""
    return "run", f"slow.py:{task}", "--run-id", "r", "--storage", "disk:runs"


@pytest.mark.parametrize("task", ["plain", "asynchronous"])
def test_ctrl_c_hands_back_after_the_step_in_flight(start: Callable[..., Process], task: str) -> None:
    """The step in flight is completed, nothing new begins, and the command that is told resumes the run."""
    process = start(*run(task))
    process.wait_for_step("one")
    process.popen.send_signal(signal.SIGINT)
    process.read_until("Stopping after the step in flight")
    process.let_go("one")
    code, _, err = process.end()
    assert code == 130
    assert process.log() == ["one"]
    command = shlex.split(err.splitlines()[-1])
    assert command == ["flowkit", *run(task)]
    process.let_go("two")
    resumed = start(*command[1:])
    assert resumed.end()[:2] == (0, '"done"\n')
    assert resumed.log() == ["one", "two"]


def test_second_ctrl_c_stops_at_once(start: Callable[..., Process]) -> None:
    """Asked a second time the process ends where it stands; the step in flight runs again when it is resumed."""
    process = start(*run("plain"))
    process.wait_for_step("one")
    process.popen.send_signal(signal.SIGINT)
    process.read_until("Stopping after the step in flight")
    process.popen.send_signal(signal.SIGINT)
    code, _, err = process.end()
    assert code == 130
    assert "flowkit run slow.py:plain --run-id r" in err
    process.let_go("one")
    process.let_go("two")
    resumed = start(*run("plain"))
    assert resumed.end()[0] == 0
    assert resumed.log() == ["one", "one", "two"]


@pytest.mark.parametrize("task", ["nap", "anap"])
def test_waiting_run_stops_at_once_and_keeps_its_timer(start: Callable[..., Process], task: str) -> None:
    """A run that waits for a time has nothing in flight: SIGTERM ends the process, and the run goes on waiting."""
    process = start(*run(task))
    process.let_go("one")
    process.read_until("sleep waits")
    process.wait_until_it_waits()
    process.popen.send_signal(signal.SIGTERM)
    code, _, err = process.end()
    assert code == 143
    assert "Resume with" in err
    with Flow(f"disk:{process.folder / 'runs'}", worker=False) as flow:
        assert flow.handle("r").status() is RunStatus.WAITING


def test_interrupted_run_as_json(start: Callable[..., Process]) -> None:
    """With --json the document tells the status, the command to resume it, and the exit code."""
    process = start(*run("plain"), "--json")
    process.wait_for_step("one")
    process.popen.send_signal(signal.SIGTERM)
    process.read_until("Stopping after the step in flight")
    process.let_go("one")
    code, out, _ = process.end()
    assert code == 143
    assert '"resume": "flowkit run slow.py:plain --run-id r --storage disk:runs"' in out
    assert '"exit_code": 143' in out


# ---- the parts ------------------------------------------------------------------------------------------------------


@define
class Engine:
    """Advances nothing."""

    active: int = 1
    asked: int = 0

    def let_go(self, why: BaseException) -> None:
        """Count."""
        del why
        self.asked += 1


def test_what_is_said_of_a_signal_is_so() -> None:
    """Whoever reads that the run stops after the step in flight may rely on it that no further step begins."""
    engine = Engine()
    asked: list[int] = []

    def tell(words: str) -> None:
        del words
        asked.append(engine.asked)
        stop.over()

    stop = Stop(engine, tell, lambda: None)
    stop.on_signal(signal.SIGTERM, None)
    stop.watch()
    assert asked == [1]


def test_second_signal_says_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the process is ended at once, the person is told how to go on."""
    told: list[str] = []
    ended = threading.Event()

    def end(code: int) -> None:
        told.append(f"exit {code}")
        ended.set()
        stop.over()

    monkeypatch.setattr(os, "_exit", end)
    stop = Stop(Engine(), told.append, lambda: told.append("last words"))
    stop.on_signal(signal.SIGTERM, None)
    stop.on_signal(signal.SIGTERM, None)
    stop.watch()
    assert ended.is_set()
    assert told[1:] == ["last words", "exit 143"]


def test_handlers_are_put_back() -> None:
    """After the run, signals do what they did before; a signal that was ignored stays ignored."""
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        interrupt = signal.getsignal(signal.SIGINT)
        with stopping(Stop(Engine(), lambda _: None, lambda: None)):
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGINT) is not interrupt
        assert signal.getsignal(signal.SIGINT) is interrupt
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_hear_no_signals() -> None:
    """In a thread that is not the main one there are no handlers to set, and the run runs all the same."""
    seen: list[object] = []
    before = signal.getsignal(signal.SIGINT)

    def body() -> None:
        with stopping(Stop(Engine(), lambda _: None, lambda: None)):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [before]
