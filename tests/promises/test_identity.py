"""I1-I6: which call is which, and what a replay may rely on."""

import asyncio
import contextvars
import random
import threading
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from flowkit import (
    AmbiguousOrder,
    NonDeterminismError,
    NotAllowedInStep,
    NotDurableWarning,
    RunStatus,
    UsageError,
    aio,
    current_run,
    each,
    emit,
    gather,
    now,
    rng,
    sequencer,
    sleep,
    step,
    task,
    uuid4,
    wait_for_event,
    work,
)
from flowkit_testing import Harness
from flowkit_testing.lab import ReplayDiffers
from tests.rules.colours import Body, Colour


@step
async def load(page: str) -> str:
    """A step."""
    return f"page {page}"


@step
def save(page: str) -> str:
    """Another one, of the other colour."""
    return f"saved {page}"


# ---- I1: ordinals, keys, scopes -------------------------------------------------------------------------------------


def test_a_call_is_numbered_when_it_is_made(harness: Harness) -> None:
    """I1: not when it is scheduled: what was called first is first in the record, however late it is awaited."""

    @task
    async def reads() -> list[str]:
        first, second = load("a"), load("b")
        return [await second, await first]

    harness.crash("load#2", at="after_effect")
    run = harness.run(reads)
    assert run.output == ["page b", "page a"]
    assert {entry.key: entry.data for entry in run.journal} == {"1": "page a", "2": "page b"}


def test_the_entry_says_what_was_called(harness: Harness, colour: Colour) -> None:
    """I1: ordinal, kind and name are stored, and `name#n` addresses a call."""

    @colour.step
    def book(seat: str) -> str:
        return seat

    @colour.task
    def trip() -> Body[None]:
        yield book("1a")
        yield colour.sleep("1h")
        yield book("1b")

    harness.mock("book#2", "elsewhere")
    run = harness.run(trip)
    done = [(entry.key, str(entry.kind), entry.name, entry.data) for entry in run.journal if entry.phase == "done"]
    assert [each[:3] for each in done] == [("1", "step", "book"), ("2", "sleep", "sleep"), ("3", "step", "book")]
    assert (done[0][3], done[2][3]) == ("1a", "elsewhere")


def test_a_key_takes_the_place_of_the_number(harness: Harness, colour: Colour) -> None:
    """I1: calls with keys may change places from one replay to the next."""
    turned: list[int] = []

    @colour.step
    def book(seat: str) -> str:
        return f"booked {seat}"

    @colour.step
    def end() -> None:
        pass

    @colour.task
    def trip() -> Body[dict[str, str]]:
        turned.append(1)
        seats = ["a", "b"] if len(turned) == 1 else ["b", "a"]
        booked = {}
        for seat in seats:
            booked[seat] = yield book.options(key=seat)(seat)
        yield end()
        return booked

    harness.crash("end")
    run = harness.run(trip)
    assert run.output == {"a": "booked a", "b": "booked b"}
    assert len(turned) >= 2
    run.assert_skipped("book[a]", "book[b]")


def test_a_key_is_unique_in_its_scope(harness: Harness, colour: Colour) -> None:
    """I1: given twice it is refused, but another branch may use it too."""

    @colour.step
    def book(seat: str) -> str:
        return seat

    @colour.task
    def twice() -> Body[None]:
        yield book.options(key="k")("1a")
        yield book.options(key="k")("1b")

    run = harness.run(twice)
    assert isinstance(run.error, UsageError)
    assert "'k'" in str(run.error)
    run.assert_calls(book=1)

    @task
    async def branches() -> tuple[str, str]:
        async def one(page: str) -> str:
            return await load.options(key="k")(page)

        return await aio.gather(one("a"), one("b"))

    assert harness.run(branches).output == ("page a", "page b")


async def _two_pages(book: str) -> list[str]:
    """A helper that calls several steps."""
    first = await load(f"{book}1")
    return [first, await load(f"{book}2")]


