"""E3: runs that are begun by runs, and waited for."""

import threading

import pytest

from flowkit import RunStatus, Task
from flowkit_testing import Harness
from tests.rules.colours import Body, Colour


def resting(colour: Colour) -> Task[[str], str]:
    """A child that waits for a while."""

    @colour.task
    def child(text: str) -> Body[str]:
        yield colour.sleep("1h")
        return f"child {text}"

    return child


def test_a_child_exists_once(harness: Harness, colour: Colour) -> None:
    """E3: its id follows from its parent's run and the call, so that a replay finds it; by key, by number, inline."""
    child = resting(colour)

    @colour.step
    def end() -> None:
        pass

    @colour.task
    def parent() -> Body[list[str]]:
        handles = [
            (yield colour.form(child).trigger("a")),
            (yield colour.form(child.options(key="k")).trigger("b")),
        ]
        inline = yield child("c")
        told = []
        for handle in handles:
            told.append((yield colour.form(handle).result()))  # noqa: PERF401  # no comprehension yields
        yield end()
        return [*told, inline]

    harness.crash("end", at="before_effect")
    run = harness.run(parent)
    assert run.output == ["child a", "child b", "child c"]
    children = [header.run_id for header in harness.flow.runs(task=child.id)]
    assert len(children) == 3
    assert all(child_id.startswith(f"{run.run_id}/") for child_id in children)


def test_children_at_every_crash(harness: Harness, colour: Colour) -> None:
    """E3: no wake-up is lost and no child is doubled, wherever a process dies."""
    child = resting(colour)

    @colour.task
    def parent() -> Body[list[str]]:
        handle = yield colour.form(child).trigger("a")
        inline = yield child("b")
        return [(yield colour.form(handle).result()), inline]

    harness.explore(parent, faults=("crash", "lost_ack")).assert_safe()


def test_waiting_releases_the_slot(harness: Harness, colour: Colour) -> None:
    """E3: the harness advances one run at a time, so a parent that held its slot would wait for ever."""
    statuses: list[RunStatus] = []

    @colour.task
    def grandchild() -> Body[str]:
        yield from ()
        statuses.extend(header.status for header in harness.flow.runs() if header.run_id == "run-1")
        return "grown up"

    @colour.task
    def child() -> Body[str]:
        handle = yield colour.start(grandchild)
        return (yield colour.form(handle).result())

    @colour.task
    def parent() -> Body[str]:
        handle = yield colour.start(child)
        return (yield colour.form(handle).result())

    assert harness.run(parent).output == "grown up"
    assert set(statuses) == {RunStatus.WAITING}


def test_a_plain_call_is_inline(harness: Harness, colour: Colour) -> None:
    """E3: a task that calls a task runs it in its own slot, as a run of its own."""
    threads: list[int] = []
    statuses: list[RunStatus] = []

    @colour.task
    def child() -> Body[str]:
        yield from ()
        threads.append(threading.get_ident())
        statuses.extend(header.status for header in harness.flow.runs() if header.run_id == "run-1")
        return "child"

    @colour.task
    def parent() -> Body[str]:
        threads.append(threading.get_ident())
        return (yield child())

    run = harness.run(parent)
    assert run.output == "child"
    assert len(set(threads)) == 1
    assert set(statuses) == {RunStatus.RUNNING}
    assert len(list(harness.flow.runs(task=child.id))) == 1


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_an_unhappy_child_wakes_its_parent(harness: Harness, colour: Colour, how: str) -> None:
    """E3: with how it has ended."""

    @colour.task(attempts=1)
    def child() -> Body[None]:
        yield colour.sleep("1h")
        raise OSError("no")

    @colour.task
    def parent() -> Body[list[str]]:
        handle = yield colour.start(child)
        if how == "is cancelled":
            yield colour.form(handle).cancel()
        result = yield colour.form(handle).wait_for_completion()
        return [result.status, type(result.error).__name__]

    run = harness.run(parent)
    assert run.output == {"fails": ["failed", "OSError"], "is cancelled": ["cancelled", "RunCancelled"]}[how]


def test_outcomes_travel_in_the_message(harness: Harness, colour: Colour) -> None:
    """E3: a child that has been pruned by the time when its parent looks has not taken its result along."""

    @colour.task
    def child() -> Body[str]:
        yield from ()
        return "kept"

    @colour.task
    def parent() -> Body[str]:
        handle = yield colour.start(child)
        yield colour.sleep("40d")
        return (yield colour.form(handle).result())

    run = harness.start(parent)
    harness.clock.advance("35d")
    assert harness.flow.prune(older_than="30d") == 1
    assert not list(harness.flow.runs(task=child.id))
    harness.clock.advance("10d")
    assert run.output == "kept"


def test_empty_batches_finish_at_once(harness: Harness, colour: Colour) -> None:
    """E3: there is nothing to wait for; others are waited for, each outcome in its place."""

    @colour.task
    def child(number: int) -> Body[int]:
        yield colour.sleep(60 - number)
        return number * number

    @colour.task
    def parent(numbers: list[int]) -> Body[list[int]]:
        batch = yield colour.form(child).batch_trigger(numbers)
        return (yield colour.form(batch).results())

    begun_ms = harness.clock.now_ms()
    assert harness.run(parent, []).output == []
    assert harness.clock.now_ms() == begun_ms
    assert harness.run(parent, [1, 2, 3]).output == [1, 4, 9]
