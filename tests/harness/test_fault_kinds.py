"""What holds of every kind of fault: which calls it means, that it must happen, and that nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from attrs import evolve

from flowkit import Retry, saga, sleep, step, task
from flowkit.memory import MemoryStorage
from flowkit.records import Claimed, Exactly, Grant, NewRun, Submitted, Want
from flowkit_testing import FaultNeverFired, Harness, PredicateFailed
from flowkit_testing.forward import Forward
from flowkit_testing.plan import MOST_UNANSWERED

Arrange = Callable[..., None]


@step(retry=Retry(attempts=2, delay=0), timeout=10)
def charge(order: str, amount: int) -> str:
    """The same step several times in a run."""
    return f"{order} {amount}"


@task
def charges(order: str) -> list[str]:
    """Three calls, which differ by their arguments alone."""
    return [charge(order, 1), charge(order, amount=2), charge(order, 3)]


@task
def parent(order: str) -> list[str]:
    """Two children, inline."""
    return [*charges(order), *charges("other")]


@task
def naps() -> None:
    """Waits for a day."""
    sleep("1d")


def twice(order: str, amount: int) -> bool:
    """The second call is meant."""
    return order == "7" and amount == 2


def other(order: str) -> bool:
    """The second child is meant."""
    return order == "other"


AROUND = ("before_effect", "after_effect", "before_commit", "after_commit")
OF_STEPS: dict[str, tuple[Arrange, int, int]] = {  # what is arranged, attempts of the second call, and of the third
    "fail": (lambda harness, **which: harness.fail("charge", times=1, **which), 2, 1),
    "mock": (lambda harness, **which: harness.mock("charge", "7 2", **which), 1, 1),
    "timeout": (lambda harness, **which: harness.timeout("charge", times=1, **which), 2, 1),
    "delay": (lambda harness, **which: harness.delay("charge", 5, **which), 1, 1),
}
OF_PROCESSES: dict[str, tuple[Arrange, int, int]] = {
    f"{kind} {at}": (
        lambda harness, kind=kind, at=at, **which: getattr(harness, kind)("charge", at=at, **which),
        1 if at == "after_commit" else 2,
        2 if (kind, at) == ("lose_lease", "after_commit") else 1,  # the one that does not know begins it
    )
    for kind in ("crash", "lose_lease")
    for at in AROUND
}
ALL = OF_STEPS | OF_PROCESSES


@pytest.mark.parametrize("kind", ALL)
def test_by_a_predicate_on_the_arguments(kind: str, harness: Harness) -> None:
    """It happens to the call whose arguments are meant, and to no other."""
    arrange, second, third = ALL[kind]
    arrange(harness, when=twice)
    run = harness.run(charges, "7")
    assert run.output == ["7 1", "7 2", "7 3"]
    run.assert_calls(("charge#1", 1), ("charge#2", second), ("charge#3", third))
    harness.check()


@pytest.mark.parametrize("kind", ALL)
def test_no_call_is_meant(kind: str) -> None:
    """A fault that never happens fails the test, whatever its kind, and is told with its predicate."""
    harness = Harness(MemoryStorage())
    arrange, *_ = ALL[kind]
    arrange(harness, when=lambda **_: False)
    arrange(harness)
    with pytest.raises(FaultNeverFired, match=rf"{kind.partition(' ')[0]}\('charge'.*, when=<lambda>\).*Steps.*none"):
        harness.check()


def test_a_child_by_its_arguments(harness: Harness) -> None:
    """A task that is called by another one is meant by what it is called with."""
    harness.crash(charges, at="before_effect", when=other)
    run = harness.run(parent, "7")
    assert run.ok
    assert run.skips(f"{charges.spec.id}#1") == 1
    assert run.skips(f"{charges.spec.id}#2") == 0


def test_a_predicate_that_fails_is_the_tests_mistake() -> None:
    """It is told with what it was called with, and is no failure of the workflow."""
    harness = Harness(MemoryStorage())
    harness.crash("charge", when=lambda order: order == "7")
    with pytest.raises(PredicateFailed, match=r"crash\('charge', .*\) is called as the step is, here with \('7', 1\)"):
        harness.run(charges, "7")


@pytest.mark.parametrize("operation", ["submit", "claim", "commit", "load", "send", "renew"])
def test_a_storage_fault_that_never_happens(operation: str) -> None:
    """Whatever the call, it is told."""
    harness = Harness(MemoryStorage())
    harness.storage_fault(operation, nth=99)
    harness.run(charges, "7")
    with pytest.raises(FaultNeverFired, match=rf"storage_fault\('{operation}', nth=99"):
        harness.check()


def test_a_likely_name_is_offered(harness: Harness) -> None:
    """A slip of the finger is told as one."""
    mine = Harness(MemoryStorage())
    mine.fail("chrage")
    mine.run(charges, "7")
    with pytest.raises(FaultNeverFired, match="did you mean 'charge'"):
        mine.check()
    del harness


# ---- what is left behind ---------------------------------------------------------------------------------------------


class GrantsNothing(Forward):
    """Never finds a run that may be claimed."""

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs, or not."""
        del want
        return self._storage.claim(grant, Exactly("nobody"), limit, now_ms=now_ms)


