"""D1 to D3: results are stored at once and never computed again."""

import asyncio
from typing import Any

import pytest

from flowkit import Flow, NonRetryable, Retry, StepInterrupted, current_run, step, task
from tests.rules.colours import Body, Colour
from tests.rules.conftest import Crash, Store, crash_once, eventually
from tests.rules.effects import dying, in_a_row, noting, refusing

NOW = Retry(attempts=3, delay=0, jitter=0)


class TestStored:
    """D1."""

    def test_a_result_is_stored_before_the_next_line(self, store: Store, flow: Flow, colour: Colour) -> None:
        """D1: another process sees the journal grow between a step's call and the line after it."""
        seen: list[int] = []

        @colour.step
        def count(number: int) -> int:
            seen.append(store.header("r").length)
            return number

        @colour.task
        def body() -> Body[None]:
            yield count(1)
            seen.append(store.header("r").length)
            yield count(2)
            seen.append(store.header("r").length)

        flow.run(body.options(run_id="r"))

        before_1, after_1, before_2, after_2 = seen
        assert before_1 < after_1 == before_2 < after_2

    def test_a_crash_on_the_next_line_loses_nothing(self, store: Store, colour: Colour) -> None:
        """D1: a process that dies on the line after a step has kept its result."""
        ran: list[str] = []
        crashes = [Crash()]

        @colour.step
        def effect() -> str:
            ran.append("effect")
            return f"the {len(ran)}. time"

        @colour.task
        def body() -> Body[str]:
            result: str = yield effect()
            if crashes:
                raise crashes.pop()
            return result

        crash_once(store, body)

        assert store.flow().run(body.options(run_id="r")) == "the 1. time"
        assert ran == ["effect"]


class TestNeverAgain:
    """D2."""

    @pytest.mark.parametrize("result", [None, 0, "", [], False, {"a": [1]}])
    def test_not_when_the_body_starts_over(self, flow: Flow, colour: Colour, result: object) -> None:
        """D2: a body that is started over finds its completed steps answered, whatever they returned."""
        ran: list[str] = []
        errors = [OSError("once"), OSError("twice")]

        @colour.step
        def effect() -> Any:  # noqa: ANN401  # any of the results above
            ran.append("effect")
            return result

        @colour.task(retry=NOW)
        def body() -> Body[Any]:
            value = yield effect()
            if errors:
                raise errors.pop()
            return value

        assert flow.run(body) == result
        assert ran == ["effect"]

    def test_not_after_a_crash(self, store: Store, colour: Colour) -> None:
        """D2: each of three processes that die in the third step finds the first two done."""
        ran: list[str] = []
        crashes = [Crash(), Crash(), Crash()]

        @colour.step
        def effect(name: str) -> str:
            ran.append(name)
            if name == "c" and crashes:
                raise crashes.pop()
            return name.upper()

        @colour.task
        def body() -> Body[str]:
            a = yield effect("a")
            b = yield effect("b")
            c = yield effect("c")
            return str(a + b + c)

        for _ in range(3):
            crash_once(store, body)

        assert store.flow().run(body.options(run_id="r")) == "ABC"
        assert ran == ["a", "b", "c", "c", "c", "c"]

    def test_not_in_the_same_process(self, flow: Flow, colour: Colour) -> None:
        """D2: the process that saw the crash may itself go on with the run."""
        ran: list[str] = []
        effect = noting(colour, ran, dying("b"))
        body = in_a_row(colour, effect, "a", "b")

        with pytest.raises(Crash):
            flow.run(body.options(run_id="r"))

        assert flow.run(body.options(run_id="r")) == "ab"
        assert ran == ["a", "b", "b"]

    def test_not_when_a_failed_run_is_reopened(self, flow: Flow, colour: Colour) -> None:
        """D2: `flow.retry` runs what failed, and nothing that completed."""
        ran: list[str] = []
        broken = {"b"}
        effect = noting(colour, ran, refusing(broken), attempts=1)
        body = in_a_row(colour, effect, "a", "b")

        with pytest.raises(NonRetryable, match="b"):
            flow.run(body.options(run_id="r"))
        broken.clear()
        flow.retry("r")

        assert flow.run(body.options(run_id="r")) == "ab"
        assert ran == ["a", "b", "b"]

    def test_not_in_parallel_branches(self, store: Store) -> None:
        """D2: of steps that run side by side, those that completed before the crash are not run again."""
        ran: list[int] = []
        crashes = [Crash()]

        @step
        async def effect(number: int) -> int:
            ran.append(number)
            return number

        @step
        async def last(number: int) -> int:
            ran.append(number)
            if crashes:
                raise crashes.pop()
            return number

        @task
        async def body() -> list[int]:
            first = await asyncio.gather(*(effect(number) for number in range(5)))
            second = await asyncio.gather(effect(5), effect(6))
            return [*first, *second, await last(7)]

        crash_once(store, body)

        assert store.flow().run(body.options(run_id="r")) == list(range(8))
        assert sorted(ran) == [0, 1, 2, 3, 4, 5, 6, 7, 7]

    def test_a_finished_run_runs_nothing(self, store: Store, colour: Colour) -> None:
        """D2: the run id of a finished run gives its result, and neither body nor step runs."""
        ran: list[str] = []

        @colour.step
        def effect() -> str:
            ran.append("step")
            return "done"

        @colour.task
        def body() -> Body[str]:
            ran.append("body")
            return str((yield effect()))

        store.flow().run(body.options(run_id="r"))

        assert store.flow().run(body.options(run_id="r")) == "done"
        assert ran == ["body", "step"]


