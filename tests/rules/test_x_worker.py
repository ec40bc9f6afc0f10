"""X5: a worker that a program runs by itself."""

import threading

from tests.rules.conftest import PATIENCE_S, Body, Colour, Store


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
