"""What each method does with a value, with and without a connector, and when its block fails."""

import threading
from typing import Any, TypedDict

import attrs
import pytest

from flowkit import NoBranch, Sequencer, WrongColour, current_run, sequencer, step, task
from flowkit.entries import Kind
from flowkit_testing import Harness
from tests.rules.conftest import PATIENCE_S
from tests.sequencer.kit import Kit


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
