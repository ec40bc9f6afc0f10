"""E3: a wait for a batch that is over before all have ended."""

from typing import Any

import pytest

import flowkit
import flowkit.run
from flowkit import (
    ConfigurationError,
    Flow,
    RunResult,
    RunStatus,
    task,
)
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, Store, eventually


class TestThresholds:
    """`min_successful` and `tolerated_failures`."""

    @pytest.mark.parametrize(
        ("threshold", "succeed", "fail", "ended"),
        [
            ({"min_successful": 2}, [0, 1], [], 2),
            ({"tolerated_failures": 1}, [0], [1, 2], 3),
            ({"tolerated_failures": 0}, [], [3], 1),
            ({"min_successful": 3, "tolerated_failures": 1}, [0, 1], [2, 3], 4),
            ({"min_successful": 0}, [], [], 0),
        ],
        ids=str,
    )
    def test_thresholds(  # what is given and what comes of it
        self,
        store: Store,
        colour: Colour,
        threshold: dict[str, int],
        succeed: list[int],
        fail: list[int],
        ended: int,
    ) -> None:
        """A wait with a threshold is over as soon as that is reached; what was decided then is what a replay sees."""
        seen: list[list[str]] = []
        wait = (flowkit.aio if colour.awaits else flowkit).wait_for_event

        @colour.task(attempts=1)
        def child(number: int) -> Body[int]:
            verdict: object = yield wait("verdict")
            if not verdict:
                raise ValueError(number)
            return number

        @colour.task
        def parent() -> Body[int]:
            batch = child.batch_trigger(range(5))
            results: list[RunResult[int]] = yield colour.form(batch).wait_for_completion(**threshold)
            seen.append([str(result.status) for result in results])
            yield wait("go on")
            return sum(result.status is not RunStatus.RUNNING for result in results)

        with Flow(store.storage()) as flow:
            handle = flow.start(parent.options(run_id="p"))
            eventually(lambda: len(flow.runs(task=child).runs) == 5)
            for number in (*succeed, *fail):
                flow.send_event(f"p/1.{number}", "verdict", payload=number in succeed)
                eventually(lambda number=number: flow.handle(f"p/1.{number}").status().finished)  # type: ignore[misc]  # bound now
            eventually(lambda: len(seen) > 0)
            for number in {*range(5)} - {*succeed, *fail}:
                flow.send_event(f"p/1.{number}", "verdict", payload=True)
                eventually(lambda number=number: flow.handle(f"p/1.{number}").status().finished)  # type: ignore[misc]  # bound now
            flow.send_event("p", "go on")
            assert handle.result(timeout=PATIENCE_S) == ended

        assert seen[0] == seen[-1]

    @pytest.mark.parametrize(
        "threshold",
        [{"min_successful": 3}, {"min_successful": -1}, {"tolerated_failures": -1}, {"min_successful": "2"}],
    )
    def test_thresholds_that_cannot_be(self, flow: Flow, threshold: dict[str, Any]) -> None:
        """A threshold that can never be reached, or is none, is refused."""

        @task
        def child(number: int) -> int:
            return number

        with flow:
            batch = child.batch_trigger([1, 2])
        with pytest.raises(ConfigurationError, match=next(iter(threshold))):
            batch.wait_for_completion(**threshold)
