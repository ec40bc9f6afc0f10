"""What api.md says of `Flow` and its runs: lists, forks, reopening, many at once."""

import threading
from concurrent.futures import Executor
from typing import Any

import pytest

import flowkit
from flowkit import (
    ConfigurationError,
    Flow,
    RunBlocked,
    RunNotFound,
    RunStatus,
    current_run,
    step,
    task,
)
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, Crash, FakeClock, Store


class TestRuns:
    """`flow.runs`."""

    @pytest.fixture
    def many(self, store: Store, clock: FakeClock) -> Flow:
        """Seven runs of two tasks, one of them failed, with tags."""

        @task(id="rules-good")
        def good() -> None: ...

        @task(id="rules-bad", attempts=1)
        def bad() -> None:
            raise OSError("no")

        flow = store.flow(clock=clock)
        for number in range(6):
            flow.run(good.options(run_id=f"good-{number}", tags=["even" if number % 2 == 0 else "odd", "all"]))
            clock.advance(seconds=1)
        with pytest.raises(OSError, match="no"):
            flow.run(bad.options(run_id="bad", tags=["all"]))
        return flow

    def test_newest_first(self, many: Flow) -> None:
        """api.md: runs are listed newest first, each with its id, task, status, tags and times."""
        runs = many.runs().runs
        assert [header.run_id for header in runs] == ["bad", *(f"good-{number}" for number in range(5, -1, -1))]
        last = runs[0]
        assert (last.task, last.status, last.tags) == ("rules-bad", RunStatus.FAILED, ("all",))
        assert last.created_at_ms <= (last.finished_at_ms or 0)

    def test_in_pages(self, many: Flow) -> None:
        """api.md: a page has at most `limit` runs, and its cursor leads to the next one, up to the last."""
        seen: list[str] = []
        cursor: str | None = None
        sizes: list[int] = []
        while True:
            page = many.runs(limit=3, cursor=cursor)
            seen += [header.run_id for header in page.runs]
            sizes.append(len(page.runs))
            cursor = page.cursor
            if cursor is None:
                break

        assert seen == ["bad", *(f"good-{number}" for number in range(5, -1, -1))]
        assert sizes[:2] == [3, 3]
        assert sum(sizes) == 7

    def test_narrowed(self, many: Flow) -> None:
        """api.md: `status`, `task` and `tag` narrow the list, alone and together."""

        def ids(**query: Any) -> list[str]:  # noqa: ANN401  # as `runs` takes them
            return [header.run_id for header in many.runs(**query).runs]

        assert ids(status="failed") == ids(status=RunStatus.FAILED) == ids(task="rules-bad") == ["bad"]
        assert ids(tag="even") == ["good-4", "good-2", "good-0"]
        assert ids(tag="all", status="succeeded", task="rules-good", limit=2) == ["good-5", "good-4"]
        assert ids(tag="nothing") == ids(status="blocked") == []

    def test_wrong_queries_are_refused(self, flow: Flow) -> None:
        """api.md: a status that does not exist, or a cursor from elsewhere, is an error that names it."""
        with pytest.raises(ConfigurationError, match=r"finished-ish.* pending, running, .*cancelled"):
            flow.runs(status="finished-ish")
        with pytest.raises(flowkit.FlowkitError):
            flow.runs(cursor="from elsewhere")

    def test_it_can_be_walked(self, many: Flow) -> None:
        """api.md: a page can be gone through and counted like the list it is."""
        page = many.runs(limit=3)
        assert [header.run_id for header in page] == [header.run_id for header in page.runs]
        assert len(page) == 3


