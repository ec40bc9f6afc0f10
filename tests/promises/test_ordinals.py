"""I1: which call is which: numbers, keys, and branches with numbers of their own."""

import pytest

from flowkit import UsageError, aio, current_run, each, gather, sequencer, task, work
from flowkit_testing import Harness
from tests.promises.pages import load, save, two_pages
from tests.rules.colours import Body, Colour


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


@pytest.mark.parametrize("late", ["x1", "y1"])
def test_helpers_run_side_by_side(harness: Harness, late: str) -> None:
    """I1: each branch has numbers of its own, so that it does not matter who is first, nor after a crash."""

    @task
    async def reads() -> tuple[list[str], list[str]]:
        return await aio.gather(two_pages("x"), two_pages("y"))

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
