"""E1-E5: what a run does while it waits, and what wakes it."""

import asyncio
import threading

import pytest

from flowkit import EventTimeout, Retry, RunCancelled, RunStatus, aio, saga, sleep, step, task, work
from flowkit.entries import Phase
from flowkit_testing import Harness, SwallowedWarning
from tests.rules.colours import Body, Colour

DAY_MS = 86_400_000


# ---- E1: waiting ----------------------------------------------------------------------------------------------------


def test_what_waits_holds_no_thread(harness: Harness, colour: Colour) -> None:
    """E1: a hundred runs that wait are records, no more: no thread is theirs, and no lease."""

    @colour.task
    def waits() -> Body[str]:
        yield colour.sleep("1d")
        return "woken"

    runs = [harness.start(waits)]
    before = threading.active_count()
    runs += [harness.start(waits) for _ in range(99)]
    assert threading.active_count() <= before
    assert {run.status for run in runs} == {RunStatus.WAITING}
    assert all(header.worker is None for header in harness.flow.runs(limit=200))
    harness.clock.advance("1d")
    assert {run.output for run in runs} == {"woken"}


def test_it_suspends_when_nothing_moves(harness: Harness) -> None:
    """E1: not while a branch or side work is at it: what runs beside a timer is not interrupted."""

    @step
    async def long(text: str) -> str:
        return text

    @task
    async def naps() -> str:
        work(long, "work")
        text, _ = await asyncio.gather(long("beside"), aio.sleep("1m"))
        return text

    harness.delay(long, "2h")
    run = harness.run(naps)
    assert run.output == "beside"
    run.assert_calls(long=2)


def test_unwinding_is_no_exception(harness: Harness, colour: Colour) -> None:
    """E1: `except Exception` does not hold it, and what is called meanwhile raises it again and does nothing."""
    caught: list[str] = []

    @colour.step
    def clean() -> None:
        pass

    @colour.task
    def waits() -> Body[str]:
        try:
            yield colour.sleep("1d")
        except Exception:  # noqa: BLE001  # what users write
            caught.append("exception")
        finally:
            yield clean()
            caught.append("cleaned")
        return "woken"

    run = harness.start(waits)
    assert run.status is RunStatus.WAITING
    run.assert_calls(clean=0)
    assert caught == []
    harness.clock.advance("1d")
    assert run.output == "woken"
    assert "exception" not in caught
    run.assert_calls(clean=1)


def test_a_scope_takes_no_notice(harness: Harness) -> None:
    """E1: a run that goes to wait inside a `saga` scope has not left it: nothing is undone."""

    @step
    def book() -> str:
        return "booked"

    @book.compensate
    def cancel(_booked: str) -> None:
        """The undo."""

    @task
    def waits() -> str:
        with saga("trip"):
            booked = book()
            sleep("1d")
        return booked

    run = harness.start(waits)
    assert run.status is RunStatus.WAITING
    harness.clock.advance("1d")
    assert run.output == "booked"
    run.assert_compensated([])


@pytest.mark.filterwarnings("ignore:the task of run:flowkit_testing.SwallowedWarning")
def test_a_body_that_swallows_it_is_reported(harness: Harness, colour: Colour) -> None:
    """E1: and what it does after that is not recorded."""

    @colour.step
    def after() -> str:
        return "after"

    @colour.task
    def waits() -> Body[str]:
        try:
            yield colour.sleep("1d")
        except BaseException:  # noqa: BLE001  # what should not be written
            return "swallowed"
        return (yield after())

    run = harness.start(waits)
    assert run.status is RunStatus.WAITING
    with pytest.warns(SwallowedWarning, match="let go"):
        harness.check()
    harness.clock.advance("1d")
    assert run.output == "after"


# ---- E2: cancellation -----------------------------------------------------------------------------------------------


def test_a_cancellation_is_raised_once(harness: Harness, colour: Colour) -> None:
    """E2: as a `BaseException` where the body waits; handlers and `finally` may do durable things, crashes or not."""
    seen: list[str] = []

    @colour.step
    def tidy(what: str) -> str:
        return what

    @colour.task
    def waits() -> Body[None]:
        try:
            yield colour.sleep("30d")
        except Exception:  # noqa: BLE001  # what users write
            seen.append("exception")
        except colour.cancelled as error:
            if (yield tidy("handler")) == "handler":
                seen.append(type(error).__name__)
            raise
        finally:
            yield tidy("finally")

    run = harness.start(waits)
    assert harness.flow.cancel(run.run_id)
    harness.crash("tidy#2", at="after_effect")
    harness.clock.advance("1h")
    assert run.status is RunStatus.CANCELLED
    assert "exception" not in seen
    assert len(set(seen)) == 1
    assert seen[0] == "CancelledError" if colour.awaits else "Cancel" in seen[0]
    assert [entry.data for entry in run.journal if entry.name == "tidy"] == ["handler", "finally"]
    assert [entry.name for entry in run.journal if entry.phase == Phase.CANCELLED and entry.name == "sleep"] == [
        "sleep"
    ]
    with pytest.raises(RunCancelled):
        harness.flow.handle(run.run_id).result(timeout=1)


