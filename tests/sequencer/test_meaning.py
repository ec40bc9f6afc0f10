"""What each method does with a value, with and without a connector, and when its block fails."""

import threading
from collections.abc import Callable
from typing import Any, TypedDict

import attrs
import pytest

from flowkit import (
    NoBranch,
    RunStatus,
    Sequencer,
    WrongColour,
    current_run,
    sequencer,
    step,
    task,
)
from flowkit.entries import Kind
from flowkit_testing import Harness, RunReport
from tests.rules.colours import Colour
from tests.rules.conftest import PATIENCE_S


class Kit:
    """A harness, and blocks of one colour."""

    def __init__(self, colour: Colour, harness: Harness) -> None:
        self.colour, self.harness = colour, harness
        self.seen: list[object] = []

        @colour.step
        def double(number: int) -> int:
            self.seen.append(number)
            return 2 * number

        @colour.step(attempts=1)
        def fail(number: int) -> int:
            raise ValueError(number)

        self.double, self.fail = double, fail

    def begin(self) -> Sequencer[int, int]:
        """Where a chain begins."""
        return sequencer(f"meaning-{self.colour.awaits}", input=int)

    def run(self, chain: Sequencer[int, Any], value: int = 4) -> RunReport[Any]:
        """Run it."""
        return self.harness.run(chain, value)

    def pure(self, fn: Callable[[Any], Any]) -> Any:  # noqa: ANN401  # of either colour
        """A pure function of this colour."""
        if not self.colour.awaits:
            return fn

        async def awaited(value: object) -> object:
            return fn(value)

        return awaited


@pytest.fixture
def kit(colour: Colour, harness: Harness) -> Kit:
    """A harness, and blocks of one colour."""
    return Kit(colour, harness)


class TestStraight:
    """`then`, `then_if`, `map`, `tap`, `tap_if`, `branch`."""

    def test_then(self, kit: Kit) -> None:
        """The result is the value; a connector reshapes it before."""
        assert kit.run(kit.begin().then(kit.double).then(kit.double)).output == 16
        assert kit.run(kit.begin().then(kit.pure(lambda n: n + 1), kit.double)).output == 10

    def test_then_fails(self, kit: Kit) -> None:
        """The error ends the run, as itself."""
        run = kit.run(kit.begin().then(kit.fail).then(kit.double))
        assert isinstance(run.error, ValueError)
        assert run.calls("double") == 0

    def test_then_if(self, kit: Kit) -> None:
        """The block runs if the condition holds of the value, as it is before the connector."""
        test = kit.pure(lambda n: n == 4)
        assert kit.run(kit.begin().then_if(test, kit.double)).output == 8
        assert kit.run(kit.begin().then_if(test, kit.double), 5).output == 5
        assert kit.run(kit.begin().then_if(test, kit.pure(lambda n: n + 1), kit.double)).output == 10

    def test_map(self, kit: Kit) -> None:
        """A pure function, a lambda, a class or a builtin; nothing of it is recorded."""
        run = kit.run(kit.begin().map(kit.pure(lambda n: n + 1)).map(str).map(len))
        assert run.output == 1
        assert run.journal == ()

    def test_tap(self, kit: Kit) -> None:
        """W5: the value stays."""
        assert kit.run(kit.begin().tap(kit.double)).output == 4
        assert kit.run(kit.begin().tap(kit.pure(lambda n: n + 1), kit.double)).output == 4
        assert kit.seen == [4, 5]

    def test_tap_must_succeed(self, kit: Kit) -> None:
        """W5: its failure is the chain's."""
        assert isinstance(kit.run(kit.begin().tap(kit.fail).then(kit.double)).error, ValueError)
        assert kit.seen == []

    def test_tap_if(self, kit: Kit) -> None:
        """Only if the condition holds."""
        chain = kit.begin().tap_if(kit.pure(lambda n: n == 4), lambda n: n + 1, kit.double)
        assert kit.run(chain).output == 4
        assert kit.run(chain, 5).output == 5
        assert kit.seen == [5]

    def test_branch(self, kit: Kit) -> None:
        """The first condition that holds wins; with a connector it sees what that gives."""
        chain = kit.begin().branch(
            {
                "never": (kit.pure(lambda n: n > 100), kit.fail),
                "connected": (kit.pure(lambda n: n + 1), kit.pure(lambda n: n == 5), kit.double),
                "late": (lambda _: True, kit.fail),
            }
        )
        assert kit.run(chain).output == 10

    def test_branch_without_a_case(self, kit: Kit) -> None:
        """If none holds that is an error, which names the sequencer and its cases, and is not tried again."""
        tries: list[int] = []
        run = kit.run(kit.begin().branch({"a": (tries.append, kit.double)}))
        assert isinstance(run.error, NoBranch)
        assert "meaning-" in str(run.error)
        assert "'a'" in str(run.error)
        assert len(tries) == 1


