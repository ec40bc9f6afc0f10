"""Threads of a run take turns, and the orders in which they complete their steps are explored."""

from __future__ import annotations

import threading

from flowkit import each, gather, sequencer, step, task, wait_for_work, work
from flowkit_testing import Harness
from flowkit_testing.points import Injury, Point, token_of


@step
def add(number: int) -> int:
    """Gives back what it gets."""
    return number


@task(id="turns-collects")
def collects(count: int) -> list[int]:
    """Unsafe: its result is the order in which its threads happen to be done."""
    done: list[int] = []

    def line(number: int) -> None:
        done.append(add(number))

    each(range(count), line)
    return done


@task(id="turns-gathers")
def gathers() -> list[object]:
    """Safe: results come in the order of the calls."""
    work(add, 0)
    results = gather(add.bind(1), add.bind(2))
    return [*results, *(outcome.value for outcome in wait_for_work())]


def late(number: int, rank: int = 1) -> Injury:
    """The step of a line comes late."""
    return Injury("late", Point(f"run-1: invoke add (1.{number}.1), attempt 1", "after", rank))


def test_threads_are_done_in_the_same_order_each_time(harness: Harness) -> None:
    """Without latecomers it is the order of the calls, however threads are scheduled."""
    for _ in range(5):
        assert harness.run(collects, 6).output == [0, 1, 2, 3, 4, 5]


def test_a_result_that_depends_on_the_order_of_threads_is_found(harness: Harness) -> None:
    """In the order of the calls nothing is wrong; where another line is done first, a crash shows it."""
    found = harness.explore(collects, 3)

    assert "9 of 9 orders of completion tried" in found.notes
    assert found.smallest is not None
    assert found.smallest.schedule[0].fault == "late"
    assert "has another result than without the fault" in found.smallest.wrong[0]


def test_latecomers_come_in_their_order(harness: Harness) -> None:
    """A token replays one order: line 1 is last, line 0 the one before it."""
    schedule = (late(0, 1), late(1, 2), Injury("crash", Point("run-1: record step add (1.1.1) done", "before")))
    trial = Harness(harness.flow.engine.storage, replay=token_of(schedule))
    found = trial.explore(collects, 4)
    trial.close()
    timeline = found.violations[0].timeline if found.violations else ()
    recorded = [line.removeprefix("run-1: ") for line in timeline if "recorded" in line]

    assert recorded == ["add#3 recorded done", "add#4 recorded done", "add recorded done", "add#2 recorded done"]


def test_side_work_and_lines_in_all_orders(harness: Harness) -> None:
    """What does not depend on the order is safe in each."""
    found = harness.explore(gathers)

    found.assert_safe()
    assert found.orders == 9


def test_a_race_is_won_by_the_same_line_each_time(harness: Harness) -> None:
    """Of lines that are equally long, the first call is done first."""
    race = sequencer("turns-race", input=int).race([add, (lambda number: number + 1, add)])

    assert [harness.run(race, 1).output for _ in range(5)] == [1] * 5


def test_threads_that_wait_for_each_other_by_themselves(harness: Harness) -> None:
    """Turns are no trap: whoever holds one and waits for a thread that waits for its turn is passed over."""
    both = threading.Barrier(2)

    @step
    def meet() -> int:
        both.wait()
        return 1

    @task(id="turns-meets")
    def meets() -> int:
        return sum(gather(meet.bind(), meet.bind()))

    assert harness.run(meets).output == 2