@pytest.mark.parametrize("waits_for", ["timer", "event", "child"])
def test_it_always_wakes(harness: Harness, colour: Colour, waits_for: str) -> None:
    """E2: whatever the run waits for, at once; children are cancelled with it."""

    @colour.task
    def child() -> Body[None]:
        yield colour.sleep("30d")

    @colour.task
    def waits() -> Body[None]:
        if waits_for == "timer":
            yield colour.sleep("30d")
        elif waits_for == "event":
            yield colour.wait_for_event("never")
        else:
            handle = yield colour.start(child)
            yield colour.form(handle).result()

    begun_ms = harness.clock.now_ms()
    run = harness.start(waits)
    assert run.status is RunStatus.WAITING
    harness.flow.cancel(run.run_id)
    harness.clock.advance("1m")
    assert isinstance(run.error, RunCancelled)
    assert {header.status for header in harness.flow.runs()} == {RunStatus.CANCELLED}
    assert harness.clock.now_ms() - begun_ms == 60_000


def test_a_step_in_flight_is_not_interrupted(harness: Harness, colour: Colour) -> None:
    """E2: it is recorded, and the next durable call raises; the cancellation outlives the process."""

    @colour.step
    def pay() -> str:
        harness.flow.cancel("run-1")
        return "paid"

    @colour.step
    def ship() -> str:
        return "shipped"

    @colour.task
    def shop() -> Body[None]:
        yield pay()
        yield ship()

    harness.crash("pay", at="after_commit")
    run = harness.run(shop)
    assert run.status is RunStatus.CANCELLED
    run.assert_calls(pay=1, ship=0)
    assert [entry.data for entry in run.journal if entry.name == "pay"] == ["paid"]


def test_children_are_cancelled_first(harness: Harness, colour: Colour) -> None:
    """E2: whoever handles the cancellation of a run may wait for its children to have ended."""
    seen: list[str] = []

    @colour.task
    def child() -> Body[None]:
        yield colour.sleep("30d")

    @colour.task
    def parent() -> Body[None]:
        handle = yield colour.start(child)
        try:
            yield colour.sleep("30d")
        finally:
            seen.append((yield colour.form(handle).wait_for_completion()).status)

    run = harness.start(parent)
    harness.flow.cancel(run.run_id)
    harness.clock.advance("1m")
    assert run.status is RunStatus.CANCELLED
    assert set(seen) == {RunStatus.CANCELLED}


def test_it_is_ignored_while_an_undo_waits(harness: Harness, colour: Colour) -> None:
    """E2: an undo that is to be tried again is, though the run has been cancelled meanwhile."""
    tried: list[str] = []

    @colour.step(retry=Retry(attempts=3, delay=60, jitter=0))
    def book(what: str) -> str:
        return what

    @book.compensate
    def cancel(what: str) -> None:
        tried.append(what)
        if len(tried) == 1:
            harness.flow.cancel("run-1")
            raise ConnectionError("no line")

    @colour.step(attempts=1)
    def pay() -> None:
        pass

    @colour.task
    def travels() -> Body[None]:
        yield book("flight")
        yield pay()

    harness.fail("pay", error=OSError("no money"))
    run = harness.run(travels)
    assert isinstance(run.error, OSError)
    assert tried == ["flight", "flight"]
    run.assert_compensated(["book"])


def test_it_is_ignored_while_compensating(harness: Harness, colour: Colour) -> None:
    """E2: a rollback goes to its end, and the run ends as it would have."""
    undone: list[str] = []

    @colour.step
    def book(what: str) -> str:
        return what

    @book.compensate
    def cancel(what: str) -> None:
        if not undone:
            harness.flow.cancel("run-1")
        undone.append(what)

    @colour.task(attempts=1)
    def travels() -> Body[None]:
        yield book("flight")
        yield book("hotel")
        raise OSError("no money")

    run = harness.run(travels)
    assert run.status is RunStatus.FAILED
    assert isinstance(run.error, OSError)
    assert undone == ["hotel", "flight"]


def test_cancelled_at_every_point(harness: Harness, colour: Colour) -> None:
    """E2: wherever the cancellation comes, and whatever crashes besides."""

    @colour.step
    def book(what: str) -> str:
        return what

    @book.compensate
    def cancel(what: str) -> None:
        """The undo."""

    @colour.task
    def travels() -> Body[str]:
        yield book("flight")
        yield colour.sleep("1d")
        return (yield book("hotel"))

    harness.explore(travels, faults=("cancel",)).assert_safe()


# ---- E3: children ---------------------------------------------------------------------------------------------------