class Both(TypedDict):
    """What two blocks give."""

    a: int
    b: int


@attrs.frozen
class Pair:
    """The same."""

    a: int
    b: int = 0


class TestSideBySide:
    """`parallel`, `then_all`, `for_each`."""

    def test_parallel(self, kit: Kit) -> None:
        """A dict of results, in the order given."""
        chain = kit.begin().parallel({"b": kit.double, "a": (kit.pure(lambda n: n + 1), kit.double)})
        assert kit.run(chain).output == {"b": 8, "a": 10}
        assert list(kit.run(chain).output or ()) == ["b", "a"]
        assert kit.run(kit.begin().parallel({})).output == {}

    @pytest.mark.parametrize(("into", "wanted"), [(Both, {"a": 8, "b": 8}), (Pair, Pair(8, 8))])
    def test_parallel_into(self, kit: Kit, into: type, wanted: object) -> None:
        """The results are put into a TypedDict or a class."""
        assert kit.run(kit.begin().parallel({"a": kit.double, "b": kit.double}, into=into)).output == wanted

    def test_then_all(self, kit: Kit) -> None:
        """A list of results, in order; an empty list of an empty one."""
        assert kit.run(kit.begin().then_all([kit.double, (lambda n: n + 1, kit.double)])).output == [8, 10]
        assert kit.run(kit.begin().then_all([])).output == []

    @pytest.mark.parametrize("method", ["then_all", "parallel"])
    def test_the_others_settle_first(self, kit: Kit, method: str) -> None:
        """The first error is raised after the others have settled."""
        blocks = {"a": kit.fail, "b": kit.double, "c": kit.double}
        chain: Sequencer[int, Any] = kit.begin().parallel(blocks, max_concurrency=1)
        if method == "then_all":
            chain = kit.begin().then_all(list(blocks.values()), max_concurrency=1)
        run = kit.run(chain)
        assert isinstance(run.error, ValueError)
        assert run.calls("double") == 2

    def test_they_run_at_the_same_time(self, harness: Harness) -> None:
        """Blocks that wait for each other both get through."""
        barrier = threading.Barrier(2)

        @step
        def meet(_number: int) -> bool:
            return barrier.wait(PATIENCE_S) >= 0

        assert harness.run(sequencer("meet", input=int).then_all([meet, meet]), 1).output == [True, True]

    def test_for_each(self, kit: Kit) -> None:
        """Results in order; a connector gives the items."""
        items = kit.pure(lambda n: [n, n + 1])
        assert kit.run(kit.begin().map(items).for_each(kit.double, max_concurrency=1)).output == [8, 10]
        assert kit.run(kit.begin().for_each(items, kit.double)).output == [8, 10]
        assert kit.run(kit.begin().for_each(lambda _: [], kit.double)).output == []

    def test_for_each_fails(self, kit: Kit) -> None:
        """One that fails fails the chain."""
        assert isinstance(kit.run(kit.begin().for_each(lambda n: [n], kit.fail)).error, ValueError)