@pytest.mark.parametrize("late", ["x1", "y1"])
def test_helpers_run_side_by_side(harness: Harness, late: str) -> None:
    """I1: each branch has numbers of its own, so that it does not matter who is first, nor after a crash."""

    @task
    async def reads() -> tuple[list[str], list[str]]:
        return await aio.gather(_two_pages("x"), _two_pages("y"))

    harness.delay(load, "1h", times=1, when=lambda page: page == late)
    harness.crash(load, at="after_effect", when=lambda page: page == "y2")
    run = harness.run(reads)
    assert run.output == (["page x1", "page x2"], ["page y1", "page y2"])
    assert len({entry.key for entry in run.journal}) == 4


def test_branches_of_all_kinds(harness: Harness) -> None:
    """I1: those of `gather`, `each` and `work` too, at every crash and in every order."""

    def two(page: str) -> list[str]:
        return [save(f"{page}1"), save(f"{page}2")]

    @task
    def reads() -> list[object]:
        beside = work(two, "w")
        both = gather(save.bind("x"), save.bind("y"))
        return [both, each(["m", "n"], two), beside.name]

    found = harness.explore(reads, budget=60)
    assert found.safe, found.smallest
    run = harness.run(reads)
    assert run.output == [
        ("saved x", "saved y"),
        [["saved m1", "saved m2"], ["saved n1", "saved n2"]],
        "two",
    ]
    keys = [entry.key for entry in run.journal if entry.name == "save"]
    assert len(keys) == len(set(keys)) == 6


def test_branches_of_a_sequencer(harness: Harness, colour: Colour) -> None:
    """I1: those of `parallel` have numbers of their own as well, whoever is first."""

    @colour.step
    def write(page: str) -> str:
        return f"{page}+"

    twice = sequencer("writes-twice").then(write).then(write)
    both = sequencer("writes-both").parallel(
        {"x": (lambda page: f"{page}x", twice), "y": (lambda page: f"{page}y", twice)}
    )
    harness.delay(write, "1h", times=1, when=lambda page: page == "ax")
    harness.crash(write, at="after_effect", when=lambda page: page == "ax+")
    run = harness.run(both, "a")
    assert run.output == {"x": "ax++", "y": "ay++"}
    keys = [entry.key for entry in run.journal if entry.name == "write"]
    assert len(keys) == len(set(keys)) == 4


# ---- I2: whose call it is -------------------------------------------------------------------------------------------


def test_a_foreign_asyncio_task_is_refused(harness: Harness) -> None:
    """I2: where the order would be ambiguous; the error says what to use."""

    @task
    async def reads() -> list[str]:
        async with asyncio.TaskGroup() as group:
            pages = [group.create_task(_two_pages(book)) for book in "xy"]
        return [page for both in pages for page in both.result()]

    run = harness.run(reads)
    assert isinstance(run.error, ExceptionGroup)
    assert run.error.subgroup(AmbiguousOrder) is not None
    assert "aio.gather" in str(run.error.exceptions[0])
    run.assert_calls(load=0)


def test_asyncio_over_steps_is_fine(harness: Harness) -> None:
    """I2: `asyncio.gather(a(x), b(y))` and `TaskGroup.create_task(a(x))` have their numbers already."""

    @task
    async def reads() -> list[str]:
        first = await asyncio.gather(load("a"), load("b"))
        async with asyncio.TaskGroup() as group:
            pages = [group.create_task(load(page)) for page in "cd"]
        return [*first, *(page.result() for page in pages)]

    harness.explore(reads).assert_safe()
    harness.crash("load#4")
    run = harness.run(reads)
    assert run.output == ["page a", "page b", "page c", "page d"]


def test_a_call_is_a_coroutine(harness: Harness) -> None:
    """I2: a real one, whose number is taken already."""
    seen: list[bool] = []

    @task
    async def reads() -> str:
        call = load("a")
        seen.append(asyncio.iscoroutine(call))
        return await call

    assert harness.run(reads).ok
    assert set(seen) == {True}