def test_a_child_exists_once(harness: Harness, colour: Colour) -> None:
    """E3: its id follows from its parent's run and the call, so that a replay finds it; by key, by number, inline."""

    @colour.task
    def child(text: str) -> Body[str]:
        yield colour.sleep("1h")
        return f"child {text}"

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

    @colour.task
    def child(text: str) -> Body[str]:
        yield colour.sleep("1h")
        return f"child {text}"

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


# ---- E4: timers -----------------------------------------------------------------------------------------------------


def test_a_timer_is_a_point_in_time(harness: Harness, colour: Colour) -> None:
    """E4: it does not start over, whoever dies meanwhile, and each on the way."""

    @colour.step
    def note(text: str) -> str:
        return text

    @colour.task
    def naps() -> Body[str]:
        yield colour.sleep("1d")
        yield note("between")
        yield colour.sleep("2h")
        return (yield note("woken"))

    begun_ms = harness.clock.now_ms()
    harness.crash("sleep#1", at="before_effect")
    harness.crash("note#1", at="before_commit")
    harness.crash("sleep#2", at="after_commit")
    run = harness.run(naps)
    assert run.output == "woken"
    took_ms = harness.clock.now_ms() - begun_ms
    leases_ms = 3 * 30_000
    assert DAY_MS + 7_200_000 <= took_ms <= DAY_MS + 7_200_000 + leases_ms


def test_a_replay_does_not_prolong_a_timer(harness: Harness, colour: Colour) -> None:
    """E4: nor does a run that is taken up early for something else."""

    @colour.task
    def naps() -> Body[list[object]]:
        first = yield colour.wait_for_event("early")
        yield colour.sleep("10h")
        return [first]

    run = harness.start(naps)
    harness.clock.advance("1h")
    harness.send_event(run, "early", 1)
    for number in range(9):
        harness.clock.advance("1h")
        harness.send_event(run, "unasked", number)
    assert run.status is RunStatus.WAITING
    harness.clock.advance("1h")
    assert run.output == [1]


def test_timers_at_every_crash(harness: Harness, colour: Colour) -> None:
    """E4: the run ends when it would have without."""

    @colour.task
    def naps() -> Body[str]:
        yield colour.sleep("1d")
        yield colour.sleep("1d")
        return "woken"

    harness.explore(naps).assert_safe()


# ---- E5: events -----------------------------------------------------------------------------------------------------


def test_an_event_before_its_wait_is_kept(harness: Harness, colour: Colour) -> None:
    """E5: in the order in which they were sent, one for each wait, and those of other names for theirs."""

    @colour.task
    def waits() -> Body[list[object]]:
        yield colour.sleep("1d")
        got = []
        for name in ("a", "b", "a", "a"):
            got.append((yield colour.wait_for_event(name)))  # noqa: PERF401  # no comprehension yields
        return got

    run = harness.start(waits)
    for name, payload in [("a", 1), ("a", 2), ("b", 3), ("a", 4)]:
        harness.send_event(run, name, payload)
    harness.clock.advance("1d")
    assert run.output == [1, 3, 2, 4]


def test_an_event_is_received_once(harness: Harness, colour: Colour) -> None:
    """E5: sent twice with one id it is one, whatever has been received meanwhile."""

    @colour.task
    def waits() -> Body[list[object]]:
        return [(yield colour.wait_for_event("a")), (yield colour.wait_for_event("a"))]

    run = harness.start(waits)
    harness.send_event(run, "a", "first", id="1")
    harness.send_event(run, "a", "again", id="1")
    assert run.status is RunStatus.WAITING
    harness.send_event(run, "a", "second", id="2")
    assert run.output == ["first", "second"]


def test_an_event_that_comes_too_late(harness: Harness, colour: Colour) -> None:
    """E5: the wait that has timed out does not get it, on no replay; the next one does."""
    seen: list[str] = []

    @colour.step
    def end() -> None:
        pass

    @colour.task
    def waits() -> Body[object]:
        try:
            yield colour.wait_for_event("a", timeout="1h")
            seen.append("in time")
        except EventTimeout:
            seen.append("too late")
        yield colour.sleep("1h")
        got = yield colour.wait_for_event("a")
        yield end()
        return got

    run = harness.start(waits)
    harness.clock.advance("90m")
    harness.send_event(run, "a", "late")
    harness.crash("end", at="after_effect")
    harness.clock.advance("2h")
    assert run.output == "late"
    assert set(seen) == {"too late"}


def test_events_at_every_crash(harness: Harness, colour: Colour) -> None:
    """E5: none is lost, none is received twice, wherever the process dies."""

    @colour.task
    def waits() -> Body[list[object]]:
        got = []
        for _ in range(2):
            got.append((yield colour.wait_for_event("a")))
            yield colour.sleep("1h")
        return got

    harness.explore(waits, events=[("a", 1), ("a", 2)]).assert_safe()
