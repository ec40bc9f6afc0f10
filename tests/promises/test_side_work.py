"""W1-W5: what runs beside a task."""

import threading
from typing import Any

import pytest

from flowkit import ItemType, RunStatus, Task, sequencer, step, task, work
from flowkit_testing import Harness, RunReport
from flowkit_testing.faults import AT, At
from tests.rules.colours import Body, Colour


def recorded(run: RunReport[Any]) -> list[object]:
    """The results of its steps, in the order of the record."""
    return [entry.data for entry in run.journal if entry.kind == "step" and entry.phase == "done"]


def noted(colour: Colour, ran: list[str], **of_note: object) -> Task[[], str]:
    """A task that waits for the side work of a step `note`, which writes down that it ran, and then does `end`."""

    @colour.step(**of_note)
    def note(text: str) -> str:
        ran.append(text)
        return text

    @colour.step
    def end() -> str:
        return "end"

    @colour.task
    def shop() -> Body[str]:
        work(note, "a")
        yield colour.wait_for_work()
        return (yield end())

    return shop


# ---- W1 -------------------------------------------------------------------------------------------------------------


def test_it_starts_at_once(harness: Harness) -> None:
    """W1: beside the task, which does not wait for it; in async code time shows it."""

    @step
    async def note(text: str) -> str:
        return text

    @task
    async def shop() -> str:
        work(note, "beside")
        return await note("before")

    harness.delay(note, "1h", when=lambda text: text == "beside")
    harness.delay(note, "10m", when=lambda text: text == "before")
    begun_ms = harness.clock.now_ms()
    run = harness.run(shop)
    assert run.output == "before"
    assert recorded(run) == ["before", "beside"]
    assert harness.clock.now_ms() - begun_ms < 1.5 * 3_600_000


def test_it_starts_at_once_on_a_thread(harness: Harness) -> None:
    """W1: in sync code it has a thread of its own, and the task goes on."""
    threads: dict[str, int] = {}

    @step
    def note(text: str) -> str:
        threads[text] = threading.get_ident()
        return text

    @task
    def shop() -> str:
        work(note, "beside")
        return note("before")

    run = harness.run(shop)
    assert run.output == "before"
    assert len(set(threads.values())) == 2
    assert sorted(map(str, recorded(run))) == ["before", "beside"]


@pytest.mark.parametrize("at", AT)
def test_finished_work_is_not_repeated(harness: Harness, colour: Colour, at: At) -> None:
    """W1: on a replay the journal answers for it; unfinished work runs again."""
    ran: list[str] = []
    harness.crash("note", at=at)
    harness.crash("end", at="after_effect")
    run = harness.run(noted(colour, ran))
    assert run.output == "end"
    assert len(ran) == (2 if at in {"after_effect", "before_commit"} else 1)
    assert recorded(run) == ["a", "end"]


def test_work_at_every_crash(harness: Harness, colour: Colour) -> None:
    """W1: wherever the process dies and whatever ends first, it is done and ends with its run."""

    @colour.step
    def note(text: str) -> str:
        return text

    @colour.task
    def shop() -> Body[str]:
        work(note, "a")
        yield note("b")
        work(note, "c")
        return (yield note("d"))

    found = harness.explore(shop, budget=150)
    assert found.safe, found.smallest


# ---- W2 -------------------------------------------------------------------------------------------------------------


def test_its_failure_aborts_nothing(harness: Harness, colour: Colour) -> None:
    """W2: it becomes one item with the work's name and error, however often the run is replayed."""
    harness.fail("note", error=OSError("disk full"))
    harness.crash("end", at="after_effect")
    run = harness.run(noted(colour, [], attempts=2))
    assert run.output == "end"
    run.assert_calls(note=2)
    errors = [item for item in harness.flow.handle(run.run_id).items() if item.type is ItemType.STEP_ERROR]
    assert [item.name for item in errors] == ["note"]
    assert "disk full" in str(errors[0].data)


def test_its_failure_raises_when_asked(harness: Harness, colour: Colour) -> None:
    """W2: `fail_on_error=True` waits for all, then raises the error of the first queued that failed."""
    settled: list[str] = []

    @colour.step(attempts=1)
    def note(text: str) -> str:
        settled.append(text)
        if text == "b":
            raise LookupError("b is the first")
        return text

    @colour.task
    def shop() -> Body[None]:
        for text in ("a", "b", "c", "d"):
            work(note, text)
        yield colour.wait_for_work(fail_on_error=True)

    harness.delay(note, "1h", when=lambda text: text == "d")
    harness.delay(note, "30m", when=lambda text: text == "b")
    harness.fail(note, error=OSError("c is earlier"), when=lambda text: text == "c")
    run = harness.run(shop)
    assert isinstance(run.error, LookupError)
    assert sorted(settled) == ["a", "b", "d"]