def test_a_bare_thread_is_warned_of(harness: Harness) -> None:
    """I2: a step that is called there while its task runs is a plain function, and says that it is not durable."""
    warned: list[type[Warning]] = []

    def aside() -> None:
        with pytest.warns(NotDurableWarning, match="save") as caught:
            save("a")
        warned.extend(each.category for each in caught)

    @task
    def reads() -> None:
        thread = threading.Thread(target=contextvars.Context().run, args=(aside,))
        thread.start()
        thread.join()

    run = harness.run(reads)
    assert run.ok
    assert warned == [NotDurableWarning]
    assert run.journal == ()


# ---- I3: the replay is held against the record ----------------------------------------------------------------------


def _another_name(_colour: Colour, _book: Any, pay: Any) -> Body[None]:  # noqa: ANN401  # steps of either colour
    yield pay("1a")


def _another_kind(colour: Colour, _book: Any, _pay: Any) -> Body[None]:  # noqa: ANN401
    yield colour.sleep(1)


def _nothing(_colour: Colour, _book: Any, _pay: Any) -> Body[None]:  # noqa: ANN401
    yield from ()


@pytest.mark.parametrize("changed", [_another_name, _another_kind, _nothing])
def test_other_code_is_noticed(
    harness: Harness, colour: Colour, changed: Callable[[Colour, Any, Any], Body[None]]
) -> None:
    """I3: another name, another kind, or a call that is not made again block the run, which fixed code resumes."""
    released = [False]
    undone: list[str] = []

    @colour.step
    def book(seat: str) -> str:
        return seat

    @book.compensate
    def cancel(seat: str) -> None:
        undone.append(seat)

    @colour.step
    def pay(seat: str) -> str:
        return seat

    @colour.task
    def trip() -> Body[str]:
        if released[0]:
            yield from changed(colour, book, pay)
        else:
            yield book("1a")
            yield colour.sleep("1d")
            yield pay("1a")
        return "there"

    run = harness.start(trip)
    released[0] = True
    harness.clock.advance("2d")
    assert run.status is RunStatus.BLOCKED
    assert isinstance(run.error, NonDeterminismError)
    assert "book" in str(run.error)
    assert not undone
    assert run.compensated == []

    released[0] = False
    harness.flow.retry(run.run_id)
    harness.clock.advance("2d")
    assert run.output == "there"
    run.assert_calls(book=1, pay=1)


def test_the_difference_is_shown(harness: Harness, colour: Colour) -> None:
    """I3: the error says what was recorded, what was called, and the likely cause."""
    released = [False]

    @colour.step
    def book(seat: str) -> str:
        return seat

    @colour.step
    def pay(seat: str) -> str:
        return seat

    @colour.task
    def trip() -> Body[None]:
        yield (pay if released[0] else book)("1a")
        yield colour.sleep("1d")

    run = harness.start(trip)
    released[0] = True
    harness.clock.advance("2d")
    told = str(run.error)
    assert "book" in told
    assert "pay" in told
    assert "recorded" in told
    assert "patched" in told or "changed" in told


def test_other_arguments_fail_in_the_harness(harness: Harness, colour: Colour) -> None:
    """I3: the digest of the arguments differs; outside of a test that would be a warning."""

    @colour.step
    def book(seat: int) -> int:
        return seat

    @colour.task
    def trip() -> Body[None]:
        yield book(random.randrange(10**9))
        yield book(0)

    harness.crash("book#2")
    with pytest.raises(ReplayDiffers, match="book"):
        harness.run(trip)


