"""Side work: it starts at once, aborts nothing, and is waited for (rules W1 to W4)."""

import asyncio
import threading
from typing import Any

import pytest

import flowkit
from flowkit import Flow, NonRetryable, WorkHandle, WorkOutcome, sequencer, sleep, step, task, wait_for_work, work
from flowkit.entries import decode
from flowkit.records import Finish, RunStatus
from flowkit_testing import Harness
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, Crash, Store, Wire, crash_once, eventually


@step
def add(left: int, right: int) -> int:
    """A step of the task."""
    return left + right


@step(attempts=1)
def note(text: str) -> str:
    """Side work."""
    return text


@task(id="w-one")
def one_piece(number: int) -> int:
    """A piece of work, a step, a convergence, a step."""
    work(note, "begun")
    number = add(number, 1)
    wait_for_work()
    return add(number, 10)


@task(id="w-must")
def must(number: int) -> int:
    """Work of which all has to succeed."""
    work(note, "first")
    work(note, "second")
    wait_for_work(fail_on_error=True)
    return number


@task(id="w-never-waits")
def never_waits(number: int) -> int:
    """Nobody waits for its work."""
    work(note, "left alone")
    return number


@task(id="w-fails")
def fails(number: int) -> int:
    """Fails while its work is queued."""
    work(note, "left alone")
    raise NonRetryable(str(number))


@task(id="w-inner")
def inner(number: int) -> int:
    """A child with work of its own."""
    work(note, "the child's")
    return number


@task(id="w-outer")
def outer(number: int) -> list[int]:
    """Counts what its own waits are told of."""
    counts = [len(wait_for_work())]
    work(note, "mine")
    inner(number)
    counts.append(len(wait_for_work()))
    counts.append(len(wait_for_work()))
    return counts


class TestW1:
    """Work is durable."""

    @pytest.mark.parametrize(
        ("at", "calls"), [("before_effect", 2), ("after_effect", 2), ("before_commit", 2), ("after_commit", 1)]
    )
    def test_finished_work_is_not_repeated(self, at: str, calls: int, harness: Harness) -> None:
        """W1: what was recorded is answered by the journal, what was not runs again."""
        harness.crash("note", at=at)  # type: ignore[arg-type]  # one of those
        run = harness.run(one_piece, 1)

        assert run.output == 12
        assert run.calls("note") == calls

    def test_it_is_not_repeated_when_the_task_crashes(self, harness: Harness) -> None:
        """W1: a crash of the task after the convergence repeats none of it."""
        harness.crash("add#2", at="before_effect")
        run = harness.run(one_piece, 1)

        run.assert_calls(("note", 1), ("add#1", 1), ("add#2", 2))

    def test_a_plain_function_is_durable_too(self, store: Store, colour: Colour) -> None:
        """W1: it becomes a step under its name, which a replay does not run again."""
        ran: list[str] = []
        crashes = [Crash()]

        def plain(text: str) -> str:
            ran.append(text)
            return text

        async def plain_async(text: str) -> str:
            return plain(text)

        @colour.task
        def body() -> Body[list[object]]:
            work(plain, "a")
            work(plain_async if colour.awaits else plain, "b")
            outcomes: list[WorkOutcome] = yield (flowkit.aio if colour.awaits else flowkit).wait_for_work()
            if crashes:
                raise crashes.pop()
            return [outcome.value for outcome in outcomes]

        crash_once(store, body)

        assert store.flow().run(body.options(run_id="r")) == ["a", "b"]
        assert sorted(ran) == ["a", "b"]

    def test_it_starts_now_beside_the_task(self, flow: Flow, colour: Colour) -> None:
        """W1: the task goes on while its work runs, and the work while the task does."""
        begun, go_on = threading.Event(), threading.Event()

        @step
        def beside() -> str:
            begun.set()
            assert go_on.wait(PATIENCE_S)
            return "done"

        @colour.step
        def effect() -> None:
            go_on.set()

        @colour.task
        def body() -> Body[object]:
            handle = work(beside)
            if colour.awaits:
                yield asyncio.to_thread(begun.wait, PATIENCE_S)
            else:
                assert begun.wait(PATIENCE_S)
            early = handle.done
            yield effect()
            outcomes: list[WorkOutcome] = yield (flowkit.aio if colour.awaits else flowkit).wait_for_work()
            return [early, handle.done, outcomes[0].value]

        assert flow.run(body) == [False, True, "done"]

    def test_it_goes_on_after_a_crash(self, store: Store, colour: Colour) -> None:
        """W1: of work that was queued when the process died, what had not ended runs again, and only that."""
        ran: list[str] = []
        crashes = [Crash()]
        first = threading.Event()

        @step
        def beside(name: str) -> str:
            ran.append(name)
            if name == "unfinished" and crashes:
                assert first.wait(PATIENCE_S)
                raise crashes.pop()
            return name

        @colour.task
        def body() -> Body[list[object]]:
            handle = work(beside, "finished")
            work(beside, "unfinished")
            if colour.awaits:
                yield asyncio.to_thread(eventually, lambda: handle.done)
            else:
                eventually(lambda: handle.done)
            first.set()
            outcomes: list[WorkOutcome] = yield (flowkit.aio if colour.awaits else flowkit).wait_for_work()
            return [outcome.value for outcome in outcomes]

        crash_once(store, body)

        assert store.flow().run(body.options(run_id="r")) == ["finished", "unfinished"]
        assert sorted(ran) == ["finished", "unfinished", "unfinished"]


