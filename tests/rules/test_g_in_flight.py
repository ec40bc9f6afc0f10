"""G1, G6: what is in flight when a scope is left, or its call is cancelled, settles first and is undone too."""

import asyncio
import contextlib
import threading
from typing import Any

import attrs
import pytest

from flowkit import Flow, saga, step, task, work
from flowkit.entries import Kind, decode
from flowkit.records import Capabilities
from flowkit.storage import Storage
from flowkit_testing import Harness
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, Crash, Store, Wire, at_once


class SlowWire(Wire):
    """A storage that makes others wait, and holds back the first commit of a step until it is let go."""

    def __init__(self, inner: Storage, name: bytes) -> None:
        super().__init__(inner)
        self.held, self.go = threading.Event(), threading.Event()

        def before(call: str, args: tuple[Any, ...]) -> None:
            if call == "commit" and any(name in entry for commit in args[0] for entry in commit.entries):
                self.held.set()
                assert self.go.wait(PATIENCE_S)

        self.before = before

    def open(self) -> Capabilities:
        """As what it stands for, but never instant."""
        return attrs.evolve(self.inner.open(), instant=False)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # a storage's method, whichever it is
        if name == "commit_at_once":  # every commit goes by way of the thread
            raise AttributeError(name)
        return super().__getattr__(name)


def recorded(flow: Flow) -> list[tuple[str, str]]:
    """Kind and name of what the journal holds of steps and undos."""
    entries = [decode(flow.engine.codec, raw) for raw in flow.engine.load("r").entries]
    return [(entry.kind, entry.name) for entry in entries if entry.kind in {Kind.STEP, Kind.UNDO}]


class TestACancelledCall:
    """asyncio cancels a call; what it has set off goes on."""

    @pytest.mark.parametrize("dies", [False, True])
    @pytest.mark.parametrize("fails", [False, True])
    def test_while_its_commit_is_in_flight(self, store: Store, *, fails: bool, dies: bool) -> None:
        """G6: the result is neither lost nor doubled: it is recorded once, undone if the task fails, kept if not."""
        wire, ran, undone, crashes = SlowWire(store.storage(), b'"book"'), list[str](), list[str](), [Crash()] * dies

        @step
        async def book(name: str) -> str:
            ran.append(name)
            return name

        @book.compensate
        async def cancel(name: str) -> None:
            undone.append(name)

        @step
        async def after() -> str:
            wire.go.set()
            return "after"

        @task(attempts=1)
        async def trip() -> str:
            call = asyncio.ensure_future(book("flight"))
            if not wire.go.is_set():  # the first time
                await asyncio.to_thread(wire.held.wait, PATIENCE_S)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            told = await after()
            if crashes:
                raise crashes.pop()
            if fails:
                raise ValueError("no")
            return told

        flow = store.flow(wire.storage)
        if dies:
            with pytest.raises(Crash):
                flow.run(trip.options(run_id="r"))
            assert sorted(recorded(flow)) == [("step", "after"), ("step", "book")]
            flow.close()
            flow = store.flow()
        with pytest.raises(ValueError, match="no") if fails else contextlib.nullcontext():
            assert flow.run(trip.options(run_id="r")) == "after"

        assert ran == ["flight"]
        assert undone == ["flight"] * fails

    def test_while_its_thread_runs(self, flow: Flow) -> None:
        """G6: a thread cannot be cancelled: the call is, at once; what it completes is recorded as late and undone."""
        begun, cancelled, undone = threading.Event(), threading.Event(), list[str]()

        @step
        def book(name: str) -> str:
            begun.set()
            assert cancelled.wait(PATIENCE_S)
            return name

        @book.compensate
        def cancel(name: str) -> None:
            undone.append(name)

        @task(attempts=1)
        async def trip() -> None:
            call = asyncio.ensure_future(book.aio("flight"))
            await asyncio.to_thread(begun.wait, PATIENCE_S)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            cancelled.set()
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            flow.run(trip.options(run_id="r"))

        assert recorded(flow) == [("step", "book"), ("undo", "book")]
        assert undone == ["flight"]

    @pytest.mark.parametrize("raises", [True, False])
    def test_whose_thread_fails(self, flow: Flow, *, raises: bool) -> None:
        """G6: a late failure, or result that cannot be stored, is not recorded, nor tried again, and fails nothing."""
        begun, cancelled = threading.Event(), threading.Event()

        @step(retry=at_once(3))
        def book() -> object:
            begun.set()
            assert cancelled.wait(PATIENCE_S)
            if raises:
                raise OSError("late")
            return object()

        @task(attempts=1)
        async def trip() -> str:
            call = asyncio.ensure_future(book.aio())
            await asyncio.to_thread(begun.wait, PATIENCE_S)
            call.cancel()
            cancelled.set()
            return "done"

        assert flow.run(trip.options(run_id="r")) == "done"
        assert recorded(flow) == []

    def test_in_a_scope_that_is_left(self, flow: Flow) -> None:
        """G1, G6: a scope that fails waits for its late completion; one that succeeds hands it on to the task."""
        go, undone, seen = threading.Event(), list[str](), list[list[str]]()

        @step
        def book(name: str) -> str:
            assert go.wait(PATIENCE_S)
            return name

        @book.compensate
        def cancel(name: str) -> None:
            undone.append(name)

        async def begin(name: str) -> None:
            call = asyncio.ensure_future(book.aio(name))
            await asyncio.sleep(0)
            call.cancel()

        @task(attempts=1)
        async def trip() -> None:
            async with saga("outer"), saga("handed on"):
                await begin("handed on")
            with contextlib.suppress(OSError):
                async with saga("failed"):
                    await begin("failed")
                    go.set()
                    raise OSError("failed")
            seen.append([*undone])
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            flow.run(trip)

        assert seen == [["failed"]]
        assert undone == ["failed", "handed on"]

    def test_in_a_rollback(self, flow: Flow) -> None:
        """G1: a rollback that has begun goes to its end, whatever asyncio cancels meanwhile; then that is heard."""
        undone: list[str] = []
        roots: list[asyncio.Task[Any]] = []

        @step
        async def book(name: str) -> str:
            return name

        @book.compensate
        async def cancel(name: str) -> None:
            roots[0].cancel()
            await asyncio.sleep(0)
            undone.append(name)

        @task(attempts=1)
        async def trip() -> str:
            root = asyncio.current_task()
            assert root is not None
            roots.append(root)
            try:
                async with saga("trip"):
                    await book("flight")
                    await book("hotel")
                    raise ValueError("no")
            except asyncio.CancelledError:
                return ", ".join(undone)
            return "no"

        assert flow.run(trip) == "hotel, flight"
        assert undone == ["hotel", "flight"]


