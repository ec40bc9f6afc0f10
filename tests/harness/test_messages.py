"""What a newcomer's mistakes are told as: what is wrong, where, and what to do, in words that need no source."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from flowkit import saga, sleep, step, task, wait_for_event
from flowkit.memory import MemoryStorage
from flowkit_testing import Harness, SwallowedWarning

sent: list[str] = []
count = {"runs": 0}


@step
def charge(order: str) -> str:
    """Harmless."""
    return f"paid {order}"


@step
def pay(amount: int) -> int:
    """Harmless."""
    return amount


@step
def number() -> str:
    """Something else each time."""
    return str(uuid.uuid4())


@step
def fill(basket: list[str]) -> int:
    """Changes what it was given."""
    basket.append("gift")
    return len(basket)


@step
def total(basket: list[str]) -> int:
    """Sees what it was given."""
    return len(basket)


@step
def seat(order: str) -> str:
    """Ignores that it may run twice."""
    sent.append(order)
    return order


@task(id="messages-mail")
def mails(order: str) -> str:
    """Sends a mail beside its steps."""
    receipt = charge(order)
    sent.append(order)
    return receipt


@task(id="messages-seat")
def seats(order: str) -> str:
    """Has a step that takes effect twice."""
    return seat(order)


@task(id="messages-lots")
def lots(_order: str) -> int:
    """Draws by lot."""
    return pay(random.randrange(10**9))


@task(id="messages-number")
def numbered(_order: str) -> str:
    """Has a step that draws by lot."""
    return number()


@task(id="messages-counts")
def counts(_order: str) -> int:
    """Counts in a global variable."""
    count["runs"] += 1
    return pay(count["runs"])


@task(id="messages-thread")
def threaded(order: str) -> int:
    """Calls a step in a thread of its own."""
    thread = threading.Thread(target=charge, args=(order,))
    thread.start()
    thread.join()
    return pay(1)


@task(id="messages-basket")
def baskets(order: str) -> int:
    """Relies on what a step does to its argument."""
    basket = [order]
    fill(basket)
    return total(basket)


@task(id="messages-waits")
def waits(_order: str) -> object:
    """Waits for what nobody sends."""
    return wait_for_event("approval")


def reset() -> None:
    """The world before the run."""
    sent.clear()


WORLD: dict[str, Any] = {"world": lambda: list(sent), "reset": reset}
MISTAKES: dict[str, tuple[Any, dict[str, Any], tuple[str, ...]]] = {
    "an effect outside of steps": (
        mails,
        WORLD,
        ("replay after each recorded step", "now:     ['7', '7']", "without: ['7']", "Do it in a step: step.run("),
    ),
    "an effect that is not idempotent": (seats, WORLD, ("seat (1)", "runs again (rule D3)", "idempotency_key")),
    "random numbers": (lots, {}, ("step 'pay'", "other arguments than were recorded", "flowkit.rng()")),
    "a global variable": (counts, {}, ("step 'pay'", "other arguments", "global variables")),
    "a step that draws by lot": (
        numbered,
        {},
        ("step 'number' (1)", "called with the same arguments, returned", "harness.mock("),
    ),
    "a step in a thread": (threaded, {}, ("step 'charge'", "is not durable", "Use flowkit.gather, each or work")),
    "an argument that a step changes": (
        baskets,
        {},
        ("step 'fill' (1) changes what it was given", 'is now [["7","gift"]]', "Let it return what is new"),
    ),
    "an event that nobody sends": (waits, {}, ("what it waits for never comes", "events=[", "timeout=")),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_remedy(mistake: str) -> None:
    """The message of the exploration says what is wrong, where, and what to do about it."""
    workflow, options, told = MISTAKES[mistake]
    found = Harness(MemoryStorage()).explore(workflow, "7", **options)
    with pytest.raises(AssertionError) as failure:
        found.assert_safe()
    text = str(failure.value)
    for part in told:
        assert part in text, text
    assert "--flowkit-replay=fk1-" in text


@task(id="messages-swallows")
def swallows() -> int:
    """Lets nothing out."""
    try:
        sleep("1h")
    except BaseException:  # noqa: BLE001  # the mistake that is told
        return 0
    return pay(1)


def test_a_bare_except_is_told() -> None:
    """A task that lets nothing out goes well only by the engine's care, so the test is warned."""
    harness = Harness(MemoryStorage())
    assert harness.run(swallows).output == 1
    with pytest.warns(SwallowedWarning, match="went on after it was told to let go .a bare `except:`"):
        harness.check()


def test_a_bare_except_is_told_of_explorations_too() -> None:
    """As of single runs."""
    harness = Harness(MemoryStorage())
    harness.explore(swallows).assert_safe()
    with pytest.warns(SwallowedWarning, match="went on after it was told to let go"):
        harness.check()


@pytest.mark.parametrize("method", ["run", "start", "explore"])
@pytest.mark.parametrize(("what", "told"), [(charge, "this is a step"), (len, "this is neither")])
def test_what_is_no_task(method: str, what: Callable[..., object], told: str) -> None:
    """It is named, and what to decorate."""
    with pytest.raises(TypeError, match=rf"harness.{method}\(.*{told}: decorate a function that calls it with @task"):
        getattr(Harness(MemoryStorage()), method)(what, "7")


taken: set[str] = set()


@step
def take(order: str) -> str:
    """Takes a seat, once."""
    taken.add(order)
    return order


@step
def keep(order: str) -> str:
    """Takes a seat, once, and has no undo."""
    taken.add(order)
    return order


@task(id="messages-no-undo")
def without_an_undo(order: str) -> str:
    """Takes a seat that is not given back."""
    keep(order)
    return charge(order)


def test_an_undo_that_is_missing() -> None:
    """What a failed run has left behind is noted: whether that is wrong only its author knows."""
    found = Harness(MemoryStorage()).explore(
        without_an_undo, "7", failing=("charge",), world=lambda: sorted(taken), reset=taken.clear
    )
    told = "when charge fails, the world is ['7'] afterwards, and was [] before: is an undo missing"
    assert any(told in doubt for doubt in found.doubts)
    assert told in repr(found)


@take.compensate
def give_back(seat: str) -> None:
    """Gives the seat back."""
    taken.discard(seat)


@task(id="messages-zombie")
def undone_before(order: str) -> str:
    """Takes a seat, which whoever stood still may take once more when it is given back."""
    take(order)
    return charge(order)


def test_a_step_that_takes_effect_after_it_was_undone() -> None:
    """What a process that stood still does to a world that was brought back has a remedy of its own."""
    found = Harness(MemoryStorage()).explore(
        undone_before, "7", failing=("charge", "take"), world=lambda: sorted(taken), reset=taken.clear
    )
    assert found.violations
    for violation in found.violations:
        assert violation.schedule[-1].fault in {"stop", "lease"}
        assert "let an undo leave a mark that its step looks for" in str(violation)
    Harness(MemoryStorage()).explore(
        undone_before,
        "7",
        faults=("crash", "lost_ack"),
        failing=("charge", "take"),
        world=lambda: sorted(taken),
        reset=taken.clear,
    ).assert_safe()


@step(attempts=1)
def refuse() -> None:
    """Fails."""
    raise ValueError("no")


@task(id="messages-refuses")
def refuses() -> None:
    """Fails in a scope."""
    with saga("all"):
        refuse()


def test_a_report_says_why() -> None:
    """`assert run.ok` shows the error of a run that failed."""
    assert repr(Harness(MemoryStorage()).run(refuses)) == "<RunReport run-1 failed: ValueError('no')>"
