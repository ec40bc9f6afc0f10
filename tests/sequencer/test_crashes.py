"""Each method, with a process that dies at every point of it, any number of times."""

from collections.abc import Callable
from typing import Any

import pytest

from flowkit import NonRetryable, Sequencer, saga, sequencer, task
from flowkit_testing import Harness
from tests.rules.colours import Body, Colour


class Blocks:
    """Blocks of one colour."""

    def __init__(self, colour: Colour) -> None:
        self.colour = colour

        @colour.step
        def increment(number: int) -> int:
            return number + 1

        @colour.step
        def double(number: int) -> int:
            return 2 * number

        @colour.step(attempts=1)
        def fail(number: int) -> int:
            raise ValueError(f"not {number}")

        @colour.step(attempts=1)
        def reserve(number: int) -> int:
            return number

        @reserve.compensate
        def release(_number: int) -> None: ...

        @colour.step
        def recover(error: Exception) -> int:
            return len(str(error))

        @colour.task(id=f"crash-child-{colour.awaits}")
        def child(number: int) -> Body[int]:
            doubled: int = yield double(number)
            return doubled

        self.increment, self.double, self.fail, self.recover = increment, double, fail, recover
        self.reserve, self.child = reserve, child

    def begin(self) -> Sequencer[int, int]:
        """Where a test's chain begins."""
        return sequencer(f"crash-{self.colour.awaits}", input=int).then(self.increment)

    def inner(self) -> Sequencer[int, int]:
        """A chain inside it."""
        name = f"crash-inner-{self.colour.awaits}"
        return sequencer(name, input=int).then(self.increment).work(self.fail).then(self.double)


Chain = Callable[[Blocks], Sequencer[int, Any]]

CHAINS: dict[str, Chain] = {
    "then": lambda b: b.begin().then(lambda n: n + 1, b.double).then(b.child),
    "then_if": lambda b: b.begin().then_if(lambda n: n > 0, b.double).then_if(lambda n: n < 0, b.fail),
    "map": lambda b: b.begin().map(lambda n: n + 1).then(b.double),
    "tap": lambda b: b.begin().tap(lambda n: n + 1, b.double).tap_if(lambda n: n > 0, b.increment),
    "branch": lambda b: b.begin().branch({"no": (lambda n: n < 0, b.fail), "yes": (lambda n: n > 0, b.double)}),
    "parallel": lambda b: b.begin().parallel({"a": b.increment, "b": (lambda n: n + 1, b.inner())}).then(len),
    "then_all": lambda b: b.begin().then_all([b.increment, b.inner(), b.double]).map(sum).then(b.double),
    "then_all_fails": lambda b: b.begin().then_all([b.increment, b.fail, b.double]),
    "then_any": lambda b: b.begin().then_any([b.fail, b.inner().then(b.fail), b.double, b.increment]).then(b.double),
    "then_any_fails": lambda b: b.begin().then_any([b.fail, b.fail]),
    "race": lambda b: b.begin().race([b.fail, b.double, b.increment], max_concurrency=1).then(b.double),
    "race_undoes": lambda b: (
        b.begin()
        .race(
            [sequencer(f"crash-loser-{b.colour.awaits}", input=int).then(b.reserve).then(b.fail), b.double],
            max_concurrency=1,
        )
        .then(b.double)
    ),
    "race_fails": lambda b: b.begin().race([b.fail, b.fail], max_concurrency=1),
    "for_each": lambda b: b.begin().map(lambda n: [n, n + 1, n + 2]).for_each(b.double, max_concurrency=2).map(sum),
    "do_until": lambda b: b.begin().do_until(lambda n: n > 30, b.double).then(b.increment),
    "do_while": lambda b: b.begin().do_while(lambda n: n < 30, b.double.options(key="turn")).then(b.increment),
    "loop_back": lambda b: (
        b.begin().then(b.double.options(key="twice")).loop_back("double", when=lambda n: n < 50, max_iterations=3)
    ),
    "work": lambda b: b.begin().work(b.double).work(lambda n: n + 1, b.fail).then(b.increment).work(b.inner()),
    "work_if": lambda b: b.begin().work_if(lambda n: n > 0, b.double).work_if(True, b.fail).then(b.increment),  # noqa: FBT003  # as users write it
    "for_each_background": lambda b: (
        b.begin().for_each_background(lambda n: [n, n + 1, n + 2], b.double, max_concurrency=2).then(b.double)
    ),
    "wait_for_work": lambda b: b.begin().work(b.double).work(b.fail).wait_for_work().then(b.double),
    "wait_for_work_fails": lambda b: b.begin().work(b.double).work(b.fail).wait_for_work(fail_on_error=True),
    "rescue": lambda b: b.begin().then(b.fail).then(b.double).rescue(b.recover).then(b.double),
    "rescue_not": lambda b: b.begin().then(b.reserve).then(b.fail).rescue({KeyError: b.recover}).then(b.double),
    "exit_if": lambda b: b.begin().exit_if(lambda n: n > 1).then(b.fail),
    "raise_if": lambda b: b.begin().then(b.reserve).raise_if(lambda n: n > 1, KeyError("no")).then(b.fail),
    "nested": lambda b: b.begin().then(b.inner()).then(b.inner()).then(b.increment),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_a_crash_at_every_point(chain: str, colour: Colour, harness: Harness) -> None:
    """Wherever the process dies, what was completed is skipped and the outcome is the same."""
    found = harness.explore(CHAINS[chain](Blocks(colour)), 1)
    found.assert_safe(min_coverage=1.0 if colour.awaits else 0.9)  # threads take turns as they like


def test_in_a_saga(colour: Colour, harness: Harness) -> None:
    """What a sequencer has completed inside a saga is undone with it, whatever crashes come between."""
    blocks = Blocks(colour)
    chain = blocks.begin().then(blocks.reserve).then(blocks.reserve)

    if colour.awaits:

        @task(id="crash-saga-async")
        async def body(number: int) -> None:
            async with saga("outer"):
                await chain.aio(number)
                raise NonRetryable("no")

    else:

        @task(id="crash-saga-sync")
        def body(number: int) -> None:
            with saga("outer"):
                chain(number)
                raise NonRetryable("no")

    harness.explore(body, 1).assert_safe()
    run = harness.run(body, 1)
    assert run.compensated == ["reserve", "reserve"]
