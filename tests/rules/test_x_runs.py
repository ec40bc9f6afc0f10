"""X1 and X4 to X6: no run is lost."""

import signal
import threading
from concurrent.futures import Executor
from typing import Any

import pytest

import flowkit
from flowkit import Flow, RunStatus, step, task
from flowkit.records import NewRun
from flowkit.storage import Storage
from flowkit.worker import Closing
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, FakeClock, Process, Store, Wire, crash_once, eventually, is_closing
from tests.rules.effects import dying, in_a_row, noting

# A program of two steps: it notes what runs, and dies where it is told to.
PROGRAM = """
import os, signal, sys
from pathlib import Path
import flowkit
from flowkit import Flow, step, task

url, notes, death = sys.argv[1], Path(sys.argv[2]), sys.argv[3]

def note(what):
    with notes.open("a") as file:
        print(what, file=file)
    if what == death:
        os.kill(os.getpid(), signal.SIGKILL)

@step
def first():
    note("first")
    return 1

@step
async def second(number):
    note("second")
    return number + 1

@task(id="rules-program")
async def program():
    number = await first.aio()
    note("between")
    number = await second(number)
    note("after")
    return number

if __name__ == "__main__":
    if death == "triggered":
        with Flow(url, worker=False) as flow:
            program.options(run_id="r").trigger()
            note("triggered")
    with Flow(url, lease="1d") as flow:
        print(flow.run(program.options(run_id="r")))
"""


class TestNeverLost:
    """X1."""

    def test_what_was_triggered_is_there(self, store: Store, colour: Colour) -> None:
        """X1: a run that was triggered by a process that is gone is run by the next one that has its task."""

        @colour.task
        def body(number: int) -> Body[int]:
            yield from ()
            return number + 1

        client = store.flow()
        handle = client.start(body.options(run_id="r"), 1)
        assert handle.status() is RunStatus.PENDING
        client.close()

        with Flow(store.storage()) as flow:
            assert flow.handle("r").result(timeout=PATIENCE_S) == 2

    @pytest.mark.parametrize("death", ["triggered", "first", "between", "second", "after"])
    def test_a_killed_process_is_known_to_be_dead(self, disk: Store, process: Process, death: str) -> None:
        """X1: on disk the runs of a process that was killed are taken over at once, whatever their lease."""
        notes = process.folder / "notes"
        args = (disk.url, str(notes))

        killed = process.run(PROGRAM, *args, death)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        resumed = process.run(PROGRAM, *args, "never")

        assert resumed.stdout == "2\n", resumed.stderr
        ran = notes.read_text().split()
        again = {"first": "first", "second": "second"}.get(death)
        assert ran.count("first") == (2 if again == "first" else 1)
        assert ran.count("second") == (2 if again == "second" else 1)

    def test_a_silent_worker_is_replaced_after_its_lease(
        self, store: Store, wire: Wire, clock: FakeClock, colour: Colour, aside: Executor
    ) -> None:
        """X1: the run of a worker that has gone silent is left alone until its lease is over, then taken over."""
        begun, go_on = threading.Event(), threading.Event()
        ran: list[str] = []

        @colour.step
        def effect() -> str:
            ran.append("effect")
            if len(ran) == 1:
                begun.set()
                go_on.wait(PATIENCE_S)
            return "done"

        @colour.task
        def body() -> Body[str]:
            return str((yield effect()))

        def silence(name: str, args: tuple[Any, ...]) -> None:
            del args
            if name == "renew":
                raise ConnectionError("silence")

        wire.before = silence
        silent = store.flow(wire.storage, clock=clock)
        running = aside.submit(silent.run, body.options(run_id="r"))
        assert begun.wait(PATIENCE_S)
        other = store.flow(clock=clock)

        with pytest.raises(flowkit.ResultTimeout):
            other.start(body.options(run_id="r")).result(timeout=0)
        assert store.header("r").worker is not None
        clock.advance(seconds=31)
        assert other.run(body.options(run_id="r")) == "done"

        go_on.set()
        running.exception(PATIENCE_S)
        assert ran == ["effect", "effect"]

    def test_a_busy_event_loop_keeps_its_lease(self, wire: Wire) -> None:
        """X1: leases are renewed by a thread of its own while a step blocks the event loop."""
        renewed = threading.Semaphore(0)

        def count(name: str, args: tuple[Any, ...]) -> None:
            del args
            if name == "renew":
                renewed.release()

        wire.after = count

        @step
        async def blocking() -> bool:
            return all(renewed.acquire(timeout=PATIENCE_S) for _ in range(3))

        @task
        async def body() -> bool:
            return await blocking()

        flow = Flow(wire.storage, lease="200ms", worker=False)
        with flow:
            assert flow.run(body)


