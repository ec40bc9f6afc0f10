"""What runs beside a chain, and how the chain waits for it."""

import threading
from typing import Any

from flowkit import RunStatus, WrongColour, sequencer, step
from flowkit.entries import Kind
from flowkit_testing import Harness
from tests.rules.conftest import PATIENCE_S
from tests.sequencer.kit import Kit


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