def test_what_does_not_count_as_another_argument(harness: Harness, colour: Colour) -> None:
    """I3: defaults that are written out, and what cannot be encoded, are left out of the digest."""
    turns: list[int] = []

    @colour.step
    def book(seat: str, handler: object, row: int = 7) -> str:
        del handler
        return f"{seat}{row}"

    @colour.task
    def trip() -> Body[str]:
        turns.append(1)
        booked = yield book("a", object()) if len(turns) == 1 else book("a", object(), 7)
        yield book("b", None)
        return booked

    harness.crash("book#2")
    assert harness.run(trip).output == "a7"
    assert len(turns) >= 2


# ---- I4: outcomes in the order of the record ------------------------------------------------------------------------


def test_as_completed_decides_the_same(harness: Harness) -> None:
    """I4: whoever was first the first time is first on replay."""
    orders: list[list[str]] = []

    @task
    async def reads() -> None:
        order = [await page for page in asyncio.as_completed([load("a"), load("b"), load("c")])]
        orders.append(order)
        await load("end")

    harness.delay(load, "3h", when=lambda page: page == "a")
    harness.delay(load, "1h", when=lambda page: page == "b")
    harness.crash(load, at="after_effect", when=lambda page: page == "end")
    run = harness.run(reads)
    assert len(orders) >= 2
    assert [entry.data for entry in run.journal] == [*orders[0], "page end"]
    assert all(order == orders[0] for order in orders), orders


def test_wait_decides_the_same(harness: Harness) -> None:
    """I4: so do `asyncio.wait` and races."""
    winners: list[set[str]] = []

    @task
    async def reads() -> None:
        pages = [asyncio.ensure_future(load(page)) for page in "ab"]
        done, _ = await asyncio.wait(pages, return_when=asyncio.FIRST_COMPLETED)
        winners.append({page.result() for page in done})
        await asyncio.gather(*pages)
        await load("end")

    harness.delay("load#1", "1h")
    harness.crash("load#3", at="after_effect")
    assert harness.run(reads).ok
    assert len(winners) >= 2
    assert all(won == {"page b"} for won in winners)


# ---- I5: inside a step ----------------------------------------------------------------------------------------------


def test_steps_in_a_step_are_functions_of_it(harness: Harness, colour: Colour) -> None:
    """I5: they are recorded with it, not by themselves, and have no undo of their own there."""
    undone: list[str] = []

    @step
    def book(seat: str) -> str:
        return seat

    @book.compensate
    def cancel(seat: str) -> None:
        undone.append(seat)

    @colour.step
    def book_both() -> list[str]:
        return [book("1a"), book("1b")]

    @colour.step(attempts=1)
    def broken() -> None:
        raise OSError

    @colour.task
    def trip() -> Body[None]:
        yield book_both()
        yield broken()

    run = harness.run(trip)
    assert isinstance(run.error, OSError)
    assert [entry.name for entry in run.journal if entry.kind == "step"] == ["book_both", "broken"]
    assert not undone
    run.assert_compensated([])


def test_a_step_with_an_undo_in_step_run(harness: Harness) -> None:
    """I5: `step.run` around one uses the function alone."""
    undone: list[str] = []

    @step
    def book(seat: str) -> str:
        return seat

    @book.compensate
    def cancel(seat: str) -> None:
        undone.append(seat)

    @task
    def trip() -> None:
        step.run("booking", book, "1a")
        raise OSError

    run = harness.run(trip)
    assert [entry.name for entry in run.journal if entry.kind == "step"] == ["booking"]
    assert not undone


@task
def child() -> str:
    """What a step must not begin."""
    return "grown up"


@pytest.mark.parametrize(
    "forbidden",
    [
        lambda: sleep(1),
        lambda: child.trigger(),  # noqa: PLW0108  # named by the test
        lambda: work(save, "a"),
        lambda: wait_for_event("e"),
    ],
    ids=["sleep", "trigger", "work", "wait_for_event"],
)
def test_what_a_step_cannot_do(harness: Harness, forbidden: Callable[[], object]) -> None:
    """I5: it is refused at once, and the error says what to do in its place; `emit` may be called."""

    @step(attempts=3)
    def naughty() -> None:
        emit("progress", 1)
        forbidden()

    @task
    def trip() -> None:
        naughty()

    run = harness.run(trip)
    assert isinstance(run.error, NotAllowedInStep)
    assert "naughty" in str(run.error)
    assert "task" in str(run.error)
    run.assert_calls(naughty=1)
    items = [item.data for item in harness.flow.handle(run.run_id).items() if item.name == "progress"]
    assert items == [1]


