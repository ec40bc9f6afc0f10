"""X5: a worker that a program runs by itself."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flowkit import ConfigurationError, Flow, RunStatus, step, task
from flowkit.memory import MemoryStorage
from flowkit.presence import KEY, Member, Presence, announce, workers
from flowkit.records import AnyOf, Claimed, Grant, Want
from flowkit.worker import Worker
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, FakeClock, Store, eventually, is_closing


class SlowToClaim(MemoryStorage):
    """A storage that answers a claim only when it may."""

    def __init__(self, wait: Callable[[], object]) -> None:
        super().__init__()
        self._wait = wait

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Claim, after a while."""
        self._wait()
        return super().claim(grant, want, limit, now_ms=now_ms)


class TestWorker:
    """X5."""

    def test_a_worker_of_ones_own(self, store: Store, colour: Colour) -> None:
        """X5: `flow.worker(...).run()` works on this thread until it is stopped."""

        @colour.task
        def body() -> Body[str]:
            yield from ()
            return "done"

        flow = store.flow()
        handle = flow.start(body)
        worker = flow.worker(queues=("default",), concurrency=2)

        def stop() -> None:
            handle.result(timeout=PATIENCE_S)
            worker.stop()

        stopper = threading.Thread(target=stop)
        stopper.start()
        worker.run()
        stopper.join(PATIENCE_S)

        assert handle.result(timeout=0) == "done"

    def test_a_claim_under_way_when_it_stops(self, colour: Colour) -> None:
        """X5: what a claim brings in while the worker stops is handed back too, and nobody waits for the grace."""
        asked, may_answer = threading.Event(), threading.Event()

        def wait() -> None:
            asked.set()
            may_answer.wait(PATIENCE_S)

        begun: list[int] = []

        @colour.task
        def body() -> Body[None]:
            begun.append(1)
            yield from ()

        with Flow(SlowToClaim(wait), worker=False) as flow:
            handle = flow.start(body)
            worker = flow.worker()
            worker.start()
            asked.wait(PATIENCE_S)
            stopping = threading.Thread(target=worker.stop, args=(1e6,))
            stopping.start()
            told = flow.engine._leases._told  # noqa: SLF001  # there is no other sign of it
            eventually(lambda: worker in told)
            may_answer.set()
            stopping.join(PATIENCE_S)
            assert not stopping.is_alive()
            assert handle.status() is RunStatus.PENDING
            assert flow.engine.load(handle.id).header.length == 0
            assert not begun

    def test_what_it_says_of_a_signal_is_so(self, memory: Store, colour: Colour, aside: Executor) -> None:
        """X5: whoever reads that it stops after the steps in flight may rely on it that no further step begins."""
        begun, said, go_on = threading.Event(), threading.Event(), threading.Event()
        closing: list[bool] = []

        class Reader(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if "stopping after the steps in flight of 1 runs" in record.getMessage():
                    closing.append(is_closing(flow.engine, "r"))
                    said.set()

        @colour.step
        def hold() -> None:
            begun.set()
            assert go_on.wait(PATIENCE_S)

        @colour.task
        def body() -> Body[None]:
            yield hold()

        def signal_in_a_step() -> None:
            assert begun.wait(PATIENCE_S)
            os.kill(os.getpid(), signal.SIGTERM)
            said.wait(PATIENCE_S)
            go_on.set()

        flow = memory.flow()
        flow.start(body.options(run_id="r"))
        log, reader = logging.getLogger("flowkit.worker"), Reader()
        before = log.level
        log.addHandler(reader)
        log.setLevel(logging.INFO)
        try:
            signalling = aside.submit(signal_in_a_step)
            assert flow.worker().run()
        finally:
            log.removeHandler(reader)
            log.setLevel(before)
        signalling.result(PATIENCE_S)
        assert closing == [True]

    def test_one_of_two_workers_of_a_flow_stops_alone(
        self, store: Store, colour: Colour, caplog: pytest.LogCaptureFixture
    ) -> None:
        """X5: what another worker, or the caller, advances beside it goes on."""
        go_on, inside = threading.Event(), threading.Semaphore(0)

        @colour.step
        def hold(name: str) -> str:
            inside.release()
            go_on.wait(PATIENCE_S)
            return name

        @colour.task(queue="one")
        def body(name: str) -> Body[str]:
            a: str = yield hold(name)
            b: str = yield hold(name)
            return a + b

        caplog.set_level(logging.INFO, "flowkit")
        flow = store.flow()
        one, other = flow.worker(["one"]), flow.worker(["other"])
        one.start()
        other.start()
        stopped, kept = flow.start(body, "s"), flow.start(body.options(queue="other"), "k")
        for _ in range(2):
            assert inside.acquire(timeout=PATIENCE_S)
        stopper = threading.Thread(target=one.stop)
        stopper.start()
        eventually(lambda: is_closing(flow.engine, stopped.id))
        go_on.set()
        stopper.join(PATIENCE_S)

        assert kept.result(timeout=PATIENCE_S) == "kk"
        assert stopped.status() is RunStatus.PENDING
        handed_back = [record.getMessage() for record in caplog.records if "handed back" in record.getMessage()]
        assert set(handed_back) == {f"run {stopped.id} of {body.id} was handed back"}  # twice if a claim was under way
        assert inside.acquire(timeout=PATIENCE_S)  # the kept one's second step, and no other
        assert not inside.acquire(blocking=False)
        other.stop()

    @pytest.mark.parametrize("queues", ["default", [], [""], [3]])
    def test_what_is_no_queue(self, memory: Store, queues: Any) -> None:  # noqa: ANN401  # whatever is passed
        """A worker, and a flow, say what they were given instead."""
        with pytest.raises(ConfigurationError, match=r"worker\(queues=\.\.\.\).*no list of queues"):
            memory.flow().worker(queues)
        with pytest.raises(ConfigurationError, match=r"Flow\(queues=\.\.\.\).*no list of queues"):
            Flow("memory:", queues=queues)
        with pytest.raises(ConfigurationError, match="1 or more"):
            memory.flow().worker(concurrency=0)


class Mute(MemoryStorage):
    """A storage that gives no hints, and counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.claims = 0
        self._closed = threading.Event()

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Claim, and count it."""
        self.claims += isinstance(want, AnyOf)
        return super().claim(grant, want, limit, now_ms=now_ms)

    def wait_for_work(self, want: AnyOf, timeout_s: float) -> None:
        """Say nothing."""
        del want, timeout_s
        self._closed.wait()

    def close(self) -> None:
        """Let the listener go."""
        self._closed.set()
        super().close()


@contextmanager
def working(flow: Flow, concurrency: int, queue: str = "default") -> Iterator[Worker]:
    """A worker for a while."""
    worker = flow.worker((queue,), concurrency)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()


class TestLooks:
    """X1: when a worker looks for runs. Nobody tells it of any here, and its own idle looks are too far apart."""

    @pytest.fixture(autouse=True)
    def _seldom(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Only events make it look."""
        monkeypatch.setattr("flowkit.worker.IDLE_LOOK_S", 10 * PATIENCE_S)

    def test_a_place_that_becomes_free_is_filled(self, colour: Colour) -> None:
        """X1: when all places were taken, the end of a run makes the worker look for what came meanwhile."""
        may_end = threading.Event()

        @colour.step
        def hold(number: int) -> int:
            may_end.wait(PATIENCE_S)
            return number

        @colour.task
        def body(number: int) -> Body[int]:
            return (yield hold(number))  # type: ignore[no-any-return]  # of either colour

        storage = Mute()
        with Flow(storage, worker=False) as flow:
            handles = [flow.start(body, number) for number in range(7)]
            with working(flow, 1):
                eventually(lambda: storage.claims > 0)
                threading.Event().wait(0.02)  # it has looked again, in vain
                may_end.set()
                assert [handle.result(timeout=PATIENCE_S) for handle in handles] == list(range(7))

    def test_a_place_that_is_lent_is_filled(self, colour: Colour) -> None:
        """E1: a run that waits for its child gives its place to it, and the child's end brings it back."""

        @colour.task
        def child(number: int) -> Body[int]:
            yield from ()
            return number

        @colour.task
        def parent() -> Body[int]:
            result = yield colour.form(child).trigger_and_wait(7)
            return int(result.unwrap())

        with Flow(Mute(), worker=False) as flow:
            handle = flow.start(parent)
            with working(flow, 1):
                assert handle.result(timeout=PATIENCE_S) == 7

    def test_whoever_lends_its_place_is_not_deaf(self, memory: Store) -> None:
        """I5: while a step waits for another run, its worker is told of what comes for the place that is lent."""

        @task
        def far() -> int:
            return 1

        @step
        def waits() -> int:
            return awaited.result(timeout=PATIENCE_S)

        @task
        def lends() -> int:
            return waits()

        @task
        def comes(number: int) -> int:
            return number

        with memory.flow(worker=False) as flow, working(flow, 1) as worker:
            awaited = flow.start(far.options(queue="far"))
            lender = flow.start(lends)
            eventually(lambda: worker._lent > 0)  # noqa: SLF001  # nobody outside is told of it
            for number in range(3):
                assert flow.start(comes, number).result(timeout=PATIENCE_S) == number
            with working(flow, 1, "far"):
                assert lender.result(timeout=PATIENCE_S) == 1

    def test_where_places_are_free_an_end_is_no_reason_to_look(self, colour: Colour) -> None:
        """X1: whoever found less than it had room for is told of what comes later: a look for each run is enough."""
        runs = 20

        @colour.task
        def body() -> Body[None]:
            yield from ()

        storage = Mute()
        with Flow(storage, worker=False) as flow, working(flow, runs + 1) as worker:  # ends may be slow to count
            eventually(lambda: storage.claims > 0)
            for _ in range(runs):
                handle = flow.start(body)
                worker.poke()
                handle.result(timeout=PATIENCE_S)
                threading.Event().wait(0.005)  # a look that is one too many comes now
            assert storage.claims <= runs + 1


class TestPresence:
    """X4: who serves what is known, as far as workers say so; nothing depends on it."""

    def test_a_worker_says_that_it_is_there_and_that_it_has_gone(self, store: Store, clock: FakeClock) -> None:
        """Not at once, for short programs need not; then once in a lease; those that have gone silent are forgotten."""
        flow = store.flow(clock=clock)
        storage = flow.engine.storage
        presence = Presence(flow.engine, ("mail",), 3, None)
        presence.announce()
        assert workers(storage, clock.ms) == {}
        clock.advance(seconds=1)
        presence.announce()
        member = workers(storage, clock.ms)[flow.engine.worker_id]
        assert (member.queues, member.concurrency) == (("mail",), 3)
        revision = (storage.get(KEY) or (b"", 0))[1]
        clock.advance(seconds=29)
        presence.announce()
        assert (storage.get(KEY) or (b"", 0))[1] == revision
        clock.advance(seconds=1)
        presence.announce()
        assert (storage.get(KEY) or (b"", 0))[1] == revision + 1

        assert announce(storage, "silent", Member((), (), 1, clock.ms + 1), clock.ms)
        assert len(workers(storage, clock.ms)) == 2
        clock.advance(seconds=1)
        assert list(workers(storage, clock.ms)) == [flow.engine.worker_id]
        presence.end()
        assert workers(storage, clock.ms) == {}

    def test_a_liveness_file_is_touched_while_the_storage_answers(
        self, memory: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A storage that has been silent for a lease shows as a file that grows old."""
        seconds = [1000.0]
        monkeypatch.setattr("flowkit.presence.time.monotonic", lambda: seconds[0])
        file = tmp_path / "alive"
        presence = Presence(memory.flow().engine, ("default",), 1, file)

        presence.beat()
        assert not file.exists()  # it has not answered yet
        presence.looked()
        assert file.exists()
        os.utime(file, (1, 1))
        seconds[0] += 29
        presence.beat()
        assert file.stat().st_mtime > 1
        os.utime(file, (1, 1))
        seconds[0] += 2
        presence.beat()
        assert file.stat().st_mtime == 1
        presence.end()
        assert not file.exists()

    def test_a_file_that_cannot_be_touched_stops_nothing(
        self, memory: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is said, and the worker works."""
        presence = Presence(memory.flow().engine, ("default",), 1, tmp_path / "missing" / "alive")
        presence.looked()
        presence.end()
        assert "the liveness file cannot be touched" in caplog.text

    def test_a_worker_beats_while_it_works(self, store: Store, tmp_path: Path) -> None:
        """The file is there once a worker works, and gone when it has stopped; the heart beats without runs too."""
        file = tmp_path / "alive"
        flow = Flow(store.storage(), worker=False, lease="100ms").open()
        store.flows.append(flow)
        worker = flow.worker(liveness=file)
        worker.start()
        eventually(file.exists)
        os.utime(file, (1, 1))
        eventually(lambda: file.stat().st_mtime > 1)
        assert worker.stop()
        assert not file.exists()
