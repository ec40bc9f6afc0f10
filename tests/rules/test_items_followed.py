"""Items that are followed while their run goes on, from any process."""

import threading
from concurrent.futures import Executor

import pytest

import flowkit
from flowkit import Flow, emit, step, task
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, Process, Store, Wire, at_once


class TestFollowing:
    """Live, from any process."""

    def test_items_arrive_while_the_run_goes_on(self, store: Store, aside: Executor, colour: Colour) -> None:
        """A follower sees an item while the step that emitted it is still running, and ends when the run does."""
        seen, release = threading.Event(), threading.Event()

        @colour.step
        def effect() -> None:
            emit("half")
            assert release.wait(PATIENCE_S)

        @colour.task
        def body() -> Body[None]:
            yield effect()

        def follow() -> list[str]:
            names = []
            for item in store.flow().handle("r").items(follow=True):
                names.append(item.name)
                if item.name == "half":
                    seen.set()
            return names

        with Flow(store.storage()) as flow:
            flow.start(body.options(run_id="r"))
            following = aside.submit(follow)
            assert seen.wait(PATIENCE_S)
            release.set()
            assert following.result(PATIENCE_S) == ["running", "half", "succeeded"]

    async def test_following_in_async_code(self, store: Store) -> None:
        """`handle.aio.items` is an async iterator that does not block the loop."""

        @task
        async def body() -> None:
            for number in range(3):
                emit("n", number)
                await flowkit.aio.sleep(0.001)

        async with Flow(store.storage()) as flow:
            handle = await flow.aio.start(body)
            names = [item.data async for item in handle.aio.items(follow=True) if item.type == "emit"]

        assert names == [0, 1, 2]

    def test_from_another_process(self, disk: Store, process: Process) -> None:
        """A process that knows nothing of the task reads its items."""

        @task
        def body() -> None:
            emit("n", {"k": [1]})

        disk.flow().run(body.options(run_id="r"))
        told = process.run(
            "import sys\n"
            "from flowkit import Flow\n"
            "with Flow(sys.argv[1], worker=False) as flow:\n"
            "    print([(item.seq, item.name, item.data) for item in flow.handle('r').items()])\n",
            disk.url,
        )

        assert told.stdout == "[(1, 'running', None), (2, 'n', {'k': [1]}), (3, 'succeeded', None)]\n", told.stderr

    def test_a_follower_reads_what_is_new_only(self, wire: Wire, store: Store) -> None:
        """While it follows, it asks for entries after its cursor, never for all of them again."""

        @task
        def body() -> None:
            for number in range(50):
                emit("n", number)
                flowkit.sleep(0.001)

        with Flow(store.storage()) as flow:
            handle = flow.start(body.options(run_id="r"))
            following = store.flow(wire.storage).handle("r").items(follow=True)
            assert [item.data for item in following if item.type == "emit"] == list(range(50))
            assert handle.status().finished
        cursors = [args[1] for name, args in wire.calls if name == "load"]

        assert cursors == sorted(cursors)
        assert len({cursor for cursor in cursors if cursors.count(cursor) > 20}) <= 1  # once a second, if nothing comes

    def test_a_blocked_run_ends_the_following(self, flow: Flow) -> None:
        """A run that is blocked tells so, and nobody waits for it for ever."""
        names = ["one", "two"]

        @task(retry=at_once())
        def body() -> None:
            step.run(names.pop(), len, "")
            raise ValueError("again")

        with pytest.raises(flowkit.RunBlocked):
            flow.run(body.options(run_id="r"))

        assert [item.name for item in flow.handle("r").items(follow=True)][-1] == "blocked"
