"""G4: compensation written by hand."""

import pytest

from flowkit import Flow, RunRolledBack, RunStatus
from tests.rules.colours import Body, Colour
from tests.rules.conftest import Crash, Store, at_once, crash_once


class TestByHand:
    """`try` and `except` around steps."""

    def test_by_hand_after_an_error_of_its_own(self, flow: Flow, colour: Colour) -> None:
        """G4: a body that called a step about an error of its own code is not started over: that step would not fit."""
        ran: list[str] = []
        bodies: list[int] = []

        @colour.step
        def effect(name: str) -> None:
            ran.append(name)

        @colour.task(retry=at_once())
        def order() -> Body[None]:
            bodies.append(1)
            yield effect("charge")
            try:
                raise OSError("no carrier")
            except OSError:
                yield effect("refund")
                raise

        with pytest.raises(OSError, match="no carrier"):
            flow.run(order.options(run_id="r"))

        assert ran == ["charge", "refund"]
        assert len(bodies) == 1
        with pytest.raises(RunRolledBack):
            flow.retry("r")

    def test_by_hand(self, store: Store, colour: Colour) -> None:
        """G4: steps in an `except` block are durable; the run fails with the original error, never started over."""
        ran: list[str] = []
        crashes = [Crash()]

        @colour.step(retry=at_once(1))
        def effect(name: str) -> None:
            ran.append(name)
            if name == "ship":
                raise OSError("no carrier")

        @colour.task(retry=at_once())
        def order() -> Body[None]:
            yield effect("charge")
            try:
                yield effect("ship")
            except OSError:
                yield effect("refund")
                if crashes:
                    raise crashes.pop() from None
                raise

        crash_once(store, order)
        flow = store.flow()
        with pytest.raises(OSError, match="no carrier"):
            flow.run(order.options(run_id="r"))

        assert ran == ["charge", "ship", "refund"]
        assert flow.handle("r").status() is RunStatus.FAILED
        with pytest.raises(RunRolledBack):
            flow.retry("r")