class TestLoops:
    """`do_until`, `do_while`, `loop_back`."""

    def test_do_until(self, kit: Kit) -> None:
        """The block runs, then the test: at least once."""
        assert kit.run(kit.begin().do_until(kit.pure(lambda n: n >= 30), kit.double)).output == 32
        assert kit.run(kit.begin().do_until(lambda _: True, kit.double)).output == 8

    def test_do_while(self, kit: Kit) -> None:
        """The block runs, then the test: at least once."""
        assert kit.run(kit.begin().do_while(kit.pure(lambda n: n < 30), kit.double)).output == 32
        assert kit.run(kit.begin().do_while(lambda _: False, kit.double)).output == 8

    def test_a_loop_fails(self, kit: Kit) -> None:
        """The block's error is the chain's."""
        assert isinstance(kit.run(kit.begin().do_until(lambda _: False, kit.fail)).error, ValueError)

    def test_loop_back(self, kit: Kit) -> None:
        """It goes back to the named block, with the value as it is."""
        chain = kit.begin().map(lambda n: n + 1).then(kit.double).tap(kit.double.options(name="look"))
        again = chain.loop_back("double", when=kit.pure(lambda n: n < 30), max_iterations=9)
        assert kit.run(again).output == 40

    def test_loop_back_is_bounded(self, kit: Kit) -> None:
        """It goes back at most so many times; then the chain goes on."""
        chain = kit.begin().then(kit.double).loop_back("double", when=lambda _: True, max_iterations=3).map(str)
        assert kit.run(chain).output == "64"

    def test_keys_of_turns_differ(self, kit: Kit) -> None:
        """I1: a block with a key of its own can be looped over: each turn is a scope."""
        keyed = kit.double.options(key="mine")
        assert kit.run(kit.begin().do_until(lambda n: n > 30, keyed)).output == 32
        chain = kit.begin().then(keyed).loop_back("double", when=lambda n: n < 30, max_iterations=9)
        run = kit.run(chain)
        assert run.output == 32
        assert len({entry.key for entry in run.journal}) == 3


