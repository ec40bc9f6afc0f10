"""Items: what a run tells whoever follows it, in order, each once."""

import threading
from datetime import UTC, datetime

import pytest

import flowkit
from flowkit import (
    ConfigurationError,
    Flow,
    Item,
    ItemType,
    Retry,
    RunNotFound,
    SerializationError,
    emit,
    step,
    task,
    wait_for_work,
    work,
)
from tests.rules.colours import Body, Colour
from tests.rules.conftest import Crash, FakeClock, Store, Wire, at_once, crash_once, eventually


def told(items: list[Item], *, status: bool = False) -> list[tuple[str, object]]:
    """Names and data, without the changes of status unless wanted."""
    return [(item.name, item.data) for item in items if status or item.type is not ItemType.STATUS]


class TestOrder:
    """Stored in order, read from a cursor."""

    def test_items_of_a_run(self, flow: Flow, colour: Colour) -> None:
        """Items come in the order in which they were emitted, with their data as it was given, and growing numbers."""

        @colour.step
        def work_hard() -> None:
            emit("in step", (1, {2}))

        @colour.task
        def body() -> Body[None]:
            emit("begun")
            yield work_hard()
            emit("done", datetime(2026, 1, 1, tzinfo=UTC))

        flow.run(body.options(run_id="r"))
        items = list(flow.handle("r").items())

        assert told(items) == [("begun", None), ("in step", (1, {2})), ("done", datetime(2026, 1, 1, tzinfo=UTC))]
        assert [item.type for item in items] == ["status", "emit", "emit", "emit", "status"]
        assert [item.name for item in items if item.type == "status"] == ["running", "succeeded"]
        assert [item.seq for item in items] == sorted({item.seq for item in items})
        assert all(item.at.tzinfo is UTC for item in items)

    def test_every_item_is_a_cursor(self, flow: Flow, colour: Colour) -> None:
        """Whoever reads on after any item sees exactly what came after it."""

        @colour.task(attempts=1)
        def body() -> Body[None]:
            emit("one")
            yield colour.sleep(0.001)
            emit("two")
            raise ValueError("end")

        flow.start(body.options(run_id="r"))
        with pytest.raises(ValueError, match="end"):
            flow.run(body.options(run_id="r"))
        items = list(flow.handle("r").items())

        for position, item in enumerate(items):
            assert list(flow.handle("r").items(after=item.seq)) == items[position + 1 :]

    def test_status_changes(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """A run that waits, goes on and is undone says so, in order; a failure says what it was."""

        @colour.step
        def book() -> str:
            return "b"

        @book.compensate
        def unbook() -> None:
            pass

        @colour.task(attempts=1)
        def body() -> Body[None]:
            yield book()
            yield colour.sleep("1h")
            raise ValueError("full")

        flow = store.flow(clock=clock)
        with pytest.raises(ValueError, match="full"):
            flow.run(body.options(run_id="r"))
        items = list(flow.handle("r").items())

        assert [item.name for item in items] == ["running", "waiting", "running", "compensating", "failed"]
        assert items[-1].data == {"error": "ValueError: full"}

    def test_a_retried_run_goes_on_in_the_same_order(self, flow: Flow, colour: Colour) -> None:
        """After `flow.retry` the run is told to be running again, and its end follows."""
        broken = [True]

        @colour.step(attempts=1)
        def fragile() -> None:
            if broken:
                raise OSError("broken")

        @colour.task
        def body() -> Body[None]:
            emit("before")
            yield fragile()
            emit("after")

        with pytest.raises(OSError, match="broken"):
            flow.run(body.options(run_id="r"))
        broken.clear()
        flow.retry("r")
        flow.run(body.options(run_id="r"))

        names = [item.name for item in flow.handle("r").items()]
        assert names == ["running", "before", "failed", "running", "after", "succeeded"]

    def test_many_items(self, flow: Flow) -> None:
        """More items than are read at a time come all, in order."""

        @task
        def body() -> None:
            for number in range(1200):
                emit("n", number)

        flow.run(body.options(run_id="r"))

        assert [item.data for item in flow.handle("r").items() if item.type == "emit"] == list(range(1200))


class TestOnce:
    """A replay does not emit again."""

    def test_a_body_that_runs_again_emits_once(self, store: Store, colour: Colour) -> None:
        """After a crash, and after a try of the body that failed, what was emitted is not emitted again."""
        crashes: list[BaseException] = [Crash(), ValueError("again")]

        @colour.step
        def effect() -> None:
            pass

        @colour.task(retry=at_once())
        def body() -> Body[None]:
            emit("begun")
            yield effect()
            emit("half")
            if crashes:
                raise crashes.pop(0)
            emit("done")

        crash_once(store, body)
        flow = store.flow()
        flow.run(body.options(run_id="r"))

        assert told(list(flow.handle("r").items())) == [("begun", None), ("half", None), ("done", None)]

    def test_in_a_step(self, store: Store, colour: Colour) -> None:
        """An attempt that a crash cut short goes on after what it emitted; another attempt emits anew."""
        errors: list[BaseException] = [Crash(), OSError("flaky")]

        @colour.step(retry=at_once())
        def effect() -> None:
            attempt = flowkit.current_run().attempt
            emit("one", attempt)
            if errors:
                raise errors.pop(0)
            emit("two", attempt)

        @colour.task
        def body() -> Body[None]:
            yield effect()

        crash_once(store, body)
        flow = store.flow()
        flow.run(body.options(run_id="r"))

        assert told(list(flow.handle("r").items())) == [("one", 1), ("one", 2), ("two", 2)]

    def test_a_body_that_is_unwound_emits_nothing(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """What a `finally` emits while the run goes to wait is not stored until it is really left."""

        @colour.task
        def body() -> Body[None]:
            try:
                yield colour.sleep("1h")
                emit("woke")
            finally:
                emit("left")

        flow = store.flow(clock=clock)
        flow.run(body.options(run_id="r"))

        assert told(list(flow.handle("r").items())) == [("woke", None), ("left", None)]

    def test_a_rollback_by_replay_emits_nothing(self, store: Store, colour: Colour) -> None:
        """G3: a body that is replayed for its undos emits nothing; its undos may."""
        crashes = [Crash()]

        @colour.step
        def book() -> str:
            return "b"

        @book.compensate
        def unbook() -> None:
            emit("undo")
            if crashes:
                raise crashes.pop()

        @colour.task(attempts=1)
        def body() -> Body[None]:
            yield book()
            if not crashes:
                emit("replayed")
            raise ValueError("no")

        crash_once(store, body)
        flow = store.flow()
        with pytest.raises(ValueError, match="no"):
            flow.run(body.options(run_id="r"))

        assert told(list(flow.handle("r").items())) == [("undo", None)]

    def test_emitted_before_the_step_after_it(self, wire: Wire, store: Store, colour: Colour) -> None:
        """What was emitted is stored by the time that the next step is, so that no crash can come between them."""

        @colour.step
        def effect() -> None:
            pass

        @colour.task
        def body() -> Body[None]:
            emit("first")
            yield effect()
            raise Crash

        flow = store.flow(wire.storage)
        with pytest.raises(Crash):
            flow.run(body.options(run_id="r"))
        snapshot = wire.inner.load("r")

        assert snapshot is not None
        assert [b'"first"' in entry for entry in snapshot.entries] == [True, False]

    def test_an_item_that_cannot_be_stored_stops_the_run(self, disk: Store) -> None:
        """When the storage has failed for an item, nothing that follows it is stored without it."""
        wire = Wire(disk.storage())

        def fail(name: str, args: tuple[object, ...]) -> None:
            if name == "commit" and any(b'"lost"' in entry for entry in args[0][0].entries):  # type: ignore[index]
                raise flowkit.StorageError("full")

        wire.before = fail

        @step
        def effect() -> None:
            pass

        @task
        def body() -> None:
            emit("lost")
            for _ in range(200):
                effect()

        flow = disk.flow(wire.storage)
        with pytest.raises(flowkit.FlowkitError):
            flow.run(body.options(run_id="r"))
        snapshot = wire.inner.load("r")

        assert snapshot is not None
        assert snapshot.entries == ()


class TestSideWork:
    """W2: failures become items."""

    def test_failed_work_is_one_item(self, store: Store, colour: Colour) -> None:
        """W2: a failed piece of work becomes one `step_error` item with its name and its error, also after a crash."""
        crashes = [Crash()]

        @colour.step(attempts=1)
        def log_usage(number: int) -> None:
            raise ValueError("no log", number)

        @colour.task
        def body() -> Body[None]:
            work(log_usage, 1)
            if colour.awaits:
                yield flowkit.aio.wait_for_work()
            else:
                wait_for_work()
            yield colour.sleep(0.001)
            if crashes:
                raise crashes.pop()

        crash_once(store, body)
        flow = store.flow()
        flow.run(body.options(run_id="r"))
        [item] = [item for item in flow.handle("r").items() if item.type == "step_error"]

        assert item.name == "log_usage"
        assert item.data == {"work": "log_usage", "error": "ValueError: ('no log', 1)"}


class TestMistakes:
    """Errors name the place and the remedy."""

    def test_outside_of_a_run(self) -> None:
        """Outside of a run `emit` does nothing."""
        emit("nobody", "hears")

    def test_what_cannot_be_stored(self, flow: Flow, colour: Colour) -> None:
        """Data that cannot be stored is refused where it is emitted; the error names the item."""

        @colour.task
        def body() -> Body[None]:
            yield from ()
            emit("bad", threading.Lock())

        with pytest.raises(SerializationError, match="item 'bad'"):
            flow.run(body)

    @pytest.mark.parametrize("name", ["", 5])
    def test_names(self, name: str) -> None:
        """A name is a text that is not empty."""
        with pytest.raises(ConfigurationError, match="name"):
            emit(name)

    @pytest.mark.parametrize("after", [-1, "5"])
    def test_cursors(self, flow: Flow, after: int) -> None:
        """A cursor is a number that an item had, or 0."""
        with pytest.raises(ConfigurationError, match="after"):
            list(flow.handle("r").items(after=after))

    def test_no_such_run(self, flow: Flow) -> None:
        """Following a run that is not there is an error, not a wait."""
        with pytest.raises(RunNotFound):
            list(flow.handle("r").items(follow=True))


def test_retries_of_a_step_wait_as_before(flow: Flow, clock: FakeClock) -> None:
    """R2: an item stored in the middle of a step changes nothing about its attempts."""
    del clock
    attempts: list[int] = []

    @step(retry=Retry(attempts=3, delay=0, jitter=0))
    def effect() -> None:
        attempts.append(flowkit.current_run().attempt)
        emit("try")
        raise OSError("no")

    @task
    def body() -> None:
        effect()

    with pytest.raises(OSError, match="no"):
        flow.run(body.options(run_id="r"))
    eventually(lambda: flow.handle("r").status().finished)

    assert attempts == [1, 2, 3]
    assert [item.name for item in flow.handle("r").items() if item.type == "emit"] == ["try"] * 3
