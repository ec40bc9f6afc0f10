"""G1, G3: triggered children have undos too."""

import pytest

from flowkit import Flow
from tests.rules.colours import Body, Colour
from tests.rules.conftest import Crash, Store


class TestUndos:
    """G1: triggered children have undos too."""

    def test_children_that_were_waited_for_are_undone(self, working: Flow, colour: Colour) -> None:
        """G1: children that have succeeded are undone newest first when their parent fails, each once."""
        undone: list[object] = []

        @colour.task
        def child(number: int) -> Body[str]:
            yield from ()
            return f"r{number}"

        @child.compensate
        def undo(result: str, number: int) -> None:
            undone.append((result, number))

        @colour.task(attempts=1)
        def parent() -> Body[None]:
            handle = child.trigger(1)
            yield colour.form(handle).result()
            yield colour.form(handle).wait_for_completion()
            batch = child.batch_trigger([2, 3])
            yield colour.form(batch).results()
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            working.run(parent)

        assert undone == [("r3", 3), ("r2", 2), ("r1", 1)]

    def test_undone_after_a_crash(self, store: Store, colour: Colour) -> None:
        """G3: a rollback of children that a crash has cut short goes on where it was."""
        undone: list[object] = []
        crashes = [Crash()]

        @colour.task(queue="children")
        def child(number: int) -> Body[int]:
            yield from ()
            return number

        @child.compensate
        def undo(number: int) -> None:
            if number == 2 and crashes:
                raise crashes.pop()
            undone.append(number)

        @colour.task(attempts=1)
        def parent() -> Body[None]:
            yield colour.form(child.batch_trigger([1, 2, 3])).results()
            raise ValueError("no")

        with Flow(store.storage(), queues=["children"]) as flow:
            with pytest.raises(Crash):
                flow.run(parent.options(run_id="p"))
            with pytest.raises(ValueError, match="no"):
                flow.run(parent.options(run_id="p"))

        assert not crashes
        assert undone == [3, 2, 1]