class TestUnknownTasks:
    """X4."""

    def strangers(self, storage: Storage, count: int, clock: FakeClock | None = None) -> None:
        """Put runs of a task into the queue that no process here has."""
        storage.open()
        runs = [NewRun(f"stranger-{number}", "somebody-elses", b"{}", priority=9) for number in range(count)]
        storage.submit(runs, now_ms=clock.ms if clock else None)
        storage.close()

    def test_they_wait_and_hold_nobody_up(self, store: Store, colour: Colour) -> None:
        """X4: runs of unknown tasks, though first in the queue, wait, are shown, and hold up no others."""
        self.strangers(store.storage(), 50)

        @colour.task
        def body() -> Body[str]:
            yield from ()
            return "done"

        with Flow(store.storage(), concurrency=1) as flow:
            assert flow.start(body).result(timeout=PATIENCE_S) == "done"
            assert flow.handle("stranger-0").status() is RunStatus.PENDING
            assert len(flow.runs(task="somebody-elses", status="pending").runs) == 50

    def test_a_worker_that_learns_a_task_takes_its_runs(self, store: Store, colour: Colour) -> None:
        """X4: a task that is defined after the worker began is served by it too."""

        @colour.task
        def known() -> Body[None]:
            yield from ()

        client = store.flow()

        with Flow(store.storage()) as flow:
            flow.start(known).result(timeout=PATIENCE_S)

            @colour.task
            def late() -> Body[str]:
                yield from ()
                return "done"

            assert client.start(late.options(run_id="r")).id == "r"
            assert flow.handle("r").result(timeout=PATIENCE_S) == "done"

    def test_queues_are_kept_apart(self, store: Store, colour: Colour) -> None:
        """X4: a worker serves the queues it was given, and no others."""
        ran: list[str] = []

        @colour.task(queue="slow")
        def slow() -> Body[None]:
            yield from ()
            ran.append("slow")

        @colour.task
        def plain() -> Body[None]:
            yield from ()
            ran.append("plain")

        with Flow(store.storage()) as flow:
            waiting = flow.start(slow)
            flow.start(plain).result(timeout=PATIENCE_S)
            assert waiting.status() is RunStatus.PENDING
            worker = flow.worker(queues=["slow"], concurrency=1)
            worker.start()
            waiting.result(timeout=PATIENCE_S)
            worker.stop()

        assert ran == ["plain", "slow"]


