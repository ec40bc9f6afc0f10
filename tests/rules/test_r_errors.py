"""R4: which errors are tried again."""

import threading
from concurrent.futures import Executor
from typing import cast

import pytest

import flowkit
from flowkit import (
    Flow,
    NonRetryable,
    Retry,
    RunBlocked,
    RunStatus,
    task,
)
from flowkit.records import Exactly, Grant
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, Crash, FakeClock, Store, at_once, crash_once


class Busy(Exception):
    """An error that says when to come again."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"come again in {retry_after}")
        self.retry_after = retry_after


class TestWhatIsRetried:
    """R4."""

    @pytest.mark.parametrize(
        ("error", "tries"),
        [
            (ConnectionError("a"), 3),
            (ConnectionResetError("a subclass"), 3),
            (TimeoutError("another of the classes"), 3),
            (OSError("a base class"), 1),
            (ValueError("something else"), 1),
        ],
        ids=lambda each: type(each).__name__ if isinstance(each, Exception) else str(each),
    )
    @pytest.mark.parametrize("piece", ["step", "body"])
    def test_on_limits_the_errors(self, flow: Flow, colour: Colour, piece: str, error: Exception, tries: int) -> None:
        """R4: only errors of the classes in `on` are tried again, in steps and in bodies."""
        ran: list[str] = []
        policy = Retry(attempts=3, delay=0, jitter=0, on=(ConnectionError, TimeoutError))

        def fail() -> None:
            ran.append(piece)
            raise error

        @colour.step
        def effect() -> None:
            fail()

        @colour.task(retry=policy)
        def body() -> Body[None]:
            if piece == "step":
                yield effect()
            else:
                yield from ()
                fail()

        with pytest.raises(type(error), match=str(error)):
            flow.run(body)

        assert len(ran) == tries

    @pytest.mark.parametrize("piece", ["step", "body"])
    def test_non_retryable_never_is(self, flow: Flow, colour: Colour, piece: str) -> None:
        """R4: `NonRetryable` and its subclasses fail at once, whatever the policy says."""
        ran: list[str] = []

        class Refused(NonRetryable):
            """A subclass, as users make them."""

        def fail() -> None:
            ran.append(piece)
            raise Refused("for good")

        @colour.step
        def effect() -> None:
            fail()

        @colour.task(retry=lambda _error, _attempt: 0)
        def body() -> Body[None]:
            if piece == "step":
                yield effect()
            else:
                yield from ()
                fail()

        with pytest.raises(flowkit.FlowkitError, match="for good"):
            flow.run(body)

        assert ran == [piece]

    def test_retry_after_is_honoured(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """R4: an error's `retry_after`, in seconds, is how long the pause is."""
        ran: list[str] = []

        @colour.step(retry=Retry(attempts=3, delay=0.1, max_delay=1, jitter=0))
        def effect() -> str:
            ran.append("effect")
            if len(ran) == 1:
                raise Busy(42.0)
            return "done"

        @colour.task
        def body() -> Body[str]:
            return str((yield effect()))

        start = clock.ms
        assert store.flow(clock=clock).run(body) == "done"
        assert clock.ms - start == 42_000

    def test_a_function_may_be_the_policy(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """R4: a policy function gets the error and the number of the attempt, and says how long to wait, or not."""
        asked: list[tuple[str, int]] = []

        def policy(error: BaseException, attempt: int) -> float | None:
            asked.append((str(error), attempt))
            return 0.5 * attempt if attempt < 3 else None

        @colour.step(retry=policy)
        def effect() -> None:
            raise OSError(f"error {len(asked) + 1}")

        @colour.task
        def body() -> Body[None]:
            yield effect()

        with pytest.raises(OSError, match="error 3"):
            store.flow(clock=clock).run(body)

        assert asked == [("error 1", 1), ("error 2", 2), ("error 3", 3)]
        assert clock.slept == pytest.approx([0.5, 1.0], abs=0.002)

    @pytest.mark.parametrize("piece", ["step", "body"])
    @pytest.mark.parametrize("answer", ["soon", float("inf"), OSError], ids=str)
    def test_a_function_that_fails_has_given_up(self, flow: Flow, colour: Colour, piece: str, answer: object) -> None:
        """R4: a policy function that raises, or says what is no delay, ends the piece with its own error and a note."""

        def policy(error: BaseException, attempt: int) -> float:
            if answer is OSError:
                raise OSError(f"no policy for {error!r} at {attempt}")
            return cast("float", answer)

        @colour.step(retry=policy)
        def effect() -> None:
            raise OSError("down")

        @colour.task(retry=policy)
        def body() -> Body[None]:
            if piece == "body":
                raise OSError("down")
            yield effect()

        with pytest.raises(OSError, match="down") as caught:
            flow.run(body.options(run_id="once"))

        assert "its retry= function failed" in caught.value.__notes__[0]
        assert flow.handle("once").status() is RunStatus.FAILED

    def test_usage_errors_are_final(self, flow: Flow, colour: Colour) -> None:
        """R4: a mistake in how flowkit is used is not tried again, since it cannot go away."""
        ran: list[str] = []

        @colour.step
        def effect() -> None:
            ran.append("effect")
            flowkit.sleep(1)

        @colour.task(attempts=3)
        def body() -> Body[None]:
            ran.append("body")
            yield effect()

        with pytest.raises(flowkit.UsageError):
            flow.run(body)

        assert ran == ["body", "effect"]

    def test_crashes_are_no_attempts(self, store: Store, colour: Colour) -> None:
        """R4: a run whose process died more often than it has attempts still has all of them."""
        ran: list[str] = []
        crashes = [Crash() for _ in range(5)]

        @colour.step(attempts=1)
        def effect() -> str:
            ran.append("effect")
            if crashes:
                raise crashes.pop()
            return "done"

        @colour.task
        def body() -> Body[str]:
            return str((yield effect()))

        for _ in range(5):
            crash_once(store, body)

        assert store.flow().run(body.options(run_id="r")) == "done"
        assert len(ran) == 6

    def test_cancellation_is_no_attempt(self, flow: Flow, colour: Colour, aside: Executor) -> None:
        """R4: a step that is in flight when its run is cancelled is not tried again."""
        ran: list[str] = []
        begun, go_on = threading.Event(), threading.Event()

        @colour.step(retry=at_once(5))
        def effect() -> None:
            ran.append("effect")
            begun.set()
            go_on.wait(PATIENCE_S)

        @colour.task(retry=at_once(5))
        def body() -> Body[None]:
            yield effect()
            yield effect()

        running = aside.submit(flow.run, body.options(run_id="r"))
        assert begun.wait(PATIENCE_S)
        assert flow.cancel("r")
        go_on.set()
        error = running.exception(PATIENCE_S)

        assert isinstance(error, flowkit.RunCancelled)
        assert ran == ["effect"]

    def test_a_run_that_kills_its_workers_is_blocked(self, store: Store, clock: FakeClock) -> None:
        """R4: a run that was taken over from twenty dead workers in a row without progress is blocked, with why."""
        ran: list[str] = []

        @task(id="rules-killer")
        def body() -> str:
            ran.append("body")
            return "done"

        flow = store.flow(clock=clock)
        handle = flow.start(body.options(run_id="r"))
        storage = store.storage()
        storage.open()
        for number in range(21):
            claimed = storage.claim(Grant(f"w{number}", f"t{number}", 1000), Exactly("r"), 1, now_ms=clock.ms)
            assert claimed.leases
            clock.advance(seconds=2)
        storage.close()

        with pytest.raises(RunBlocked, match=r"2[01]"):
            flow.run(body.options(run_id="r"))
        assert handle.status() is RunStatus.BLOCKED
        assert ran == []

        flow.retry("r")
        assert flow.run(body.options(run_id="r")) == "done"
