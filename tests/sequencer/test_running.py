"""How a sequencer runs: by itself, inside tasks, steps and sagas, in side work, from the command line, on disk."""

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flowkit import (
    AmbiguousOrder,
    ConfigurationError,
    Flow,
    Sequencer,
    gather,
    saga,
    sequencer,
    step,
    task,
    wait_for_work,
    work,
)
from flowkit_testing import Harness
from flowkit_testing.faults import At
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, Crash, Store, crash_once


@step
def double(number: int) -> int:
    """A block."""
    return 2 * number


@step
def reserve(number: int) -> int:
    """A block that can be undone."""
    return number


@reserve.compensate
def release(number: int) -> None:
    """Its undo."""


@step(attempts=1)
def fail(number: int) -> int:
    """A block that fails."""
    raise ValueError(number)


def begin(name: str) -> Sequencer[int, int]:
    """Where the chains of these tests begin."""
    return sequencer(name, input=int).then(double)


class TestInside:
    """As a part of a task."""

    def test_called_in_a_task(self, harness: Harness) -> None:
        """Its steps are the task's own, each call in a scope of its own; after a crash they are skipped."""
        chain = begin("run-inside").then(reserve.options(key="mine"))

        @task(id="run-inside-task")
        def body(number: int) -> int:
            return chain(number) + chain(number + 1) + double(number)

        harness.crash("double#3", at="after_effect")
        run = harness.run(body, 1)
        assert run.output == 2 + 4 + 2
        assert run.skips("reserve") == 2
        assert len(list(harness.flow.runs())) == 1

    def test_a_key_of_its_own(self, harness: Harness) -> None:
        """`options(key=...)` names its scope instead of the ordinal."""
        chain = begin("run-keyed")

        @task(id="run-keyed-task")
        def body(number: int) -> int:
            return chain.options(key="mine")(number)

        assert [entry.key for entry in harness.run(body, 1).journal] == ["=mine.0.1"]

    def test_options_of_a_run(self, harness: Harness) -> None:
        """What only a run of its own could heed is refused."""
        chain = begin("run-options")

        @task(id="run-options-task", attempts=1)
        def body(number: int) -> int:
            return chain.options(run_id="other")(number)

        error = harness.run(body, 1).error
        assert isinstance(error, ConfigurationError)
        assert "trigger it" in str(error)

    def test_triggered_in_a_task(self, harness: Harness) -> None:
        """It has a run of its own then."""
        chain = begin("run-triggered")

        @task(id="run-triggering")
        def body(number: int) -> str:
            return chain.trigger(number).id

        run = harness.run(body, 4)
        assert harness.flow.handle(run.output or "").result() == 8

    def test_in_a_saga(self, harness: Harness) -> None:
        """G1: what it has completed is undone with the scope around it."""
        chain = begin("run-saga").then(reserve)

        @task(id="run-saga-task")
        def body(number: int) -> None:
            with saga("outer"):
                chain(number)
                fail(number)

        run = harness.run(body, 1)
        assert isinstance(run.error, ValueError)
        assert run.compensated == ["reserve"]

    def test_undone_with_itself(self, harness: Harness) -> None:
        """G1: a run of a sequencer that fails is undone like a task's."""
        run = harness.run(begin("run-undone").then(reserve).then(begin("run-undone-inner").then(reserve)).then(fail), 1)
        assert run.compensated == ["reserve", "reserve"]

    def test_side_work_of_a_part(self, harness: Harness) -> None:
        """W3: a task does not wait for the side work of a sequencer that it has called, nor the other way round."""
        order: list[str] = []

        @step
        def note(text: str) -> None:
            order.append(text)

        chain = sequencer("run-own-work", input=str).work(note).wait_for_work()

        @task(id="run-own-work-task")
        def body() -> tuple[int, int]:
            work(note, "task")
            chain("chain")
            return len(wait_for_work()), len(order)

        run = harness.run(body)
        assert run.output == (1, 2)

    def test_as_side_work(self, harness: Harness, colour: Colour) -> None:
        """`work(seq, value)` runs it beside the task."""

        @colour.step
        def note(number: int) -> int:
            return number

        chain = sequencer(f"run-as-work-{colour.awaits}", input=int).then(note).then(note)

        @colour.task(id=f"run-as-work-task-{colour.awaits}")
        def body(number: int) -> Body[int]:
            work(chain, number)
            yield from ()
            return number

        assert harness.run(body, 4).calls("note") == 2

    def test_side_by_side(self, harness: Harness) -> None:
        """`gather` takes `seq.bind(value)`."""
        chain = begin("run-gather")

        @task(id="run-gather-task")
        def body(number: int) -> tuple[int, ...]:
            return gather(chain.bind(number), chain.bind(number + 1))

        assert harness.run(body, 4).output == (8, 10)

    def test_in_a_foreign_task(self, harness: Harness) -> None:
        """I2: in an asyncio task that is no branch of the run it is refused, with what to use."""
        chain = begin("run-foreign")

        @task(id="run-foreign-task", attempts=1)
        async def body(number: int) -> list[int]:
            return list(await asyncio.gather(chain.aio(number), chain.aio(number)))

        error = harness.run(body, 4).error
        assert isinstance(error, AmbiguousOrder)
        assert "aio.gather" in str(error)

    def test_inside_a_step(self, harness: Harness) -> None:
        """I5: inside a step it is plain: nothing in it is recorded."""
        chain = begin("run-plain").then_all([double, double]).race([len]).then_any([abs]).do_until(bool, abs)

        @step
        def outer(number: int) -> int:
            return chain(number)

        run = harness.run(sequencer("run-plain-outer", input=int).then(outer), 4)
        assert run.output == 2
        assert [entry.name for entry in run.journal] == ["outer"]

    async def test_inside_an_async_step(self, harness: Harness) -> None:
        """The same, awaited."""
        chain = begin("run-plain-async").then_all([double, double]).race([len]).then_any([abs])

        @step
        async def outer(number: int) -> int:
            return await chain.aio(number)

        run = await harness.aio.run(sequencer("run-plain-outer-async", input=int).then(outer), 4)
        assert run.output == 2
        assert [entry.name for entry in run.journal] == ["outer"]

    def test_a_nested_one_is_cancelled_once(self, harness: Harness, colour: Colour) -> None:
        """E2: a cancellation is raised once in the line of calls, through the sequencers in it."""

        @colour.task(id=f"run-nap-{colour.awaits}")
        def nap(number: int) -> Body[int]:
            yield colour.sleep("30d")
            return number

        @colour.step
        def after(_error: Exception) -> int:
            return 0

        inner = sequencer(f"run-cancel-inner-{colour.awaits}", input=int).then(nap).rescue(after)
        run = harness.start(sequencer(f"run-cancel-{colour.awaits}", input=int).then(inner).then(double), 4)
        harness.flow.cancel(run.run_id)
        harness.clock.advance("1s")
        assert run.status == "cancelled"
        assert run.calls("after") == 0


