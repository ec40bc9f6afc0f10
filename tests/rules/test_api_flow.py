"""What api.md says of `Flow`: its configuration, its life, and how tasks find it."""

import asyncio
import contextvars
import threading
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest

from flowkit import (
    ConfigurationError,
    Flow,
    RunHandle,
    RunStatus,
    current_run,
    task,
)
from flowkit.codec import JsonCodec
from flowkit.codec.base import Json
from flowkit.memory import MemoryStorage
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, Process, Store, eventually


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