class TestClosing:
    """X5."""

    def test_closing_hands_runs_back_after_the_step_in_flight(
        self, store: Store, colour: Colour, aside: Executor
    ) -> None:
        """X5: a flow that closes lets the step in flight end and be recorded, then gives its run back at once."""
        ran: list[str] = []
        begun, go_on = threading.Event(), threading.Event()

        @colour.step
        def effect(name: str) -> str:
            ran.append(name)
            if name == "a" and not go_on.is_set():
                begun.set()
                go_on.wait(PATIENCE_S)
            return name

        body = in_a_row(colour, effect, "a", "b")

        flow = Flow(store.storage()).open()
        engine = flow.engine
        flow.start(body.options(run_id="r"))
        assert begun.wait(PATIENCE_S)
        closing = aside.submit(flow.close)
        eventually(lambda: is_closing(engine, "r"))
        assert not closing.done()
        go_on.set()
        closing.result(PATIENCE_S)

        header = store.header("r")
        assert (header.status, header.worker) == (RunStatus.PENDING, None)
        assert ran == ["a"]
        assert store.flow().run(body.options(run_id="r")) == "ab"
        assert ran == ["a", "b"]

    @pytest.mark.parametrize("worker", [True, False])
    def test_closing_lets_go_of_what_others_run(
        self, store: Store, colour: Colour, aside: Executor, *, worker: bool
    ) -> None:
        """X5: a `flow.run` on another thread ends with its step in flight, recorded; its run is free at once."""
        ran: list[str] = []
        begun, go_on = threading.Semaphore(0), {name: threading.Event() for name in "abw"}

        @colour.step
        def effect(name: str) -> str:
            ran.append(name)
            begun.release()
            go_on[name].wait(PATIENCE_S)
            return name

        body = in_a_row(colour, effect, "a", "b")

        @colour.task
        def held() -> Body[str]:
            return str((yield effect("w")))

        flow = Flow(store.storage(), worker=worker).open()
        engine = flow.engine
        if worker:
            flow.start(held)
            assert begun.acquire(timeout=PATIENCE_S)
        running = aside.submit(flow.run, body.options(run_id="r"))
        assert begun.acquire(timeout=PATIENCE_S)
        closing = aside.submit(flow.close)
        eventually(lambda: is_closing(engine, "r"))
        go_on["a"].set()
        assert isinstance(running.exception(PATIENCE_S), Closing)  # while the worker's step is in flight
        go_on["w"].set()
        closing.result(PATIENCE_S)
        go_on["b"].set()
        if worker:
            assert ran.pop(0) == "w"

        header = store.header("r")
        assert (header.status, header.worker, header.length) == (RunStatus.PENDING, None, 1)
        assert store.flow().run(body.options(run_id="r")) == "ab"
        assert ran == ["a", "b"]

    def test_opening_takes_up_what_is_unfinished(self, store: Store, colour: Colour) -> None:
        """X5: a flow that opens with its worker on goes on with unfinished runs of the tasks it has, unasked."""
        ran: list[str] = []
        effect = noting(colour, ran, dying("b"))
        body = in_a_row(colour, effect, "a", "b")

        crash_once(store, body)

        with Flow(store.storage(), worker=False) as flow:
            assert flow.handle("r").status() is RunStatus.PENDING
        assert ran == ["a", "b"]
        with Flow(store.storage()) as flow:
            assert flow.handle("r").result(timeout=PATIENCE_S) == "ab"
        assert ran == ["a", "b", "b"]

    def test_a_waiting_run_is_left_waiting(self, store: Store, colour: Colour) -> None:
        """X5: closing leaves runs that wait as they are, and does not wait for them."""

        @colour.task
        def body() -> Body[None]:
            yield colour.sleep("1d")

        with Flow(store.storage()) as flow:
            handle = flow.start(body.options(run_id="r"))
            eventually(lambda: handle.status() is RunStatus.WAITING)

        assert store.header("r").status is RunStatus.WAITING


class TestStatuses:
    """X6."""

    def test_there_are_eight(self) -> None:
        """X6: the statuses are texts, and these."""
        assert [str(status) for status in RunStatus] == [
            "pending",
            "running",
            "waiting",
            "compensating",
            "blocked",
            "succeeded",
            "failed",
            "cancelled",
        ]

    def test_a_run_goes_through_them(self, store: Store, colour: Colour, aside: Executor) -> None:
        """X6: a run is pending, then running, then waiting, then running, then succeeded."""
        seen: list[RunStatus] = []
        begun, go_on = threading.Event(), threading.Event()

        @colour.step
        def effect() -> None:
            begun.set()
            go_on.wait(PATIENCE_S)

        @colour.task
        def body() -> Body[None]:
            yield effect()
            yield colour.sleep(1.5)

        clock = FakeClock()
        with Flow(store.storage(), clock=clock, worker=False) as client:
            handle = client.start(body.options(run_id="r"))
            seen.append(handle.status())
            with Flow(store.storage(), clock=clock):
                assert begun.wait(PATIENCE_S)
                seen.append(handle.status())
                go_on.set()
                eventually(lambda: handle.status() is RunStatus.WAITING)
            seen.append(handle.status())
            aside.submit(client.run, body.options(run_id="r")).result(PATIENCE_S)
            seen.append(handle.status())

        assert seen == ["pending", "running", "waiting", "succeeded"]