class TestByItself:
    """As a run of its own."""

    @pytest.mark.parametrize("point", ["before_effect", "after_effect", "before_commit", "after_commit"])
    def test_completed_blocks_are_skipped(self, harness: Harness, colour: Colour, point: At) -> None:
        """D2: after a crash, the chain goes on where it was: loops, branches and nested ones included."""

        @colour.step
        def grow(number: int) -> int:
            return number + 1

        inner = sequencer(f"run-skip-inner-{colour.awaits}", input=int).then(grow)
        chain = (
            sequencer(f"run-skip-{colour.awaits}", input=int)
            .do_until(lambda n: n >= 3, inner)
            .branch({"small": (lambda n: n < 0, fail), "large": (bool, grow)})
            .then(grow)
            .loop_back("grow", when=lambda n: n < 6, max_iterations=5)
        )
        harness.crash("grow#5", at=point)
        run = harness.run(chain, 0)
        assert run.output == 6
        assert run.skips("grow") == (5 if point == "after_commit" else 4)
        assert run.calls("grow") == (6 if point == "after_commit" else 7)

    def test_sync_blocks_of_an_async_one_do_not_block(self, harness: Harness) -> None:
        """A sync step among async ones runs on a thread."""
        threads: list[int] = []

        @step
        def where(number: int) -> int:
            threads.append(threading.get_ident())
            return number

        @step
        async def later(number: int) -> int:
            threads.append(threading.get_ident())
            return number

        harness.run(sequencer("run-threads", input=int).then(where).then(later), 1)
        assert threads[0] != threads[1]

    def test_on_disk(self, tmp_path: Path, colour: Colour) -> None:
        """The same where it lasts: a run that was let go is resumed by another process's flow."""
        crashes = [Crash()]

        @colour.step
        def grow(number: int) -> int:
            return number + 1

        @colour.step
        def perhaps(number: int) -> int:
            if crashes:
                raise crashes.pop()
            return number

        chain = (
            sequencer(f"run-disk-{colour.awaits}", input=int)
            .parallel({"a": grow, "b": grow})
            .map(lambda both: sum(both.values()))
            .race([grow, grow])
            .work(grow)
            .do_until(lambda n: n > 8, grow)
            .then(perhaps)
        )
        store = Store(f"disk:{tmp_path / 'state'}?durability=process")
        crash_once(store, chain, 2)
        assert store.flow().run(chain.options(run_id="r"), 2) == 9
        store.close()


MODULE = """
from flowkit import sequencer, step
import attrs

@attrs.frozen
class Order:
    id: int

@step
def double(number: int) -> int:
    return 2 * number

@step
def explode(number: int) -> int:
    raise ValueError(f"no {number}")

pipeline = sequencer("cli-pipeline", input=Order).map(lambda order: order.id).then(double)
failing = pipeline.work(double).then(explode.options(attempts=1)).then(double)
"""


class TestCommandLine:
    """`flowkit run module:seq` and `flowkit runs show`."""

    def cli(self, folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run the command in a folder with the module above."""
        (folder / "cli_seq.py").write_text(MODULE)
        command = [str(Path(sys.executable).with_name("flowkit")), *words, "--storage", f"disk:{folder / 'state'}"]
        return subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
            env=os.environ | {"COLUMNS": "120"},
        )

    def test_run_and_show(self, tmp_path: Path) -> None:
        """It is run by its attribute, gets its input as its annotation says, and is drawn as far as it came."""
        done = self.cli(tmp_path, "run", "cli_seq:pipeline", "--input", '[{"id": 21}]', "--run-id", "a")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "42"

        failed = self.cli(tmp_path, "run", "cli_seq.py:failing", "--input", '[{"id": 21}]', "--run-id", "b")
        assert failed.returncode != 0
        shown = self.cli(tmp_path, "runs", "show", "b").stdout
        assert [line.split() for line in shown.splitlines() if line.startswith("  ") and "then" in line] == [
            ["✓", "then", "double"],
            ["✗", "then", "explode"],
            ["·", "then", "double"],
        ]


def test_flow_types() -> None:
    """`flow.run` and `flow.start` know it."""
    with Flow("memory:") as flow:
        assert flow.run(begin("run-flow"), 4) == 8
        assert flow.start(begin("run-flow-start"), 4).result(timeout=60) == 8