class TestSideChains:
    """`work`, `work_if`, `for_each_background`, `wait_for_work`."""

    def test_work(self, kit: Kit) -> None:
        """W1, W2: it runs beside the chain, which keeps its value; a failure becomes one item."""
        run = kit.run(kit.begin().work(kit.pure(lambda n: n + 1), kit.double).work(kit.fail).map(str))
        assert run.output == "4"
        assert kit.seen == [5]
        assert len([entry for entry in run.journal if entry.kind == Kind.ITEM and entry.name == "step_error"]) == 1

    def test_work_if(self, kit: Kit) -> None:
        """A condition, or a bool that is decided when it is built."""
        chain = kit.begin().work_if(kit.pure(lambda n: n == 4), lambda n: n + 1, kit.double)
        assert kit.run(chain).output == 4
        assert kit.run(chain, 5).output == 5
        kit.run(kit.begin().work_if(True, kit.double).work_if(False, kit.fail))  # noqa: FBT003  # as users write it
        assert kit.seen == [5, 4]

    def test_for_each_background(self, kit: Kit) -> None:
        """The value stays; each item gets its block, and one failure stops no other."""
        items = kit.pure(lambda n: [n, n + 1])
        assert kit.run(kit.begin().for_each_background(items, kit.double, max_concurrency=1)).output == 4
        assert kit.run(kit.begin().map(items).for_each_background(kit.double)).output == [4, 5]
        assert sorted(map(str, kit.seen)) == ["4", "4", "5", "5"]

    def test_a_factory_chooses(self, kit: Kit) -> None:
        """A function of item and index may choose the block."""

        def choose(_item: int, index: int) -> Any:  # noqa: ANN401  # a block
            return kit.fail if index == 1 else kit.double

        async def choose_async(item: int, index: int) -> Any:  # noqa: ANN401  # a block
            return choose(item, index)

        chain = kit.begin().map(lambda n: [n, n + 1, n + 2])
        run = kit.run(
            chain.for_each_background(choose_async if kit.colour.awaits else choose, max_concurrency=2).map(min)
        )
        assert run.output == 4
        assert sorted(map(str, kit.seen)) == ["4", "6"]
        wrong = chain.for_each_background(lambda _item, _index: kit.double)
        assert isinstance(kit.run(wrong).error, WrongColour if kit.colour.awaits else type(None))
        assert len([entry for entry in run.journal if entry.kind == Kind.ITEM and entry.name == "step_error"]) == 1

    def test_wait_for_work(self, kit: Kit) -> None:
        """The chain goes on when the work is done; its value stays."""
        chain = kit.begin().work(kit.double).work(kit.fail).wait_for_work().map(lambda n: (n, list(kit.seen)))
        assert kit.run(chain).output == (4, [4])
        assert kit.run(kit.begin().wait_for_work()).output == 4

    def test_wait_for_work_that_must_succeed(self, kit: Kit) -> None:
        """W2: its failure is raised after all have settled."""
        run = kit.run(kit.begin().work(kit.fail).work(kit.double).wait_for_work(fail_on_error=True).then(kit.double))
        assert isinstance(run.error, ValueError)
        assert kit.seen == [4]

    def test_only_its_own_work(self, harness: Harness) -> None:
        """W3, W4: a sequencer waits for its own work, not for that of the one inside it or around it."""
        released, order = threading.Event(), list[str]()

        @step
        def slow(_number: int) -> None:
            assert released.wait(PATIENCE_S)
            order.append("slow")

        @step
        def quick(number: int) -> int:
            order.append("quick")
            return number

        @step
        def release(number: int) -> int:
            order.append("release")
            released.set()
            return number

        inner = sequencer("own-inner", input=int).work(slow).then(quick)
        waiting = sequencer("own-waiting", input=int).work(quick).wait_for_work()
        chain = sequencer("own-outer", input=int).then(inner).work(slow).then(waiting).then(release).wait_for_work()
        assert harness.run(chain, 1).status is RunStatus.SUCCEEDED
        assert order[:3] == ["quick", "quick", "release"]
        assert sorted(order[3:]) == ["slow", "slow"]