class TestInFlight:
    """D3."""

    def test_a_step_in_flight_runs_again(self, store: Store, colour: Colour) -> None:
        """D3: a step whose process died in it runs again, as the same attempt with the same idempotency key."""
        keys: list[str] = []

        @colour.step(attempts=1)
        def effect() -> str:
            keys.append(current_run().idempotency_key)
            if len(keys) == 1:
                raise Crash
            return "done"

        @colour.task
        def body() -> Body[str]:
            return str((yield effect()))

        crash_once(store, body)

        assert store.flow().run(body.options(run_id="r")) == "done"
        assert len(keys) == 2
        assert len(set(keys)) == 1

    @pytest.mark.parametrize("attempts", [None, 3])
    def test_at_most_once_is_not_run_again(self, store: Store, colour: Colour, attempts: int | None) -> None:
        """D3: with `at_most_once` a crash in the step ends in `StepInterrupted`, the same on every replay."""
        ran: list[str] = []
        seen: list[StepInterrupted] = []
        options: dict[str, Any] = {} if attempts is None else {"retry": NOW}
        crash_later = [True]

        @colour.step(at_most_once=True, **options)
        def pay() -> None:
            ran.append("pay")
            raise Crash

        @colour.task
        def body() -> Body[str]:
            try:
                yield pay()
            except StepInterrupted as error:
                seen.append(error)
            if crash_later.pop():
                raise Crash
            return "asked a person"

        crash_later[:] = [False, True]
        for _ in range(2):
            crash_once(store, body)

        assert store.flow().run(body.options(run_id="r")) == "asked a person"
        assert ran == ["pay"]
        assert [str(error) for error in seen] == [str(seen[0])] * 2
        assert "pay" in str(seen[0])

    def test_at_most_once_records_its_start_first(self, store: Store, flow: Flow, colour: Colour) -> None:
        """D3: the start of an `at_most_once` step is in the journal before its function runs."""
        seen: list[int] = []

        @colour.step(at_most_once=True)
        def pay() -> None:
            seen.append(store.header("r").length)

        @colour.step
        def plain() -> None:
            seen.append(store.header("r").length)

        @colour.task
        def body() -> Body[None]:
            yield plain()
            yield pay()

        flow.run(body.options(run_id="r"))

        before_plain, before_pay = seen
        assert before_pay == before_plain + 2  # the result of `plain`, and the start of `pay`

    def test_at_most_once_means_one_attempt(self, flow: Flow, colour: Colour) -> None:
        """D3: `at_most_once` implies one attempt, also in a task that has more."""
        ran: list[str] = []

        @colour.step(at_most_once=True)
        def pay() -> None:
            ran.append("pay")
            raise OSError("declined")

        @colour.task(retry=NOW)
        def body() -> Body[None]:
            yield pay()

        with pytest.raises(OSError, match="declined"):
            flow.run(body)

        assert ran == ["pay"]

    def test_at_most_once_with_a_policy_of_its_own(self, flow: Flow, colour: Colour) -> None:
        """D3: an `at_most_once` step with a policy of its own is tried again after an error."""
        ran: list[str] = []

        @colour.step(at_most_once=True, retry=NOW)
        def pay() -> str:
            ran.append("pay")
            if len(ran) < 3:
                raise OSError("declined")
            return "paid"

        @colour.task
        def body() -> Body[str]:
            return str((yield pay()))

        assert flow.run(body) == "paid"
        assert ran == ["pay"] * 3


def test_everything_comes_to_rest(store: Store, colour: Colour) -> None:
    """D1: a run in the background is as durable: its steps are recorded, and its result waits for whoever asks."""
    ran: list[str] = []

    @colour.step
    def effect(name: str) -> str:
        ran.append(name)
        return name

    @colour.task
    def body() -> Body[str]:
        a = yield effect("a")
        b = yield effect("b")
        return str(a + b)

    store.flow(worker=True).start(body.options(run_id="r"))
    eventually(lambda: store.header("r").status.finished)

    assert store.flow().handle("r").result() == "ab"
    assert ran == ["a", "b"]