class TestSideWorkInAScope:
    """A `saga` scope and the work that was queued in it."""

    @pytest.mark.parametrize("nested", [False, True])
    def test_it_settles_first(self, store: Store, colour: Colour, *, nested: bool) -> None:
        """G1: work that was queued in a scope, or in one inside it, is completed and undone before that has failed."""
        failing, undone, seen = threading.Event(), list[str](), list[list[str]]()

        @step
        def book(name: str) -> str:
            assert failing.wait(PATIENCE_S)
            return name

        @book.compensate
        def cancel(name: str) -> None:
            undone.append(name)

        def fail() -> None:
            work(fail_later)
            raise OSError("no")

        def fail_later() -> None:
            failing.set()

        def sync_body() -> None:
            with contextlib.suppress(OSError), saga("outer"):
                with saga("inner") if nested else contextlib.nullcontext():
                    work(book, "beside")
                fail()
            seen.append([*undone])

        async def async_body() -> None:
            with contextlib.suppress(OSError):
                async with saga("outer"):
                    async with saga("inner") if nested else contextlib.nullcontext():
                        work(book, "beside")
                    fail()
            seen.append([*undone])

        _ = store.flow().run(task(attempts=1)(async_body if colour.awaits else sync_body))

        assert seen == [["beside"]]
        assert undone == ["beside"]

    def test_it_waits_for_long(self, harness: Harness, colour: Colour) -> None:
        """G1, E1: while work of a scope waits, so does its rollback; no crash changes that."""

        @colour.task(id=f"g-nap-{colour.awaits}")
        def nap(name: str) -> Body[str]:
            yield colour.sleep("1d")
            return name

        @nap.compensate
        def wake(_name: str) -> None: ...

        def sync_body() -> None:
            with saga("trip"):
                work(nap, "beside")
                raise OSError("no")

        async def async_body() -> None:
            async with saga("trip"):
                work(nap, "beside")
                raise OSError("no")

        trip = task(id=f"g-long-{colour.awaits}", attempts=1)(async_body if colour.awaits else sync_body)
        began_ms = harness.clock.now_ms()
        run = harness.run(trip)

        assert isinstance(run.error, OSError)
        assert run.compensated == [nap.id]
        assert harness.clock.now_ms() - began_ms == 86_400_000
        harness.explore(trip).assert_safe()
