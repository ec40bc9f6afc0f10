"""What api.md says of handles."""

import asyncio
import threading
from concurrent.futures import Executor
from datetime import timedelta
from typing import Any

import pytest

from flowkit import (
    Flow,
    ResultTimeout,
    RunHandle,
    RunNotFound,
    RunResult,
    RunStatus,
)
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, Store


class TestHandles:
    """What `trigger` and `start` give."""

    def test_a_handle_knows_its_run(self, store: Store, colour: Colour) -> None:
        """api.md: a handle has an id, a status that is a text, and the result."""

        @colour.task
        def body(number: int) -> Body[int]:
            yield from ()
            return number

        client = store.flow()
        handle = client.start(body, 5)
        assert isinstance(handle, RunHandle)
        assert handle.status() == "pending"
        assert client.handle(handle.id).status() is RunStatus.PENDING
        with Flow(store.storage()):
            assert handle.result(timeout="1m") == 5
            assert handle.result() == 5
            result = handle.wait_for_completion(timeout=timedelta(minutes=1))
        assert isinstance(result, RunResult)
        assert (result.ok, result.output, result.error, result.status, result.run_id, result.unwrap()) == (
            True,
            5,
            None,
            RunStatus.SUCCEEDED,
            handle.id,
            5,
        )

    def test_result_raises_what_the_run_raised(self, store: Store, colour: Colour) -> None:
        """api.md: `result` raises the run's error; `wait_for_completion` tells of it and does not."""

        @colour.task(attempts=1)
        def body() -> Body[None]:
            yield from ()
            raise ValueError("no", 5)

        with Flow(store.storage()) as flow:
            handle = flow.start(body)
            with pytest.raises(ValueError, match="no"):
                handle.result(timeout=PATIENCE_S)
            result = handle.wait_for_completion()
            assert (result.ok, result.output, result.status) == (False, None, RunStatus.FAILED)
            assert isinstance(result.error, ValueError)
            assert result.error.args == ("no", 5)
            with pytest.raises(ValueError, match="no"):
                result.unwrap()

    @pytest.mark.parametrize("timeout", [0, 0.01, "1ms", timedelta(milliseconds=1)], ids=str)
    def test_a_result_that_does_not_come_in_time(self, flow: Flow, colour: Colour, timeout: Any) -> None:  # noqa: ANN401  # whatever is passed
        """api.md: `ResultTimeout`, a `TimeoutError`, when the run is not finished in time; the run goes on."""

        @colour.task
        def body() -> Body[str]:
            yield from ()
            return "done"

        handle = flow.start(body.options(run_id="r"))
        for wait in (handle.result, handle.wait_for_completion):
            with pytest.raises(ResultTimeout) as caught:
                wait(timeout=timeout)
            assert isinstance(caught.value, TimeoutError)
        assert flow.run(body.options(run_id="r")) == "done"
        assert handle.result(timeout=0) == "done"

    def test_an_unknown_run(self, flow: Flow) -> None:
        """api.md: a handle of a run that nobody knows says so when it is asked."""
        handle = flow.handle("nobody")
        for ask in (handle.status, handle.result, handle.wait_for_completion, handle.cancel):
            with pytest.raises(RunNotFound, match="nobody"):
                ask()

    def test_awaitable_handles(self, store: Store, colour: Colour) -> None:
        """api.md: a handle's `.aio` is the same thing, awaitable."""

        @colour.task(attempts=1)
        def body(number: int) -> Body[int]:
            yield from ()
            if number < 0:
                raise ValueError("no")
            return number

        async def main(flow: Flow) -> None:
            handle = await body.aio.trigger(5)
            assert await handle.aio.result(timeout=PATIENCE_S) == 5
            assert await handle.aio.status() is RunStatus.SUCCEEDED
            assert (await handle.aio.wait_for_completion()).unwrap() == 5
            assert await handle.aio.cancel() is False
            failed = await flow.aio.start(body, -1)
            with pytest.raises(ValueError, match="no"):
                await failed.aio.result(timeout=PATIENCE_S)
            pending = await flow.aio.start(body.options(delay="1d"), 1)
            with pytest.raises(ResultTimeout):
                await pending.aio.result(timeout=0.01)
            assert await flow.aio.cancel(pending.id) is True

        with Flow(store.storage()) as flow:
            asyncio.run(main(flow))

    def test_waiters_do_not_hold_each_other_up(self, store: Store, colour: Colour, aside: Executor) -> None:
        """api.md: several callers may wait for one run, in threads and coroutines, and all get its result."""
        go_on = threading.Event()

        @colour.step
        def effect() -> str:
            go_on.wait(PATIENCE_S)
            return "done"

        @colour.task
        def body() -> Body[str]:
            return str((yield effect()))

        with Flow(store.storage()) as flow:
            handle = flow.start(body)
            waiting = [aside.submit(handle.result, PATIENCE_S) for _ in range(3)]

            async def main() -> list[str]:
                calls = [asyncio.create_task(handle.aio.result(PATIENCE_S)) for _ in range(3)]
                await asyncio.sleep(0)
                go_on.set()
                return list(await asyncio.gather(*calls))

            assert asyncio.run(main()) == ["done"] * 3
            assert [each.result(PATIENCE_S) for each in waiting] == ["done"] * 3
