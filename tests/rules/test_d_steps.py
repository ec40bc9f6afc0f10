"""D1 to D4 and D7: results are stored at once, once, by the owner alone, and never computed again."""

import asyncio
import threading
from concurrent.futures import Executor
from typing import Any

import pytest

from flowkit import Flow, LeaseLost, Retry, StepInterrupted, current_run, step, task
from flowkit.records import Commit
from tests.rules.conftest import PATIENCE_S, Body, Colour, Crash, FakeClock, Store, Wire, eventually

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

        first = store.flow()
        with pytest.raises(Crash):
            first.run(body.options(run_id="r"))
        first.close()

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
            flow = store.flow()
            with pytest.raises(Crash):
                flow.run(body.options(run_id="r"))
            flow.close()

        assert store.flow().run(body.options(run_id="r")) == "ABC"
        assert ran == ["a", "b", "c", "c", "c", "c"]

    def test_not_in_the_same_process(self, flow: Flow, colour: Colour) -> None:
        """D2: the process that saw the crash may itself go on with the run."""
        ran: list[str] = []
        crashes = [Crash()]

        @colour.step
        def effect(name: str) -> str:
            ran.append(name)
            if name == "b" and crashes:
                raise crashes.pop()
            return name

        @colour.task
        def body() -> Body[str]:
            a = yield effect("a")
            b = yield effect("b")
            return str(a + b)

        with pytest.raises(Crash):
            flow.run(body.options(run_id="r"))

        assert flow.run(body.options(run_id="r")) == "ab"
        assert ran == ["a", "b", "b"]

    def test_not_when_a_failed_run_is_reopened(self, flow: Flow, colour: Colour) -> None:
        """D2: `flow.retry` runs what failed, and nothing that completed."""
        ran: list[str] = []
        broken = [True]

        @colour.step(attempts=1)
        def effect(name: str) -> str:
            ran.append(name)
            if name == "b" and broken:
                raise OSError(name)
            return name

        @colour.task
        def body() -> Body[str]:
            a = yield effect("a")
            b = yield effect("b")
            return str(a + b)

        with pytest.raises(OSError, match="b"):
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

        first = store.flow()
        with pytest.raises(Crash):
            first.run(body.options(run_id="r"))
        first.close()

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

        first = store.flow()
        with pytest.raises(Crash):
            first.run(body.options(run_id="r"))
        first.close()

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
            flow = store.flow()
            with pytest.raises(Crash):
                flow.run(body.options(run_id="r"))
            flow.close()

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


class TestOneOutcome:
    """D4."""

    def test_who_lost_the_lease_records_nothing(
        self, store: Store, wire: Wire, clock: FakeClock, colour: Colour, aside: Executor
    ) -> None:
        """D4: of two owners that both ran a step, the second one's outcome is the only one there is."""
        in_step, go_on = threading.Event(), threading.Event()
        ran: list[str] = []

        @colour.step
        def effect() -> str:
            who = "second" if in_step.is_set() else "first"
            ran.append(who)
            if who == "first":
                in_step.set()
                go_on.wait(PATIENCE_S)
            return who

        @colour.task
        def body() -> Body[str]:
            return str((yield effect()))

        def no_renewals(name: str, args: tuple[Any, ...]) -> None:
            del args
            if name == "renew":
                raise ConnectionError("the line to the storage is cut")

        wire.before = no_renewals
        slow = store.flow(wire.storage, clock=clock)
        outcome = aside.submit(slow.run, body.options(run_id="r"))
        assert in_step.wait(PATIENCE_S)
        clock.advance(minutes=5)

        assert store.flow(clock=clock).run(body.options(run_id="r")) == "second"
        before = store.header("r")
        go_on.set()
        error = outcome.exception(PATIENCE_S)

        assert ran == ["first", "second"]
        assert store.header("r") == before
        assert isinstance(error, LeaseLost) or outcome.result() == "second"
        assert store.flow(clock=clock).run(body.options(run_id="r")) == "second"

    def test_the_new_owner_need_not_have_written(
        self, store: Store, wire: Wire, clock: FakeClock, colour: Colour, aside: Executor
    ) -> None:
        """D4: who lost the lease is fenced from the moment of the takeover, before the new owner records anything."""
        begun = {who: threading.Event() for who in ("first", "second")}
        go_on = {who: threading.Event() for who in ("first", "second")}

        @colour.step
        def effect() -> str:
            who = "second" if begun["first"].is_set() else "first"
            begun[who].set()
            go_on[who].wait(PATIENCE_S)
            return who

        @colour.task
        def body() -> Body[str]:
            return str((yield effect()))

        def no_renewals(name: str, args: tuple[Any, ...]) -> None:
            del args
            if name == "renew":
                raise ConnectionError("the line to the storage is cut")

        wire.before = no_renewals
        first = aside.submit(store.flow(wire.storage, clock=clock).run, body.options(run_id="r"))
        assert begun["first"].wait(PATIENCE_S)
        clock.advance(minutes=5)
        second = aside.submit(store.flow(clock=clock).run, body.options(run_id="r"))
        assert begun["second"].wait(PATIENCE_S)
        before = store.header("r").length
        commits = wire.commits()
        go_on["first"].set()
        eventually(lambda: wire.commits() > commits)

        assert store.header("r").length == before
        go_on["second"].set()
        assert second.result(PATIENCE_S) == "second"
        error = first.exception(PATIENCE_S)
        assert isinstance(error, LeaseLost) or first.result() == "second"


class TestLostAnswers:
    """D7."""

    @pytest.mark.parametrize("call", ["submit", "commit"])
    @pytest.mark.parametrize("lost", ["answer", "request"])
    def test_a_call_without_an_answer_is_sent_again(
        self, store: Store, wire: Wire, colour: Colour, call: str, lost: str
    ) -> None:
        """D7: whichever write's answer is lost, the run goes on, and everything is recorded once."""
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

        store.flow().run(body.options(run_id="undisturbed"))
        ran.clear()
        seen: set[str] = set()

        def once_each(name: str, args: tuple[Any, ...]) -> None:
            if name != call:
                return
            writes: tuple[Any, ...] = args[0]
            ids = {write.commit_id if isinstance(write, Commit) else write.run_id for write in writes}
            if not ids <= seen:
                seen.update(ids)
                raise ConnectionError("lost")

        if lost == "request":
            wire.before = once_each
        else:
            wire.after = once_each

        assert store.flow(wire.storage).run(body.options(run_id="r")) == "ab"
        assert ran == ["a", "b"]
        assert seen
        assert store.header("r").length == store.header("undisturbed").length
        assert store.flow().handle("r").result() == "ab"

    def test_the_owner_is_not_taken_for_one_that_lost_the_lease(self, store: Store, wire: Wire, colour: Colour) -> None:
        """D7: when the answer to the finishing commit is lost, the caller still gets the result."""

        @colour.task
        def body() -> Body[str]:
            yield from ()
            return "done"

        lost: list[str] = []

        def lose_the_finish(name: str, args: tuple[Any, ...]) -> None:
            del args
            if name == "commit" and not lost:
                lost.append(name)
                raise ConnectionError("lost")

        wire.after = lose_the_finish

        assert store.flow(wire.storage).run(body.options(run_id="r")) == "done"
        assert lost == ["commit"]


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