class TestW2:
    """Work that fails."""

    def test_all_settles_before_an_error_is_raised(self, flow: Flow, colour: Colour) -> None:
        """W2: `fail_on_error` raises when the rest has ended too."""
        handles: list[WorkHandle[None]] = []

        @step(attempts=1)
        def fail() -> None:
            raise OSError("first")

        @step
        def slow() -> None:
            eventually(lambda: bool(handles) and handles[0].done)

        @colour.task(attempts=1)
        def body() -> Body[bool]:
            handles.extend([work(fail), work(slow)])
            try:
                yield (flowkit.aio if colour.awaits else flowkit).wait_for_work(fail_on_error=True)
            except OSError:
                return handles[1].done
            return False

        assert flow.run(body) is True

    def test_it_aborts_nothing_and_becomes_an_item(self, harness: Harness) -> None:
        """W2: one `step_error` item with the work's name and error, and the task succeeds."""
        harness.fail("note", error=ConnectionError("no paper"))
        run = harness.run(one_piece, 1)

        assert run.output == 12
        (item,) = [item for item in harness.flow.handle(run.run_id).items() if item.type == "step_error"]
        assert item.name == "note"
        assert "no paper" in repr(item.data)

    def test_the_first_queued_that_failed_is_raised(self, harness: Harness) -> None:
        """W2: all of it is waited for, then the error of the first in the order of queueing is raised."""
        harness.fail("note", error=ConnectionError("first"), when=lambda text: text == "first")
        harness.fail("note", error=OSError("second"), when=lambda text: text == "second")
        run = harness.run(must, 1)

        assert isinstance(run.error, ConnectionError)
        assert run.calls("note") >= 2


class TestW3:
    """Whose work is waited for."""

    def test_only_that_of_its_own_scope(self, harness: Harness) -> None:
        """W3: none queued, then its own, told again when asked again; a child's work is not its parent's."""
        assert harness.run(outer, 1).output == [0, 1, 1]

    def test_outcomes_are_told_in_the_order_of_queueing(self, harness: Harness) -> None:
        """W3: each by its name, with what it returned."""

        @task(id="w-outcomes")
        def outcomes() -> list[str]:
            work(note, "a")
            work(note, "b")
            found: list[WorkOutcome] = wait_for_work()
            return [str(outcome.value) for outcome in found]

        assert harness.run(outcomes).output == ["a", "b"]

    def test_that_of_its_branches_too(self, flow: Flow, colour: Colour) -> None:
        """W3: work that was queued by a line of `gather` or `each` is its task's."""

        def sync_line(text: str) -> None:
            work(note, text)

        async def async_line(text: str) -> None:
            work(note, text)

        @colour.task
        def body() -> Body[list[object]]:
            if colour.awaits:
                yield flowkit.aio.each(["a", "b"], async_line, max_concurrency=1)
            else:
                flowkit.each(["a", "b"], sync_line, max_concurrency=1)
            outcomes: list[WorkOutcome] = yield (flowkit.aio if colour.awaits else flowkit).wait_for_work()
            return [outcome.value for outcome in outcomes]

        assert flow.run(body) == ["a", "b"]


