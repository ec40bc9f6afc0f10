"""D1-D4, D7, D8: what is done stays done."""

import itertools

import pytest

from flowkit import StepInterrupted, current_run, step, task
from flowkit.entries import Phase
from flowkit_testing import Harness
from flowkit_testing.faults import AT, At, Outcome
from tests.promises.steps import AT_ONCE
from tests.promises.tasks import Seats, drawing, paused, purchase
from tests.rules.colours import Body, Colour


def test_a_result_is_stored_before_the_next_line(harness: Harness, colour: Colour) -> None:
    """D1: as soon as a step has returned, its result is in the storage."""
    stored: dict[str, list[object]] = {}

    @colour.step
    def book(seat: str) -> str:
        return f"booked {seat}"

    @colour.task
    def trip() -> Body[None]:
        yield book("1a")
        stored.setdefault("1a", [entry.data for entry in harness.report(current_run().id).journal])
        yield book("1b")
        stored.setdefault("1b", [entry.data for entry in harness.report(current_run().id).journal])

    assert harness.run(trip).ok
    assert stored == {"1a": ["booked 1a"], "1b": ["booked 1a", "booked 1b"]}


def test_a_result_survives_the_process(harness: Harness, colour: Colour) -> None:
    """D1: a process that dies on the next line has lost nothing."""
    harness.crash("use", at="before_effect")
    run = harness.run(drawing(colour))
    assert run.output == 1
    run.assert_skipped("draw")


@pytest.mark.parametrize("at", AT)
def test_what_is_completed_never_runs_again_after_a_crash(harness: Harness, colour: Colour, at: At) -> None:
    """D2: the journal answers for the step before the crash, with what it has returned then."""
    ran: list[str] = []

    @colour.step
    def book(seat: str) -> str:
        ran.append(seat)
        return f"{seat} as number {len(ran)}"

    @colour.task
    def trip() -> Body[list[str]]:
        return [(yield book("1a")), (yield book("1b")), (yield book("1c"))]

    harness.crash("book#2", at=at)
    harness.crash("book#3", at="before_effect")
    run = harness.run(trip)
    assert ran.count("1a") == ran.count("1c") == 1
    assert run.output is not None
    assert run.output[0] == "1a as number 1"
    run.assert_skipped("book#1")


def test_what_is_completed_never_runs_again_on_a_retry(harness: Harness, colour: Colour) -> None:
    """D2: a task that starts over skips what it has done."""
    tries: list[int] = []

    @colour.step
    def book() -> str:
        return "booked"

    @colour.task(retry=AT_ONCE)
    def trip() -> Body[str]:
        booked = yield book()
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("between the steps")
        return booked

    run = harness.run(trip)
    assert run.output == "booked"
    run.assert_calls(book=1)
    assert len(tries) >= 3


def test_what_is_completed_never_runs_again_on_resuming(harness: Harness, colour: Colour) -> None:
    """D2: a run that has waited goes on behind what it has done."""
    run = harness.start(paused(colour))
    run.assert_calls(book=1)
    harness.clock.advance("4d")
    assert run.output == ["1a", "1b"]
    run.assert_skipped("book#1")
    run.assert_calls(book=2)


@pytest.mark.parametrize("at", AT)
def test_what_is_completed_never_runs_again_elsewhere(harness: Harness, colour: Colour, at: At) -> None:
    """D2: nor in another process that has taken the run over."""
    seats = Seats(colour, "1a", "1b")
    harness.lose_lease("book#2", at=at)
    run = harness.run(seats.trip)
    assert run.output == ["1a", "1b"]
    assert seats.ran.count("1a") == 1
    run.assert_skipped("book#1")


def test_nothing_completed_runs_again_anywhere(harness: Harness, colour: Colour) -> None:
    """D2: wherever the process dies, any number of times."""
    harness.explore(Seats(colour, "1a", "1b", "1c", attempts=2).trip).assert_safe()


@pytest.mark.parametrize(
    ("at", "times"), [("before_effect", 1), ("after_effect", 2), ("before_commit", 2), ("after_commit", 1)]
)
def test_a_step_in_flight_runs_again(harness: Harness, colour: Colour, at: At, times: int) -> None:
    """D3: whatever was not recorded when the process died is done once more."""
    ran: list[int] = []

    @colour.step
    def pay() -> str:
        ran.append(1)
        return "paid"

    @colour.task
    def trip() -> Body[str]:
        return (yield pay())

    harness.crash("pay", at=at)
    assert harness.run(trip).output == "paid"
    assert len(ran) == times


@pytest.mark.parametrize("at", ["before_effect", "after_effect", "before_commit"])
def test_a_step_that_may_run_once_is_interrupted(harness: Harness, colour: Colour, at: At) -> None:
    """D3: instead of running again it raises `StepInterrupted`, on every replay, and the task decides."""
    ran: list[int] = []

    @colour.step(at_most_once=True)
    def pay() -> str:
        ran.append(1)
        return "paid"

    @colour.step
    def ask_the_bank() -> str:
        return "the bank knows"

    @colour.task
    def trip() -> Body[str]:
        try:
            return (yield pay())
        except StepInterrupted:
            return (yield ask_the_bank())

    harness.crash("pay", at=at)
    harness.crash("ask_the_bank", at="after_effect")
    run = harness.run(trip)
    assert run.output == "the bank knows"
    assert len(ran) == (0 if at == "before_effect" else 1)


def test_a_step_that_may_run_once_and_did_is_not_interrupted(harness: Harness, colour: Colour) -> None:
    """D3: a crash after its commit changes nothing."""
    harness.crash("pay", at="after_commit")
    run = harness.run(purchase(colour, at_most_once=True))
    assert run.output == "paid"
    run.assert_skipped("pay")


