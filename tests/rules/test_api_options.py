"""What api.md says of options, run ids and `current_run`."""

import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import pytest

import flowkit
from flowkit import Flow, FlowkitError, Retry, RunConflict, RunStatus, current_run, step, task
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, Crash, FakeClock, Store, crash_once
from tests.rules.effects import noting


class TestOptions:
    """`x.options(...)`."""

    def test_they_make_another_one(self, flow: Flow, colour: Colour) -> None:
        """api.md: `options` returns the same task with other options and leaves the original as it is."""

        @colour.task(tags=["a"])
        def body(number: int) -> Body[int]:
            yield from ()
            return number

        tagged = body.options(tags=["vip", "b"], run_id="r")
        assert type(tagged) is type(body)
        assert tagged.id == body.id
        flow.run(tagged, 1)
        flow.run(body, 2)

        assert [header.run_id for header in flow.runs(tag="vip").runs] == ["r"]
        assert len(flow.runs(tag="a").runs) in (1, 2)  # whether tags add up is not said
        assert len(flow.runs().runs) == 2

    def test_unknown_options_are_refused(self, colour: Colour) -> None:
        """api.md: an option that does not exist is an error where it is written."""

        @colour.step
        def effect() -> None: ...

        @colour.task
        def body() -> Body[None]:
            yield from ()

        for each in (effect, body):
            options: Any = each.options
            with pytest.raises(TypeError):
                options(colour="red")

    def test_a_delay_postpones_the_start(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """api.md: a run that was triggered with a delay does not begin before it is over."""
        began: list[int] = []

        @colour.task
        def body() -> Body[None]:
            yield from ()
            began.append(clock.ms)

        start = clock.ms
        with Flow(store.storage(), clock=clock) as flow:
            handle = flow.start(body.options(delay="1h"))
            flow.start(body).result(timeout=PATIENCE_S)
            assert handle.status() is RunStatus.PENDING
        clock.advance(hours=1)
        with Flow(store.storage(), clock=clock) as flow:
            flow.handle(handle.id).result(timeout=PATIENCE_S)

        assert began == [start, start + 3_600_000]

    def test_higher_priority_goes_first(self, store: Store, colour: Colour) -> None:
        """api.md: of the runs that wait, those of higher priority begin first, older ones before younger ones."""
        ran: list[int] = []

        @colour.task
        def body(number: int) -> Body[None]:
            yield from ()
            ran.append(number)

        client = store.flow()
        handles = [
            client.start(body.options(priority=priority), number) for number, priority in enumerate([0, 5, -1, 5, 0])
        ]
        with Flow(store.storage(), concurrency=1):
            for handle in handles:
                handle.result(timeout=PATIENCE_S)

        assert ran == [1, 3, 0, 4, 2]

    def test_a_run_expires(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """api.md: a run that has not begun when it expires never does."""
        ran: list[str] = []

        @colour.task
        def body(name: str) -> Body[None]:
            yield from ()
            ran.append(name)

        client = store.flow(clock=clock)
        late = client.start(body.options(expires="1d"), "late")
        in_time = client.start(body.options(expires="3d"), "in time")
        clock.advance(days=2)
        with Flow(store.storage(), clock=clock) as flow:
            flow.handle(in_time.id).result(timeout=PATIENCE_S)
            with pytest.raises(flowkit.RunCancelled):
                flow.handle(late.id).result(timeout=PATIENCE_S)

        assert ran == ["in time"]

    def test_they_add_up(self, flow: Flow, colour: Colour) -> None:
        """api.md: options given one after the other all hold."""

        @colour.task
        def body() -> Body[str]:
            yield from ()
            return current_run().id

        assert flow.run(body.options(tags=["x"]).options(run_id="r").options(priority=3)) == "r"
        (header,) = flow.runs(tag="x").runs
        assert (header.run_id, header.priority, header.tags) == ("r", 3, ("x",))


class TestRunIds:
    """A run id given twice."""

    def test_it_is_one_run(self, flow: Flow, colour: Colour) -> None:
        """api.md: the second caller gets the result, however it asks."""
        ran: list[int] = []

        @colour.task
        def body(number: int) -> Body[int]:
            yield from ()
            ran.append(number)
            return number + 1

        once = body.options(run_id="r")
        assert flow.run(once, 1) == 2
        assert flow.run(once, 1) == 2
        assert flow.run(once, number=1) == 2  # the same arguments, said otherwise
        assert flow.start(once, 1).result(timeout=PATIENCE_S) == 2
        assert ran == [1]
        assert len(flow.runs().runs) == 1

    def test_the_second_caller_gets_the_error(self, flow: Flow, colour: Colour) -> None:
        """api.md: the second caller gets the error, and the run is not tried again."""
        ran: list[str] = []

        @colour.task(attempts=1)
        def body() -> Body[None]:
            yield from ()
            ran.append("body")
            raise ValueError("no", 5)

        for _ in range(3):
            with pytest.raises(ValueError, match="no") as caught:
                flow.run(body.options(run_id="r"))
            assert caught.value.args == ("no", 5)
        assert ran == ["body"]

    def test_the_second_caller_joins(self, store: Store, colour: Colour, aside: Executor) -> None:
        """api.md: callers that come while it runs, from this process or another, wait for the same run."""
        ran: list[str] = []
        begun, go_on = threading.Event(), threading.Event()

        @colour.step
        def effect() -> str:
            ran.append("effect")
            begun.set()
            go_on.wait(PATIENCE_S)
            return "done"

        @colour.task
        def body() -> Body[str]:
            return str((yield effect()))

        once = body.options(run_id="r")
        flow, other = store.flow(), store.flow()
        callers = [aside.submit(flow.run, once)]
        assert begun.wait(PATIENCE_S)
        callers += [aside.submit(each.run, once) for each in (flow, other)]
        handle = other.start(once)
        assert handle.status() is RunStatus.RUNNING
        go_on.set()

        assert [each.result(PATIENCE_S) for each in callers] == ["done"] * 3
        assert handle.result(timeout=PATIENCE_S) == "done"
        assert ran == ["effect"]

    def test_it_resumes_after_a_crash(self, store: Store, colour: Colour) -> None:
        """api.md: the second caller resumes a run whose process died."""
        ran: list[str] = []
        crashes = [Crash()]
        effect = noting(colour, ran)

        @colour.task
        def body() -> Body[str]:
            a: str = yield effect("a")
            if crashes:
                raise crashes.pop()
            b: str = yield effect("b")
            return a + b

        crash_once(store, body)

        assert store.flow().run(body.options(run_id="r")) == "ab"
        assert ran == ["a", "b"]

    def test_other_arguments_are_a_conflict(self, store: Store, colour: Colour) -> None:
        """api.md: other arguments, or another task, under the same id raise `RunConflict`, and change nothing."""

        @colour.task
        def body(number: int, *, more: int = 0) -> Body[int]:
            yield from ()
            return number + more

        @colour.task
        def other(number: int) -> Body[int]:
            yield from ()
            return number

        flow = store.flow()
        assert flow.run(body.options(run_id="r"), 1) == 1
        before = store.header("r")
        conflicts: list[Callable[[], object]] = [
            lambda: flow.run(body.options(run_id="r"), 2),
            lambda: flow.run(body.options(run_id="r"), 1, more=1),
            lambda: flow.run(other.options(run_id="r"), 1),
            lambda: flow.start(body.options(run_id="r"), 2),
            lambda: flow.start(other.options(run_id="r"), 1),
        ]
        for conflict in conflicts:
            with pytest.raises(RunConflict, match="r"):
                conflict()

        assert flow.run(body.options(run_id="r"), 1, more=0) == 1  # a default spelled out is no other argument
        assert store.header("r") == before

    @pytest.mark.parametrize("run_id", ["with spaces and ünïcode", "a/b", "../etc/passwd", "x" * 200, "0", "a:b#c%00"])
    def test_any_text_is_an_id(self, flow: Flow, colour: Colour, run_id: str) -> None:
        """api.md: a run id is the user's own text, whatever it is."""

        @colour.task
        def body() -> Body[str]:
            yield from ()
            return current_run().id

        assert flow.run(body.options(run_id=run_id)) == run_id
        assert flow.handle(run_id).result() == run_id
        assert [header.run_id for header in flow.runs().runs] == [run_id]

    def test_an_id_that_is_no_text_is_refused(self, colour: Colour) -> None:
        """api.md: an empty run id, or one that is no text, is refused where it is written."""

        @colour.task
        def body() -> Body[None]:
            yield from ()

        options: Any = body.options
        for run_id in ("", 5, b"r"):
            with pytest.raises(FlowkitError):
                options(run_id=run_id)


class TestCurrentRun:
    """`current_run()`."""

    def test_the_key_is_stable(self, store: Store, colour: Colour) -> None:
        """api.md: a step's key is the same across retries and machines, and another one for each call and run."""
        keys: dict[str, list[str]] = {"a": [], "b": []}
        crashes = [Crash()]

        @colour.step(retry=Retry(attempts=3, delay=0))
        def effect(name: str) -> None:
            keys[name].append(current_run().idempotency_key)
            if len(keys[name]) == 1:
                raise OSError("once")
            if len(keys[name]) == 2 and name == "b" and crashes:
                raise crashes.pop()

        @colour.task
        def body() -> Body[None]:
            yield effect("a")
            yield effect("b")

        crash_once(store, body)
        store.flow().run(body.options(run_id="r"))

        assert len(keys["b"]) == 3
        assert len(set(keys["a"])) == len(set(keys["b"])) == 1
        assert keys["a"][0] != keys["b"][0]
        store.flow().run(body.options(run_id="other"))
        assert len({keys["a"][0], keys["a"][-1], keys["b"][0], keys["b"][-1]}) == 4

    def test_it_is_known_on_threads(self, flow: Flow) -> None:
        """api.md: a sync step that runs on a thread for an async task knows its run."""

        @step
        def effect() -> str:
            return current_run().id

        @step(timeout=PATIENCE_S)
        def timed() -> str:
            return current_run().id

        @task
        async def body() -> list[str]:
            return [await effect.aio(), await timed.aio(), timed(), current_run().id]

        assert flow.run(body.options(run_id="r")) == ["r"] * 4

    def test_runs_side_by_side_do_not_mix(self, store: Store, colour: Colour) -> None:
        """api.md: each of many runs at a time knows itself."""

        @colour.step
        def effect() -> str:
            return current_run().id

        @colour.task
        def body() -> Body[tuple[str, str]]:
            inner: str = yield effect()
            return current_run().id, inner

        with Flow(store.storage(), concurrency=10) as flow:
            handles = [flow.start(body.options(run_id=f"r{number}")) for number in range(30)]
            for handle in handles:
                assert handle.result(timeout=PATIENCE_S) == (handle.id, handle.id)