class TestW4:
    """A run and its work end together."""

    @pytest.mark.parametrize("nested", [False, True])
    def test_a_run_waits_for_each_piece(self, memory: Store, monkeypatch: pytest.MonkeyPatch, *, nested: bool) -> None:
        """W4: the end is not recorded while a thread works; what a piece of work has queued meanwhile counts too."""
        wait, settled = WorkHandle.wait, threading.Event()

        def waited_for(handle: WorkHandle[object], timeout_s: float | None = None) -> bool:
            if handle.name == "last":
                settled.set()  # it goes on only now
            return wait(handle, timeout_s)

        def ended(name: str, args: tuple[Any, ...]) -> None:
            if name == "commit" and isinstance(args[0][0].then, Finish):
                settled.set()  # or when it is too late

        @step
        def last(text: str) -> str:
            assert settled.wait(PATIENCE_S)
            return text

        inner = sequencer("w-each-inner", input=str).work(last)
        monkeypatch.setattr(WorkHandle, "wait", waited_for)
        wire = Wire(memory.storage())
        wire.after = ended
        flow = memory.flow(wire.storage)
        chain = sequencer("w-each", input=str).work(inner) if nested else inner

        assert flow.run(chain.options(run_id="r"), "text") == "text"
        names = [decode(flow.engine.codec, raw).name for raw in flow.engine.load("r").entries]
        assert "last" in names

    def test_a_run_is_not_finished_before_its_work(self, harness: Harness) -> None:
        """W4: work that nobody waits for has been done when the run has ended."""
        run = harness.run(never_waits, 1)

        assert run.output == 1
        assert [entry.name for entry in run.journal if entry.phase == "done"].count("note") == 1

    def test_a_run_does_not_fail_before_its_work_has_settled(self, harness: Harness) -> None:
        """W4: nor when the task fails."""
        run = harness.run(fails, 1)

        assert isinstance(run.error, NonRetryable)
        assert run.calls("note") == 1

    def test_a_run_is_not_cancelled_before_its_work_has_settled(self, harness: Harness) -> None:
        """W4: nor when it is cancelled."""

        @task(id="w-cancelled")
        def cancelled() -> None:
            work(note, "done by then")
            sleep("30d")

        run = harness.start(cancelled)
        harness.flow.cancel(run.run_id)
        harness.clock.advance("1s")

        assert run.status is RunStatus.CANCELLED
        assert run.calls("note") == 1

    def test_work_that_queues_work(self, harness: Harness, colour: Colour) -> None:
        """W4: nor before what its work has queued has been done."""
        ran: list[str] = []

        @colour.step
        def beside(text: str) -> str:
            ran.append(text)
            return text

        @colour.step
        def before(text: str) -> str:
            return f"{text} of the inner one"

        inner = sequencer(f"w-queues-{colour.awaits}", input=str).then(before).work(beside)
        run = harness.run(sequencer(f"w-queued-{colour.awaits}", input=str).work(inner).work(beside), "work")

        assert run.output == "work"
        assert sorted(ran) == ["work", "work of the inner one"]

    def test_a_run_waits_with_its_work(self, harness: Harness, colour: Colour) -> None:
        """W4: while its work waits for long, so does the run, though nobody waits for the work."""

        @colour.task(id=f"w-nap-{colour.awaits}")
        def nap(days: int) -> Body[int]:
            yield colour.sleep(f"{days}d")
            return days

        @colour.task(id=f"w-napping-{colour.awaits}")
        def body() -> Body[str]:
            yield from ()
            work(nap, 1)
            work(nap, 2)
            return "returned"

        run = harness.start(body)
        harness.clock.advance("1d")
        waits = run.status
        harness.clock.advance("1d")

        assert waits is RunStatus.WAITING
        assert run.output == "returned"
        assert {str(child.status) for child in harness.flow.runs(task=nap)} == {"succeeded"}

    def test_a_cancellation_reaches_the_work(self, harness: Harness, colour: Colour) -> None:
        """W4, E2: work that waits is cancelled with its run, which ends after it."""

        @colour.task(id=f"w-cancelled-nap-{colour.awaits}")
        def nap() -> Body[None]:
            yield colour.sleep("30d")

        @colour.task(id=f"w-cancelled-napping-{colour.awaits}")
        def body() -> Body[None]:
            work(nap)
            yield colour.sleep("30d")

        run = harness.start(body)
        harness.flow.cancel(run.run_id)
        harness.clock.advance("1s")

        assert run.status is RunStatus.CANCELLED
        assert [str(child.status) for child in harness.flow.runs(task=nap)] == ["cancelled"]