class GrantsAtBirth(Forward):
    """Gives new runs to somebody who does not know of it."""

    def submit(self, runs: Sequence[NewRun], *, now_ms: int | None = None) -> list[Submitted]:
        """Create runs, wrongly."""
        answers = self._storage.submit([evolve(new, grant=None) for new in runs], now_ms=now_ms)
        for new in runs:
            self._storage.claim(Grant(self.worker, new.run_id, 60_000), Exactly(new.run_id), 1, now_ms=now_ms)
        return answers

    worker = ""


def test_a_timer_that_woke_nobody() -> None:
    """A run whose time has come and that nobody takes up is an orphan."""
    harness = Harness(GrantsNothing(MemoryStorage()))
    harness.start(naps)
    harness.clock.advance("2d")
    with pytest.raises(AssertionError, match="left behind by the test: the timer of run 'run-1' rang and woke nobody"):
        harness.check()


def test_a_run_that_nobody_takes_up() -> None:
    """A run in a queue that is read, and is not claimed, is an orphan."""
    harness = Harness(GrantsNothing(MemoryStorage()))
    harness.flow.start(charges.options(run_id="a"), "7")
    with pytest.raises(AssertionError, match="run 'a' is pending and nobody takes it up"):
        harness.check()


def test_a_lease_that_nobody_uses() -> None:
    """A run that a living process has, and does not advance, is an orphan."""
    storage = GrantsAtBirth(MemoryStorage())
    harness = Harness(storage)
    storage.worker = harness.flow.engine.worker_id
    harness.flow.start(charges.options(run_id="a"), "7")
    with pytest.raises(AssertionError, match="run 'a' is leased by a process that lives and does not advance it"):
        harness.check()


# ---- in explorations -------------------------------------------------------------------------------------------------


@step
def book(what: str) -> str:
    """With an undo."""
    return what


@book.compensate
def unbook(what: str) -> None:
    """The undo."""


@step
def pay() -> None:
    """After what is booked."""


@task
def trip() -> None:
    """A saga."""
    with saga("trip"):
        book("flight")
        book("hotel")
        pay()


def test_a_failing_undo_is_explored_with_what_makes_it_run(harness: Harness) -> None:
    """By itself it would never run, so it fails after each of the steps that fail."""
    found = harness.explore(trip, failing=("pay", "undo of book"))
    found.assert_safe()
    scenarios = {
        tuple(injury.point.what for injury in tried.schedule if injury.fault == "fail") for tried in found.tried
    }
    assert scenarios == {(), ("pay",), ("pay", "undo of book")}


def test_an_undo_alone_never_runs(harness: Harness) -> None:
    """It is refused, and the message says what is missing."""
    with pytest.raises(AssertionError, match="name a step that is to fail as well"):
        harness.explore(trip, failing=("undo of book",))


def test_all_calls_lose_their_answers(harness: Harness) -> None:
    """Not only commits; one that only reads is lost in one way."""
    found = harness.explore(naps)
    found.assert_safe()
    lost = {(tried.schedule[0].fault, tried.schedule[0].point.what) for tried in found.tried}
    for fault, call in (
        ("lost_ack", "submit"),
        ("lost_ack", "claim"),
        ("not_applied", "claim"),
        ("not_applied", "load"),
    ):
        assert (fault, f"storage: {call}") in lost
    assert ("lost_ack", "storage: load") not in lost


@task
def naps_a_lot() -> None:
    """Is claimed more often than is tried."""
    for _ in range(MOST_UNANSWERED + 2):
        sleep("1d")


def test_more_calls_than_are_tried(harness: Harness) -> None:
    """What is left out is said."""
    found = harness.explore(naps_a_lot, faults=("not_applied",))
    found.assert_safe()
    assert any("calls of the storage were always answered" in note for note in found.notes)


MISTAKES: dict[str, tuple[Callable[[Harness], object], str]] = {
    "no exception": (lambda harness: harness.fail(charge, error="boom"), "error='boom'.*takes an exception"),  # type: ignore[arg-type]  # wrong on purpose
    "no number": (lambda harness: harness.fail(charge, times="2"), "times='2'"),  # type: ignore[arg-type]  # as above
    "no attempt": (lambda harness: harness.mock(charge, "paid", times=0), "times=0"),
    "a text for several": (lambda harness: harness.explore(trip, failing="pay"), r"write \('pay',\)"),
    "no event": (lambda harness: harness.explore(trip, events=["news"]), "'news' is none"),  # type: ignore[list-item]  # as above
    "no argument": (lambda harness: harness.explore(charges), "missing a required argument: 'order'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_the_test_is_told_where_it_is_made(mistake: str, harness: Harness) -> None:
    """What cannot be meant is refused by the call, instead of failing a run in some other way."""
    wrong, told = MISTAKES[mistake]
    with pytest.raises((TypeError, ValueError), match=told):
        wrong(harness)