def test_a_step_may_wait_for_children(harness: Harness) -> None:
    """I5: it keeps its thread and gives its slot back, so that the child can run."""

    @task
    def trip() -> str:
        handle = child.trigger()
        return step.run("wait", lambda: handle.result(timeout="1h"))

    run = harness.run(trip)
    assert run.output == "grown up"
    run.assert_calls(wait=1)


# ---- I6: facts ------------------------------------------------------------------------------------------------------


def test_chance_follows_from_the_run(harness: Harness, colour: Colour) -> None:
    """I6: `uuid4` and `rng` give the same on every replay, another value at each call, and write nothing."""
    drawn: list[tuple[uuid.UUID, uuid.UUID, float, float]] = []

    @colour.step
    def end() -> None:
        pass

    @colour.task
    def trip() -> Body[None]:
        drawn.append((uuid4(), uuid4(), rng().random(), rng().random()))
        yield end()

    harness.crash("end")
    run = harness.run(trip)
    assert len(drawn) >= 2
    assert len(set(drawn)) == 1
    assert len(set(drawn[0])) == 4
    assert [entry.name for entry in run.journal] == ["end"]
    harness.run(trip)
    assert not {*drawn[-1]} & {*drawn[0]}


def test_chance_of_branches(harness: Harness) -> None:
    """I6: it follows from the number of the call, not from who is first."""
    drawn: dict[str, list[uuid.UUID]] = {"x": [], "y": []}

    async def one(name: str) -> None:
        await load(name)
        drawn[name].append(uuid4())
        await load(name)

    @task
    async def reads() -> None:
        await aio.gather(one("x"), one("y"))

    harness.delay(load, "1h", times=1, when=lambda page: page == "x")
    harness.crash(load, at="after_effect", when=lambda page: page == "x")
    assert harness.run(reads).ok
    assert all(len(set(numbers)) == 1 for numbers in drawn.values())
    assert drawn["x"][0] != drawn["y"][0]


def test_now_is_the_time_of_the_record(harness: Harness, colour: Colour) -> None:
    """I6: of the last recorded thing that this branch has seen: the same on replay, however late that is."""
    seen: list[list[datetime]] = []

    @colour.step
    def book() -> None:
        pass

    @colour.step
    def end() -> None:
        pass

    @colour.task
    def trip() -> Body[None]:
        begun = now()
        yield book()
        booked = now()
        yield colour.sleep("1d")
        seen.append([begun, booked, now()])
        yield end()

    harness.delay("book", "1h")
    harness.crash("end")
    run = harness.run(trip)
    assert seen[0] == seen[1]
    hours = [(later - seen[0][0]).total_seconds() / 3600 for later in seen[0]]
    assert hours == [0, 1, 25]
    assert [entry.at_ms for entry in run.journal if entry.name == "book"] == [int(seen[0][1].timestamp() * 1000)]


def test_the_idempotency_key_is_stable(harness: Harness, colour: Colour) -> None:
    """I1: a call is the same call on every attempt and in every process, so its key for others is the same."""
    keys: list[str] = []

    @colour.step
    def pay() -> None:
        keys.append(current_run().idempotency_key)

    @colour.task
    def trip() -> Body[None]:
        yield pay()
        yield pay()

    harness.crash("pay#1", at="after_effect")
    harness.lose_lease("pay#2", at="after_effect")
    assert harness.run(trip).ok
    assert len(keys) == 4
    assert keys[0] == keys[1] != keys[2] == keys[3]