# ---- W3 -------------------------------------------------------------------------------------------------------------


def test_it_waits_for_its_own(harness: Harness, colour: Colour) -> None:
    """W3: outcomes in the order of queueing; also when none is queued, all is finished, or it is called twice."""

    @colour.step
    def note(text: str) -> str:
        return text

    @colour.task
    def shop() -> Body[list[list[object]]]:
        told = [(yield colour.wait_for_work())]
        work(note, "a")
        work(note, "b")
        told.append((yield colour.wait_for_work()))
        told.append((yield colour.wait_for_work()))
        return [[outcome.value for outcome in outcomes] for outcomes in told]

    harness.delay(note, "1h", when=lambda text: text == "a")
    assert harness.run(shop).output == [[], ["a", "b"], ["a", "b"]]


def test_it_waits_for_no_one_elses(harness: Harness, colour: Colour) -> None:
    """W3: neither a child's nor, in a child, its parent's."""

    @colour.step
    def note(text: str) -> str:
        return text

    @colour.task
    def child() -> Body[int]:
        work(note, "child")
        return len((yield colour.wait_for_work()))

    @colour.task
    def shop() -> Body[list[int]]:
        work(note, "parent")
        inner = yield child()
        return [inner, len((yield colour.wait_for_work()))]

    assert harness.run(shop).output == [1, 1]


def test_a_sequencer_waits_for_its_own(harness: Harness, colour: Colour) -> None:
    """W3: a sequencer's scope is its own: one inside it does not wait for what stands outside."""
    seen: list[str] = []

    @colour.step
    def note(text: str) -> str:
        seen.append(text)
        return text

    @colour.step
    def end(text: str) -> str:
        seen.append("end")
        return text

    def outwards(text: str) -> str:
        return f"outer {text}"

    inner = sequencer("waits-inside").wait_for_work().then(end)
    outer = sequencer("works-outside").work(outwards, note).then(inner)
    harness.delay(note, "1h")
    run = harness.run(outer, "a")
    assert run.output == "a"
    if colour.awaits:
        assert seen == ["end", "outer a"]


# ---- W4 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["returns", "fails", "is cancelled"])
def test_a_run_ends_after_its_work(harness: Harness, colour: Colour, how: str) -> None:
    """W4: whether it succeeds, fails or is cancelled; what the work had to do is done."""
    ended: list[RunStatus] = []

    @colour.step
    def note() -> str:
        ended.append(harness.report("run-1").status)
        if how == "is cancelled":
            harness.flow.cancel("run-1")
        return "noted"

    @colour.task(attempts=1)
    def shop() -> Body[str]:
        work(note)
        if how == "fails":
            raise OSError
        if how == "is cancelled":
            yield colour.sleep("1d")
        return "done"

    harness.delay("note", "1h")
    run = harness.run(shop)
    assert run.status == {"returns": "succeeded", "fails": "failed", "is cancelled": "cancelled"}[how]
    assert "note" in {entry.name for entry in run.journal if entry.phase == "done"}
    assert [status.finished for status in ended] == [False]
    run.assert_calls(note=1)


def test_work_of_a_nested_sequencer_holds_nothing_up(harness: Harness) -> None:
    """W4: its parent's next block begins meanwhile, and the run ends when the work has."""

    @step
    async def note(text: str) -> str:
        return f"noted {text}"

    @step
    async def after(text: str) -> str:
        return f"after {text}"

    inner = sequencer("works-inside").work(note)
    outer = sequencer("goes-on-outside").then(inner).then(after)
    harness.delay(note, "1h")
    run = harness.run(outer, "a")
    assert run.output == "after a"
    assert recorded(run) == ["after a", "noted a"]


# ---- W5 -------------------------------------------------------------------------------------------------------------


def test_a_tap_changes_nothing(harness: Harness, colour: Colour) -> None:
    """W5: it runs inline, durably, and the value goes on as it was."""

    @colour.step
    def look(text: str) -> str:
        return f"seen {text}"

    @colour.step
    def end(text: str) -> str:
        return f"end {text}"

    harness.delay("look", "1h")
    harness.crash("end", at="after_effect")
    run = harness.run(sequencer("tapped").tap(look).then(end), "a")
    assert run.output == "end a"
    assert recorded(run) == ["seen a", "end a"]
    run.assert_skipped("look")


def test_a_tap_must_succeed(harness: Harness, colour: Colour) -> None:
    """W5: if it does not, neither does the run, and nothing after it begins."""

    @colour.step(attempts=2)
    def look(text: str) -> str:
        return text

    @colour.step
    def end(text: str) -> str:
        return text

    harness.fail("look", error=OSError("dark"))
    run = harness.run(sequencer("tapped-in-vain").tap(look).then(end), "a")
    assert isinstance(run.error, OSError)
    run.assert_calls(look=2, end=0)
