"""D4 and D7: results are recorded once, by the owner alone, whatever answers are lost."""

import threading
from concurrent.futures import Executor
from typing import Any

import pytest

from flowkit import LeaseLost
from flowkit.records import Commit
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, FakeClock, Store, Wire, eventually
from tests.rules.effects import in_a_row, noting


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
        effect = noting(colour, ran)
        body = in_a_row(colour, effect, "a", "b")

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
