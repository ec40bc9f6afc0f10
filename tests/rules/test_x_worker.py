"""X5: a worker that a program runs by itself."""

import threading
from collections.abc import Callable

from flowkit import Flow, RunStatus
from flowkit.memory import MemoryStorage
from flowkit.records import Claimed, Grant, Want
from tests.rules.conftest import PATIENCE_S, Body, Colour, Store


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

        @colour.task
        def body() -> Body[None]:
            yield colour.sleep("1h")

        with Flow(SlowToClaim(wait), worker=False) as flow:
            handle = flow.start(body)
            worker = flow.worker()
            worker.start()
            asked.wait(PATIENCE_S)
            stopping = threading.Thread(target=worker.stop, args=(1e6,))
            stopping.start()
            stopping.join(0.2)  # it waits for the claim; that it has come so far is likely, and no more is needed
            may_answer.set()
            stopping.join(PATIENCE_S)
            assert not stopping.is_alive()
            assert handle.status() in {RunStatus.PENDING, RunStatus.WAITING}