class TestFork:
    """`flow.fork`."""

    def forked(self, colour: Colour, ran: list[str]) -> Any:  # noqa: ANN401  # a task
        """A task of three steps, the second of which is called twice."""

        @colour.step
        def effect(name: str) -> str:
            ran.append(name)
            return f"{name}{ran.count(name)}"

        @colour.task
        def body(first: str) -> Body[list[str]]:
            results: list[str] = []
            for step_name, name in (("one", first), ("two", "b"), ("two", "c"), ("three", "d")):
                results.append((yield effect.options(name=step_name)(name)))
            return results

        return body

    @pytest.mark.parametrize(
        ("from_step", "again"),
        [(None, "abcd"), ("one", "abcd"), ("two", "bcd"), ("two#1", "bcd"), ("two#2", "cd"), ("three", "d")],
    )
    def test_it_reuses_what_came_before(self, store: Store, colour: Colour, from_step: str | None, again: str) -> None:
        """api.md: a fork is a new run that reuses the results before that step; without one it starts afresh."""
        ran: list[str] = []
        flow = store.flow()
        body = self.forked(colour, ran)
        assert flow.run(body.options(run_id="r"), "a") == ["a1", "b1", "c1", "d1"]
        before = store.header("r")

        handle = flow.fork("r", from_step=from_step)
        assert handle.id != "r"
        assert handle.status() is RunStatus.PENDING
        with Flow(store.storage()):
            result = handle.result(timeout=PATIENCE_S)

        assert result == [f"{name}{2 if name in again else 1}" for name in "abcd"]
        assert "".join(ran) == "abcd" + again
        assert store.header("r") == before

    def test_a_fork_of_a_failed_run(self, store: Store, colour: Colour) -> None:
        """api.md: a failed run can be forked from the step that failed, and the first run stays failed."""
        ran: list[str] = []
        broken = [True]

        @colour.step(attempts=1)
        def good() -> str:
            ran.append("good")
            return "good"

        @colour.step(attempts=1)
        def bad() -> str:
            ran.append("bad")
            if broken:
                raise OSError("no")
            return "mended"

        @colour.task
        def body() -> Body[str]:
            first: str = yield good()
            second: str = yield bad()
            return first + second

        flow = store.flow()
        with pytest.raises(OSError, match="no"):
            flow.run(body.options(run_id="r"))
        broken.clear()
        handle = flow.fork("r", from_step="bad")
        with Flow(store.storage()):
            assert handle.result(timeout=PATIENCE_S) == "goodmended"
        assert ran == ["good", "bad", "bad"]
        assert flow.handle("r").status() is RunStatus.FAILED

    def test_two_forks_are_two_runs(self, store: Store, colour: Colour) -> None:
        """api.md: each fork is a run of its own, with an idempotency key of its own for each step."""
        keys: list[str] = []

        @colour.step
        def effect() -> str:
            keys.append(current_run().idempotency_key)
            return current_run().id

        @colour.task
        def body() -> Body[str]:
            return str((yield effect()))

        flow = store.flow()
        flow.run(body.options(run_id="r"))
        handles = [flow.fork("r"), flow.fork("r"), flow.fork("r", new_id="mine")]
        with Flow(store.storage()):
            assert [handle.result(timeout=PATIENCE_S) for handle in handles] == [handle.id for handle in handles]
        assert handles[2].id == "mine"
        assert len(set(keys)) == 4

    def test_what_cannot_be_forked(self, flow: Flow, colour: Colour) -> None:
        """api.md: an unknown run, or a step that was never called, is an error that names it."""
        body = self.forked(colour, [])
        flow.run(body.options(run_id="r"), "a")

        with pytest.raises(RunNotFound, match="nobody"):
            flow.fork("nobody")
        for name in ("four", "three#2", "two#3"):
            with pytest.raises(ConfigurationError, match=rf"{name}'; it recorded: one, three, two$"):
                flow.fork("r", from_step=name)
        assert len(flow.runs().runs) == 1

    def test_a_run_is_none_of_its_steps(self, flow: Flow, colour: Colour) -> None:
        """api.md: what is recorded of a run itself, such as its failure, is no step to fork from."""

        @colour.task(id="rules-failing", attempts=1)
        def body() -> Body[None]:
            yield from ()
            raise ValueError("no step")

        with pytest.raises(ValueError, match="no step"):
            flow.run(body.options(run_id="r"))
        with pytest.raises(ConfigurationError, match="it recorded: nothing"):
            flow.fork("r", from_step="rules-failing")


class TestRetryOfABlockedRun:
    """`flow.retry` of a blocked run."""

    def test_it_goes_on_as_it_stands(self, store: Store, colour: Colour) -> None:
        """api.md: `flow.retry` reopens a blocked run, and a worker with the mended code finishes it."""
        ran: list[str] = []

        def define(*names: str, crash: bool = False) -> Any:  # noqa: ANN401  # a task
            @colour.task(id="rules-mended")
            def body() -> Body[str]:
                for name in names:
                    yield colour.step(name=name)(lambda name=name: ran.append(name))()
                if crash:
                    raise Crash
                return "done"

            return body

        flow = store.flow()
        with pytest.raises(Crash):
            flow.run(define("a", "b", crash=True).options(run_id="r"))
        with pytest.raises(RunBlocked):
            flow.run(define("a", "x").options(run_id="r"))
        with pytest.raises(RunBlocked):  # it says so again, and does not run by itself
            flow.run(define("a", "b", "c").options(run_id="r"))
        assert flow.handle("r").status() is RunStatus.BLOCKED

        handle = flow.retry("r")
        with Flow(store.storage()):
            assert handle.result(timeout=PATIENCE_S) == "done"
        assert ran == ["a", "b", "c"]


class TestManyAtOnce:
    """Threads and runs side by side."""

    def test_many_threads_one_flow(self, store: Store, colour: Colour, aside: Executor) -> None:
        """api.md: any number of threads may run tasks in one flow."""

        @colour.step
        def effect(number: int) -> int:
            return number + 1

        @colour.task
        def body(number: int) -> Body[int]:
            first: int = yield effect(number)
            second: int = yield effect(first)
            return second

        flow = store.flow()
        running = [aside.submit(flow.run, body.options(run_id=f"r{number}"), number) for number in range(24)]

        assert [each.result(PATIENCE_S) for each in running] == [number + 2 for number in range(24)]

    def test_concurrency_is_the_limit(self, store: Store) -> None:
        """api.md: a worker advances as many runs at a time as its concurrency says, of both colours."""
        running = 0
        most = 0
        lock = threading.Lock()
        full = threading.Semaphore(0)
        go_on = threading.Event()

        @step
        def effect() -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            full.release()
            go_on.wait(PATIENCE_S)
            with lock:
                running -= 1

        @task
        def plain() -> None:
            effect()

        @task
        async def awaited() -> None:
            await effect.aio()

        with Flow(store.storage(), concurrency=4) as flow:
            handles = [flow.start(body) for _ in range(5) for body in (plain, awaited)]
            for _ in range(4):
                assert full.acquire(timeout=PATIENCE_S)
            go_on.set()
            for handle in handles:
                handle.result(timeout=PATIENCE_S)

        assert most == 4