class TestWaysOut:
    """`rescue`, `exit_if`, `raise_if`."""

    def test_rescue(self, kit: Kit) -> None:
        """The handler gets the error and gives the value; what stands between is left out."""

        @kit.colour.step
        def recover(error: Exception) -> int:
            return int(str(error)) + 1

        assert kit.run(kit.begin().then(kit.fail).then(kit.double).rescue(recover).then(kit.double)).output == 10
        assert kit.run(kit.begin().then(kit.double).rescue(recover)).output == 8

    def test_the_first_matching_type_wins(self, kit: Kit) -> None:
        """Types are looked at in order; what matches none goes to the default, or on."""

        @kit.colour.step
        def first(_error: Exception) -> str:
            return "first"

        @kit.colour.step
        def other(_error: Exception) -> str:
            return "other"

        failing = kit.begin().then(kit.fail)
        assert kit.run(failing.rescue({KeyError: other, Exception: first, ValueError: other})).output == "first"
        assert kit.run(failing.rescue({KeyError: other}, default=first)).output == "first"
        assert kit.run(failing.rescue({(KeyError, ValueError): first})).output == "first"  # type: ignore[dict-item]  # several at once
        assert isinstance(kit.run(failing.rescue({KeyError: other})).error, ValueError)
        assert kit.run(failing.rescue({KeyError: other}).rescue(first)).output == "first"

    def test_only_from_above(self, kit: Kit) -> None:
        """What fails below it goes on; also what the handler itself raises, but for a rescue below."""

        @kit.colour.step(attempts=1)
        def worse(_error: Exception) -> int:
            raise KeyError("worse")

        @kit.colour.step
        def recover(_error: Exception) -> int:
            return 0

        assert isinstance(kit.run(kit.begin().rescue(recover).then(kit.fail)).error, ValueError)
        assert isinstance(kit.run(kit.begin().then(kit.fail).rescue(worse)).error, KeyError)
        assert kit.run(kit.begin().then(kit.fail).rescue(worse).rescue(recover)).output == 0

    def test_a_pure_function_that_fails_is_rescued(self, kit: Kit) -> None:
        """An error of a connector, a condition or a map comes from above as well."""

        @kit.colour.step
        def recover(error: Exception) -> str:
            return type(error).__name__

        assert kit.run(kit.begin().map(lambda n: n / 0).rescue(recover)).output == "ZeroDivisionError"
        assert kit.run(kit.begin().then_if(lambda n: [][n], kit.double).rescue(recover)).output == "IndexError"

    def test_exit_if(self, kit: Kit) -> None:
        """The value so far is the outcome of this sequencer, not of the one around it."""
        inner = sequencer(f"exit-inner-{kit.colour.awaits}", input=int).exit_if(kit.pure(lambda n: n == 4))
        chain = kit.begin().then(inner.then(kit.fail)).then(kit.double)
        assert kit.run(chain).output == 8
        assert isinstance(kit.run(chain, 5).error, ValueError)

    @pytest.mark.parametrize(
        ("error", "wanted"),
        [
            (KeyError("no"), "no"),
            (KeyError, None),
            (lambda n: KeyError(f"not {n}"), "not 4"),
            (lambda: KeyError("none"), "none"),
        ],
        ids=["error", "class", "factory", "of nothing"],
    )
    def test_raise_if(self, kit: Kit, error: Any, wanted: str | None) -> None:  # noqa: ANN401  # all that is allowed
        """The error is raised, once: it is not tried again."""
        tries: list[int] = []

        def test(number: int) -> bool:
            tries.append(number)
            return number == 4

        chain = kit.begin().raise_if(test, error).then(kit.double)
        run = kit.run(chain)
        assert isinstance(run.error, KeyError)
        assert run.error.args == (() if wanted is None else (wanted,))
        assert len(tries) == 1
        assert kit.run(chain, 5).output == 10

    def test_raise_if_is_rescued(self, kit: Kit) -> None:
        """A rescue below takes it."""

        @kit.colour.step
        def recover(error: Exception) -> str:
            return str(error)

        chain = kit.begin().raise_if(lambda _: True, ValueError("no")).rescue(recover)
        assert kit.run(chain).output == "no"
        assert kit.run(chain).output == "no"

    def test_a_factory_that_makes_no_error(self, kit: Kit) -> None:
        """It is told so."""
        assert isinstance(kit.run(kit.begin().raise_if(lambda _: True, lambda _: "no")).error, TypeError)


class TestPure:
    """Connectors, conditions and map functions."""

    def test_they_may_read_the_run(self, kit: Kit) -> None:
        """`current_run()` is that of the sequencer."""
        run = kit.run(kit.begin().map(lambda _: current_run().id))
        assert run.output == run.run_id

    def test_a_coroutine_that_nobody_would_await(self, kit: Kit) -> None:
        """A plain function that returns a coroutine would always be true; it is refused."""

        async def awaited() -> bool:
            return False

        assert isinstance(kit.run(kit.begin().exit_if(lambda _: awaited())).error, WrongColour)
        assert isinstance(kit.run(kit.begin().map(lambda _: awaited())).error, WrongColour)

    def test_blocks_of_all_kinds(self, kit: Kit) -> None:
        """A plain function is a durable step under its name; a task is a child run."""

        def triple(number: int) -> int:
            return 3 * number

        @task(id=f"meaning-child-{kit.colour.awaits}")
        def child(number: int) -> int:
            return number + 1

        run = kit.run(kit.begin().then(triple).then(child))
        assert run.output == 13
        assert [(entry.kind, entry.name) for entry in run.journal] == [
            (Kind.STEP, "triple"),
            (Kind.CHILD, f"meaning-child-{kit.colour.awaits}"),
        ]