def test_the_start_is_recorded_first(harness: Harness, colour: Colour) -> None:
    """D3: while it runs, the storage knows that it was begun."""
    seen: list[tuple[str, str]] = []

    @colour.step(at_most_once=True)
    def pay() -> str:
        seen.extend((entry.name, entry.phase) for entry in harness.report("run-1").journal)
        return "paid"

    @colour.task
    def trip() -> Body[str]:
        return (yield pay())

    assert harness.run(trip).ok
    assert seen == [("pay", Phase.BEGUN)]


@pytest.mark.parametrize(("options", "calls"), [({}, 1), ({"retry": AT_ONCE}, 3), ({"attempts": 2}, 2)], ids=str)
def test_a_step_that_may_run_once_has_one_attempt(
    harness: Harness, colour: Colour, options: dict[str, object], calls: int
) -> None:
    """D3: whatever its task says, unless the step has a policy of its own."""
    harness.fail("pay", error=OSError("no line"))
    run = harness.run(purchase(colour, {"retry": AT_ONCE}, at_most_once=True, **options))
    assert isinstance(run.error, OSError)
    run.assert_calls(pay=calls)


@pytest.mark.parametrize("at", AT)
def test_one_outcome_is_recorded(harness: Harness, colour: Colour, at: At) -> None:
    """D4: a worker that lost its lease records nothing; the run has the outcome of whoever took it over."""
    harness.lose_lease("draw", at=at)
    run = harness.run(drawing(colour))
    drawn = [entry.data for entry in run.journal if entry.name == "draw"]
    assert len(drawn) == 1
    assert run.output == drawn[0] == (1 if at == "after_commit" else 2)
    assert [entry.name for entry in run.journal] == ["draw", "use"]


@pytest.mark.parametrize("at", ["before_commit", "after_commit"])
def test_a_zombie_finishes_nothing(harness: Harness, colour: Colour, at: At) -> None:
    """D4: the end of a run is that of its owner."""
    numbers = itertools.count(1)

    @colour.step
    def book() -> str:
        return "booked"

    @colour.task
    def trip() -> Body[int]:
        yield book()
        return next(numbers)  # not durable, on purpose: it tells whose end was recorded

    harness.lose_lease("book", at=at)
    run = harness.run(trip)
    assert run.output is not None
    assert [entry.name for entry in run.journal] == ["book"]
    again = harness.flow.handle(run.run_id).result(timeout=1)
    assert again == run.output


def test_leases_may_be_lost_anywhere(harness: Harness, colour: Colour) -> None:
    """D4: at every effect a stranger may take over: the first one records, renews and finishes nothing."""
    harness.explore(paused(colour), faults=("lease",)).assert_safe()


@pytest.mark.parametrize("outcome", ["not_applied", "applied_ack_lost"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_lost_answer_is_asked_for_again(harness: Harness, colour: Colour, nth: int, outcome: Outcome) -> None:
    """D7: the commit is sent again and applied once, by the same worker: nothing is replayed for it."""
    seats = Seats(colour, "1a", "1b")
    assert harness.run(seats.trip).ok
    begun = seats.begun
    harness.storage_fault("commit", nth=nth, outcome=outcome)
    run = harness.run(seats.trip)
    assert run.output == ["1a", "1b"]
    assert [entry.data for entry in run.journal] == ["1a", "1b"]
    run.assert_calls(book=2)
    assert seats.begun == 2 * begun


def test_lost_answers_anywhere(harness: Harness, colour: Colour) -> None:
    """D7: of every commit, whether it was applied or not."""
    harness.explore(Seats(colour, "1a", "1b").trip, faults=("lost_ack", "not_applied")).assert_safe()


def test_an_argument_that_is_changed_is_reported(harness: Harness, colour: Colour) -> None:
    """D8: what a step does to its arguments is missing on a replay, and the harness says so, naming the step."""

    @colour.step
    def add(basket: list[str]) -> int:
        basket.append("apple")
        return len(basket)

    @colour.step
    def pay(basket: list[str]) -> str:
        del basket  # its result would not tell
        return "paid"

    @colour.task
    def shop() -> Body[str]:
        basket: list[str] = []
        yield add(basket)
        return (yield pay(basket))

    found = harness.explore(shop)
    assert not found.safe
    assert "'pay'" in str(found.smallest)
    assert "D8" in str(found.smallest)


def test_an_argument_that_is_left_alone_is_fine(harness: Harness, colour: Colour) -> None:
    """D8: a step that returns what is new is not reported."""

    @colour.step
    def add(basket: list[str]) -> list[str]:
        return [*basket, "apple"]

    @colour.step
    def pay(basket: list[str]) -> str:
        return f"paid for {len(basket)}"

    @colour.task
    def shop() -> Body[str]:
        return (yield pay((yield add([]))))

    harness.explore(shop).assert_safe()
    assert harness.run(shop).output == "paid for 1"


def test_steps_of_both_colours_in_one_task(harness: Harness) -> None:
    """D2: an async task may call sync steps plainly; they are as durable."""

    @step
    def book() -> str:
        return "booked"

    @step
    async def pay() -> str:
        return "paid"

    @task
    async def trip() -> list[str]:
        return [book(), await pay(), await book.aio()]

    harness.crash("book#2", at="after_effect")
    run = harness.run(trip)
    assert run.output == ["booked", "paid", "booked"]
    run.assert_skipped("book#1", "pay")
    assert run.calls("book#2") == 2
