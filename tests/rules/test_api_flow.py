"""What api.md says of `Flow`: where tasks find it, and what it does with runs."""

import asyncio
import contextvars
import threading
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest

import flowkit
from flowkit import (
    ConfigurationError,
    Flow,
    RunBlocked,
    RunHandle,
    RunNotFound,
    RunStatus,
    current_run,
    step,
    task,
)
from flowkit.codec import JsonCodec
from flowkit.codec_base import Json
from flowkit.memory import MemoryStorage
from tests.rules.conftest import PATIENCE_S, Body, Colour, Crash, FakeClock, Process, Store, eventually


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without any configuration."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("FLOWKIT_STORAGE", raising=False)
    return folder


@task(id="rules-where-am-i")
def where() -> str:
    """A task that tells its run."""
    return current_run().id


class TestConfiguration:
    """Where a `Flow` keeps its runs."""

    def test_the_argument_goes_first(self, empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """api.md: the storage is the argument, whatever the environment says."""
        monkeypatch.setenv("FLOWKIT_STORAGE", "disk:from-environment")
        with Flow("disk:from-argument") as flow:
            flow.run(where)

        assert [each.name for each in empty.iterdir()] == ["from-argument"]

    def test_the_environment_goes_second(self, empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """api.md: without an argument it is FLOWKIT_STORAGE, whatever pyproject.toml says."""
        (empty / "pyproject.toml").write_text('[tool.flowkit]\nstorage = "disk:from-pyproject"\n')
        monkeypatch.setenv("FLOWKIT_STORAGE", "disk:from-environment")
        with Flow() as flow:
            flow.run(where)

        assert sorted(each.name for each in empty.iterdir()) == ["from-environment", "pyproject.toml"]

    def test_pyproject_goes_third(self, empty: Path) -> None:
        """api.md: without either it is `[tool.flowkit] storage` in pyproject.toml."""
        (empty / "pyproject.toml").write_text('[tool.flowkit]\nstorage = "disk:from-pyproject"\n')
        with Flow() as flow:
            flow.run(where)

        assert (empty / "from-pyproject").is_dir()

    def test_the_default_is_on_disk(self, empty: Path) -> None:
        """api.md: without any configuration it is `disk:.flowkit`, and another process finds the runs there."""
        with Flow() as flow:
            flow.run(where.options(run_id="r"))
        assert (empty / ".flowkit").is_dir()

        with Flow("disk:./.flowkit") as flow:
            assert flow.handle("r").result() == "r"

    @pytest.mark.parametrize(
        "url",
        ["", "nonsense", "nonsense:x", "postgres://localhost/db", "disk:", "disk:x?durability=perhaps", "memory:a/b"],
    )
    def test_a_wrong_url_is_refused(self, empty: Path, url: str) -> None:
        """api.md: a URL that names no storage is one clear error, which shows it, and nothing is made."""
        with pytest.raises(ConfigurationError) as caught, Flow(url):
            pass

        assert repr(url) in str(caught.value) or url in str(caught.value)
        assert list(empty.iterdir()) == []

    @pytest.mark.parametrize(
        "options",
        [{"lease": 0}, {"lease": "soon"}, {"retention": -1}, {"concurrency": 0}, {"concurrency": "many"}],
        ids=str,
    )
    def test_wrong_options_are_refused(self, options: dict[str, Any]) -> None:
        """api.md: an option that makes no sense is an error where it is given."""
        with pytest.raises(ConfigurationError):
            Flow("memory:", **options)

    def test_a_storage_object_may_be_given(self) -> None:
        """api.md: the storage may be an object of one's own."""
        storage = MemoryStorage()
        with Flow(storage) as flow:
            flow.run(where.options(run_id="r"))
        with Flow(storage) as flow:
            assert flow.handle("r").result() == "r"

    def test_making_one_does_nothing(self, empty: Path) -> None:
        """api.md: a `Flow` opens its storage when it is opened, and asks to be."""
        flow = Flow("disk:state")
        assert list(empty.iterdir()) == []
        with pytest.raises(ConfigurationError):
            flow.run(where)

    def test_a_codec_of_ones_own(self, store: Store, colour: Colour) -> None:
        """api.md: `codec=` replaces how values become bytes, so that they can be encrypted."""

        class Secret(JsonCodec):
            """What is stored cannot be read."""

            def dumps(self, document: Json) -> bytes:
                return bytes(255 - byte for byte in super().dumps(document))

            def loads(self, data: bytes) -> Json:
                return super().loads(bytes(255 - byte for byte in data))

        @colour.step
        def effect(word: str) -> str:
            return word * 2

        @colour.task
        def body(word: str) -> Body[str]:
            return str((yield effect(word)))

        with Flow(store.storage(), codec=Secret()) as flow:
            assert flow.run(body.options(run_id="r"), "swordfish") == "swordfishswordfish"
        storage = store.storage()
        storage.open()
        snapshot = storage.load("r")
        storage.close()

        assert snapshot is not None
        assert b"swordfish" not in b"".join([snapshot.input, snapshot.result or b"", *snapshot.entries])


class TestOpening:
    """Opening, closing and nesting."""

    def test_open_and_close(self, memory: Store) -> None:
        """api.md: `open()` and `close()` do what `with` does, and either may be repeated."""
        flow = Flow(memory.storage())
        assert flow.open() is flow
        assert flow.run(where.options(run_id="a")) == "a"
        flow.close()
        flow.close()
        with pytest.raises(ConfigurationError):
            flow.run(where)
        flow.open()
        assert flow.handle("a").result() == "a"
        flow.close()

    def test_it_is_re_entrant(self, memory: Store) -> None:
        """api.md: a flow may be entered again while it is open; it closes with the outermost `with`."""
        with Flow(memory.storage()) as flow:
            with flow as same:
                assert same is flow
                with flow:
                    pass
                assert flow.run(where.options(run_id="a")) == "a"
            assert flow.run(where.options(run_id="b")) == "b"
        with pytest.raises(ConfigurationError):
            flow.run(where)

    def test_it_closes_when_its_block_fails(self, memory: Store) -> None:
        """api.md: an error inside `with` closes the flow and passes through."""
        flow = Flow(memory.storage())
        with pytest.raises(KeyError), flow:
            raise KeyError("mine")
        with pytest.raises(ConfigurationError):
            flow.run(where)

    def test_async_with(self, memory: Store, colour: Colour) -> None:
        """api.md: `Flow` is both `with` and `async with`."""

        @colour.task
        def body() -> Body[str]:
            yield from ()
            return "done"

        async def main() -> str:
            async with Flow(memory.storage()) as flow, flow:
                return await flow.aio.run(body)

        assert asyncio.run(main()) == "done"

    def test_no_thread_is_left_behind(self, store: Store, colour: Colour) -> None:
        """api.md: a flow that was closed leaves no thread behind."""

        @colour.step
        def effect() -> None: ...

        @colour.task
        def body() -> Body[None]:
            yield effect()

        before = set(threading.enumerate())
        with Flow(store.storage()) as flow:
            flow.run(body)
            flow.start(body).result(timeout=PATIENCE_S)
        eventually(lambda: set(threading.enumerate()) <= before)


class TestFinding:
    """Which `Flow` a decorated task finds."""

    def test_this_contexts_flow(self, memory: Store, disk: Store) -> None:
        """api.md: the innermost flow that is open in this context is the one."""
        with Flow(memory.storage(), worker=False) as outer:
            with Flow(disk.storage(), worker=False) as inner:
                assert where.options(run_id="in")() == "in"
                where.options(run_id="triggered").trigger()
            where.options(run_id="out")()
            assert [header.run_id for header in outer.runs().runs] == ["out"]
        assert disk.header("in").status is RunStatus.SUCCEEDED
        assert disk.header("triggered").status is RunStatus.PENDING
        del inner

    def test_the_only_open_one(self, memory: Store, aside: Executor) -> None:
        """api.md: a thread that knows of no flow finds the only one that is open."""
        with Flow(memory.storage()):
            assert aside.submit(where.options(run_id="r")).result(PATIENCE_S) == "r"
            assert contextvars.Context().run(where.options(run_id="s")) == "s"
            assert asyncio.run(_on_a_thread(where.options(run_id="t"))) == "t"
        assert {memory.header(run_id).status for run_id in "rst"} == {RunStatus.SUCCEEDED}

    def test_several_open_and_none_in_this_context(self, memory: Store, disk: Store) -> None:
        """api.md: several flows open and none in this context is an error that says so."""
        with (
            Flow(memory.storage(), worker=False),
            Flow(disk.storage(), worker=False),
            pytest.raises(ConfigurationError, match=r"several|2|more than one"),
        ):
            contextvars.Context().run(where)
        assert memory.flow().runs().runs == ()

    def test_a_default_one_is_opened(self, empty: Path, process: Process) -> None:
        """api.md: without any open flow one is opened from the configuration, and the program ends as it should."""
        program = """
from flowkit import step, task

@step
def effect(word):
    return word.upper()

@task(id="rules-default")
def body(word):
    return effect(word)

print(body.options(run_id="r")("hello"))
print(body.options(run_id="s").trigger("you").result(timeout=60))
"""
        for _ in range(2):
            done = process.run(program)
            assert (done.returncode, done.stdout) == (0, "HELLO\nYOU\n"), done.stderr

        with Flow(f"disk:{empty / '.flowkit'}", worker=False) as flow:
            assert flow.handle("r").result() == "HELLO"

    def test_a_task_inside_a_task_uses_its_flow(self, memory: Store, disk: Store) -> None:
        """api.md: what a running task calls or triggers goes where the task runs."""

        @task
        def parent() -> list[str]:
            triggered: RunHandle[str] = where.trigger()
            return [where(), triggered.id]

        with Flow(memory.storage(), worker=False), Flow(disk.storage(), worker=False) as inner:
            other = Flow(memory.storage(), worker=False).open()
            ids = other.run(parent)
            other.close()
            assert inner.runs().runs == ()
        assert {memory.header(run_id).task for run_id in ids} == {where.id}


async def _on_a_thread(call: Any) -> Any:  # noqa: ANN401  # any function
    return await asyncio.to_thread(call)


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
        with pytest.raises((flowkit.FlowkitError, ValueError), match="finished-ish"):
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
            with pytest.raises(ConfigurationError, match=name):
                flow.fork("r", from_step=name)
        assert len(flow.runs().runs) == 1


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
