"""R1 to R5: how often work is tried, what is never tried again, and how long it may take."""

import asyncio
import threading
from concurrent.futures import Executor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

import flowkit
from flowkit import (
    ConfigurationError,
    Flow,
    NonRetryable,
    Retry,
    RunBlocked,
    RunStatus,
    StepTimeout,
    current_run,
    step,
    task,
)
from flowkit.records import Exactly, Grant
from tests.rules.conftest import PATIENCE_S, Body, Colour, Crash, FakeClock, Store, eventually


def at_once(attempts: int = 3) -> Retry:
    """A policy that does not wait."""
    return Retry(attempts=attempts, delay=0, jitter=0)


class Busy(Exception):
    """An error that says when to come again."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"come again in {retry_after}")
        self.retry_after = retry_after


class TestAttempts:
    """R1."""

    @pytest.mark.parametrize("attempts", [1, 2, 5])
    def test_attempts_are_tries_in_all(self, flow: Flow, colour: Colour, attempts: int) -> None:
        """R1: a step is tried `attempts` times in place, and the body sees only the last error."""
        ran: list[int] = []
        caught: list[str] = []

        @colour.step(retry=at_once(attempts))
        def effect() -> None:
            ran.append(current_run().attempt)
            raise ValueError(f"attempt {len(ran)}")

        @colour.task
        def body() -> Body[str]:
            try:
                yield effect()
            except ValueError as error:
                caught.append(str(error))
            return "handled"

        assert flow.run(body) == "handled"
        assert ran == list(range(1, attempts + 1))
        assert caught == [f"attempt {attempts}"]

    def test_a_later_attempt_may_succeed(self, flow: Flow, colour: Colour) -> None:
        """R1: a step that succeeds at its last attempt is a step that succeeded; the body runs once."""
        ran: list[str] = []

        @colour.step(retry=at_once(3))
        def effect() -> str:
            ran.append("effect")
            if ran.count("effect") < 3:
                raise OSError
            return "third time lucky"

        @colour.task
        def body() -> Body[str]:
            ran.append("body")
            return str((yield effect()))

        assert flow.run(body) == "third time lucky"
        assert ran == ["body", "effect", "effect", "effect"]

    def test_three_unless_told_otherwise(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """R1: without any policy each piece of work is tried three times, with growing pauses that vary."""
        ran: list[str] = []

        @colour.step
        def effect() -> None:
            ran.append("effect")
            raise OSError("no")

        @colour.task
        def failing_step() -> Body[None]:
            yield effect()

        @colour.task
        def failing_body() -> Body[None]:
            yield from ()
            ran.append("body")
            raise OSError("no")

        for body in (failing_step, failing_body):
            with pytest.raises(OSError, match="no"):
                store.flow(clock=clock).run(body)

        assert ran == ["effect"] * 3 + ["body"] * 3
        assert len(clock.slept) == 4
        assert clock.slept[0] < clock.slept[1]
        assert clock.slept[2] < clock.slept[3]

    def test_a_step_takes_its_tasks_policy(self, flow: Flow, colour: Colour) -> None:
        """R1: a step without a policy is tried as often as its task says, one with a policy as it says itself."""
        ran: list[str] = []

        @colour.step
        def plain() -> None:
            ran.append("plain")
            raise OSError

        @colour.step(retry=at_once(2))
        def own() -> None:
            ran.append("own")
            raise OSError

        @colour.task(retry=at_once(4))
        def body() -> Body[None]:
            for each in (plain, own):
                with suppress(OSError):
                    yield each()

        flow.run(body)

        assert ran == ["plain"] * 4 + ["own"] * 2

    def test_a_child_task_has_a_policy_of_its_own(self, flow: Flow, colour: Colour) -> None:
        """R1: a child's steps take the child's policy, not that of its parent."""
        ran: list[str] = []

        @colour.step
        def effect() -> None:
            ran.append("effect")
            raise OSError("child")

        @colour.task(retry=at_once(2))
        def child() -> Body[None]:
            ran.append("child")
            yield effect()

        @colour.task(retry=at_once(5))
        def parent() -> Body[None]:
            ran.append("parent")
            yield child()

        with pytest.raises(OSError, match="child"):
            flow.run(parent)

        assert ran == ["parent", "child", "effect", "effect"]

    def test_code_between_the_steps_starts_over(self, flow: Flow, colour: Colour) -> None:
        """R1: a body that raises by itself is started over with completed steps skipped."""
        ran: list[str] = []
        attempts: list[int] = []

        @colour.step
        def effect(name: str) -> str:
            ran.append(name)
            return name

        @colour.task(retry=at_once(3))
        def body() -> Body[str]:
            attempts.append(current_run().attempt)
            yield effect("a")
            if len(attempts) == 1:
                raise OSError("by itself")
            yield effect("b")
            if len(attempts) == 2:
                raise OSError("by itself")
            return "done"

        assert flow.run(body) == "done"
        assert ran == ["a", "b"]
        assert attempts == [1, 2, 3]

    def test_attempts_of_the_body_are_limited(self, flow: Flow, colour: Colour) -> None:
        """R1: a body that always raises is tried as often as its task says, and its last error is the run's."""
        ran: list[str] = []

        @colour.task(retry=at_once(3))
        def body() -> Body[None]:
            yield from ()
            ran.append("body")
            raise OSError(f"attempt {len(ran)}")

        with pytest.raises(OSError, match="attempt 3"):
            flow.run(body.options(run_id="r"))

        assert len(ran) == 3
        assert flow.handle("r").status() is RunStatus.FAILED

    def test_attempts_do_not_multiply(self, flow: Flow, colour: Colour) -> None:
        """R1: a failing step in a task with three attempts is tried three times, and the body once."""
        ran: list[str] = []

        @colour.step
        def effect() -> None:
            ran.append("effect")
            raise OSError("no")

        @colour.task(retry=at_once(3))
        def body() -> Body[None]:
            ran.append("body")
            yield effect()

        with pytest.raises(OSError, match="no"):
            flow.run(body)

        assert ran == ["body", "effect", "effect", "effect"]

    def test_options_change_the_policy(self, flow: Flow, colour: Colour) -> None:
        """R1: `options` gives the same step or task with other attempts, and leaves the original alone."""
        ran: list[str] = []

        @colour.step(retry=at_once(1))
        def effect() -> None:
            ran.append("effect")
            raise OSError("no")

        @colour.task
        def body(attempts: int | None) -> Body[None]:
            yield (effect if attempts is None else effect.options(retry=at_once(attempts)))()

        for attempts in (4, None):
            with pytest.raises(OSError, match="no"):
                flow.run(body, attempts)

        assert len(ran) == 5

    def test_inline_steps_take_the_tasks_policy(self, flow: Flow, colour: Colour) -> None:
        """R1: `step.run` is tried as often as its task says."""
        ran: list[str] = []

        def effect() -> str:
            ran.append("effect")
            if len(ran) < 3:
                raise OSError
            return "done"

        @colour.task(retry=at_once(3))
        def body() -> Body[str]:
            result: str = yield (step.aio.run("inline", effect) if colour.awaits else step.run("inline", effect))
            return result

        assert flow.run(body) == "done"
        assert len(ran) == 3


class TestBackOff:
    """R2."""

    def test_the_pauses_are_those_of_the_policy(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """R2: the pauses grow as the policy says, up to its limit, and none follows the last attempt."""

        @colour.step(retry=Retry(attempts=5, delay=0.2, backoff=3, max_delay=0.9, jitter=0))
        def effect() -> None:
            raise OSError("no")

        @colour.task
        def body() -> Body[None]:
            yield effect()

        with pytest.raises(OSError, match="no"):
            store.flow(clock=clock).run(body)

        assert clock.slept == pytest.approx([0.2, 0.6, 0.9, 0.9], abs=0.002)

    def test_jitter_varies_the_pauses(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """R2: with jitter the pauses vary by no more than the given fraction."""

        @colour.step(retry=Retry(attempts=20, delay=0.5, backoff=1, jitter=0.2))
        def effect() -> None:
            raise OSError("no")

        @colour.task
        def body() -> Body[None]:
            yield effect()

        with pytest.raises(OSError, match="no"):
            store.flow(clock=clock).run(body)

        assert len(set(clock.slept)) > 1
        assert all(0.399 <= seconds <= 0.601 for seconds in clock.slept)

    @pytest.mark.parametrize("delay", [0.5, 3600.0])
    @pytest.mark.parametrize("piece", ["step", "body"])
    def test_a_crash_neither_loses_nor_resets_them(
        self, store: Store, clock: FakeClock, colour: Colour, delay: float, piece: str
    ) -> None:
        """R2: a process that dies in a pause leaves the count and the time of the next attempt to the next one."""
        ran: list[float] = []

        def fail() -> None:
            ran.append(clock.ms / 1000)
            raise OSError(f"attempt {len(ran)}")

        @colour.step
        def effect() -> None:
            fail()

        @colour.task(retry=Retry(attempts=3, delay=delay, max_delay=delay, jitter=0))
        def body() -> Body[None]:
            if piece == "step":
                yield effect()
            else:
                yield from ()
                fail()

        def die(_seconds: float) -> None:
            raise Crash

        start = clock.ms / 1000
        clock.on_sleep = die
        for _ in range(2):  # it dies in the same pause twice
            flow = store.flow(clock=clock)
            with pytest.raises(Crash):
                flow.run(body.options(run_id="r"))
            flow.close()
            clock.advance(seconds=delay / 4)
        clock.on_sleep = None
        with pytest.raises(OSError, match="attempt 3"):
            store.flow(clock=clock).run(body.options(run_id="r"))

        assert [moment - start for moment in ran] == pytest.approx([0, delay, 2 * delay], abs=0.002)

    def test_a_crash_before_the_last_attempt(self, store: Store, colour: Colour) -> None:
        """R2: attempts that failed before a crash count after it."""
        ran: list[str] = []
        crashes = [Crash()]

        @colour.step(retry=at_once(3))
        def effect() -> None:
            ran.append("effect")
            if len(ran) == 3:
                raise crashes.pop()
            raise OSError("no")

        @colour.task
        def body() -> Body[None]:
            yield effect()

        first = store.flow()
        with pytest.raises(Crash):
            first.run(body.options(run_id="r"))
        first.close()
        with pytest.raises(OSError, match="no"):
            store.flow().run(body.options(run_id="r"))

        assert len(ran) == 4  # the third attempt was in flight, and runs again

    @pytest.mark.parametrize("piece", ["step", "body"])
    def test_a_long_pause_gives_the_slot_back(self, store: Store, colour: Colour, piece: str) -> None:
        """R2: while a run pauses for long, it waits without the only slot, which another run takes."""
        ran: list[str] = []

        def fail() -> None:
            ran.append("fail")
            raise OSError("no")

        @colour.step
        def effect() -> None:
            fail()

        @colour.task(retry=Retry(attempts=2, delay=3600, max_delay=3600))
        def pausing() -> Body[None]:
            if piece == "step":
                yield effect()
            else:
                yield from ()
                fail()

        @colour.task
        def other() -> Body[str]:
            yield from ()
            return "done"

        flow = Flow(store.storage(), concurrency=1)
        with flow:
            handle = flow.start(pausing)
            eventually(lambda: handle.status() is RunStatus.WAITING)
            assert flow.start(other).result(timeout=PATIENCE_S) == "done"
            assert handle.status() is RunStatus.WAITING

        assert ran == ["fail"]


class TestFinalFailures:
    """R3."""

    def test_a_failure_is_the_same_on_replay(self, store: Store, colour: Colour) -> None:
        """R3: a step that failed for good is not tried again after a crash; its error is raised from the record."""
        ran: list[str] = []
        seen: list[tuple[type, tuple[object, ...], list[str]]] = []
        crashes = [Crash(), Crash()]

        @colour.step(retry=at_once(2))
        def effect() -> None:
            ran.append("effect")
            raise ValueError("no", 5)

        @colour.task
        def body() -> Body[None]:
            try:
                yield effect()
            except ValueError as error:
                seen.append((type(error), error.args, list(error.__notes__)))
            if crashes:
                raise crashes.pop()

        for _ in range(2):
            flow = store.flow()
            with pytest.raises(Crash):
                flow.run(body.options(run_id="r"))
            flow.close()
        store.flow().run(body.options(run_id="r"))

        assert ran == ["effect"] * 2
        assert seen[0] == seen[1] == seen[2]
        assert seen[0][:2] == (ValueError, ("no", 5))

    def test_a_body_that_saw_a_failure_is_not_started_over(self, flow: Flow, colour: Colour) -> None:
        """R3: once a step's failure was delivered, also a caught one, an error of the body is final."""
        ran: list[str] = []

        @colour.step(retry=at_once(1))
        def effect() -> None:
            raise ValueError("step")

        @colour.task(retry=at_once(3))
        def body() -> Body[None]:
            ran.append("body")
            with suppress(ValueError):
                yield effect()
            raise OSError("body")

        with pytest.raises(OSError, match="body"):
            flow.run(body)

        assert ran == ["body"]

    def test_a_wrapped_failure_is_final(self, flow: Flow, colour: Colour) -> None:
        """R3: an error that the body raises from a step's failure is the run's outcome."""
        ran: list[str] = []

        @colour.step(retry=at_once(1))
        def effect() -> None:
            raise ValueError("step")

        @colour.task(retry=at_once(3))
        def body() -> Body[None]:
            ran.append("body")
            try:
                yield effect()
            except ValueError as error:
                raise OSError("wrapped") from error

        with pytest.raises(OSError, match="wrapped"):
            flow.run(body)

        assert ran == ["body"]

    @pytest.mark.parametrize("form", ["except", "finally"])
    def test_a_body_that_cleaned_up_is_not_started_over(self, flow: Flow, form: str) -> None:
        """R3: an operation that was called while an error was being handled makes the outcome final."""
        ran: list[str] = []

        @step
        def clean_up() -> None:
            ran.append("clean up")

        @step
        async def clean_up_async() -> None:
            ran.append("clean up")

        @task(retry=at_once(3))
        def body() -> None:
            ran.append("body")
            if form == "except":
                try:
                    raise OSError("body")
                except OSError:
                    clean_up()
                    raise
            try:
                raise OSError("body")
            finally:
                clean_up()

        @task(retry=at_once(3))
        async def body_async() -> None:
            ran.append("body")
            if form == "except":
                try:
                    raise OSError("body")
                except OSError:
                    await clean_up_async()
                    raise
            try:
                raise OSError("body")
            finally:
                await clean_up_async()

        with pytest.raises(OSError, match="body"):
            flow.run(body)
        with pytest.raises(OSError, match="body"):
            flow.run(body_async)

        assert ran == ["body", "clean up"] * 2

    def test_an_operation_after_a_handled_error_is_no_clean_up(self, flow: Flow, colour: Colour) -> None:
        """R3: an error of its own that the body has dealt with before it went on does not make a later one final."""
        ran: list[str] = []

        @colour.step
        def effect() -> None:
            ran.append("effect")

        @colour.task(retry=at_once(2))
        def body() -> Body[str]:
            ran.append("body")
            with suppress(KeyError):
                raise KeyError("its own")
            yield effect()
            if ran.count("body") == 1:
                raise OSError("body")
            return "done"

        assert flow.run(body) == "done"
        assert ran == ["body", "effect", "body"]

    def test_a_childs_failure_is_final(self, flow: Flow, colour: Colour) -> None:
        """R3: a failed child is a failure that was delivered: its parent is not started over."""
        ran: list[str] = []

        @colour.task(attempts=1)
        def child() -> Body[None]:
            yield from ()
            ran.append("child")
            raise ValueError("child")

        @colour.task(retry=at_once(3))
        def parent() -> Body[None]:
            ran.append("parent")
            yield child()

        with pytest.raises(ValueError, match="child"):
            flow.run(parent)

        assert ran == ["parent", "child"]

    def test_a_reopened_run_has_its_attempts_again(self, flow: Flow, colour: Colour) -> None:
        """R3: `flow.retry` gives what failed all its attempts again."""
        ran: list[str] = []

        @colour.step(retry=at_once(2))
        def effect() -> str:
            ran.append("effect")
            if len(ran) < 4:
                raise OSError("no")
            return "done"

        @colour.task
        def body() -> Body[str]:
            return str((yield effect()))

        with pytest.raises(OSError, match="no"):
            flow.run(body.options(run_id="r"))
        flow.retry("r")

        assert flow.run(body.options(run_id="r")) == "done"
        assert len(ran) == 4


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
            flow = store.flow()
            with pytest.raises(Crash):
                flow.run(body.options(run_id="r"))
            flow.close()

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


class TestTimeouts:
    """R5."""

    def test_an_async_step_is_cancelled(self, flow: Flow) -> None:
        """R5: a timeout cancels an async step, whose `finally` runs, and raises `StepTimeout`."""
        ran: list[str] = []

        @step(timeout=0.01, attempts=1)
        async def effect() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ran.append("cancelled")
                raise
            finally:
                ran.append("finally")

        @task
        async def body() -> str:
            try:
                await effect()
            except TimeoutError as error:
                return type(error).__name__
            return "no timeout"

        assert flow.run(body) == "StepTimeout"
        assert ran == ["cancelled", "finally"]

    def test_a_sync_step_is_abandoned(self, store: Store, flow: Flow) -> None:
        """R5: a timed sync step runs in a daemon thread; after the timeout its late result is discarded."""
        go_on = threading.Event()
        late = threading.Event()
        daemons: list[bool] = []

        @step(timeout=0.01, attempts=1)
        def effect() -> str:
            daemons.append(threading.current_thread().daemon)
            go_on.wait(PATIENCE_S)
            late.set()
            return "late"

        @task
        def body() -> str:
            try:
                return effect()
            except StepTimeout:
                return "in time"

        assert flow.run(body.options(run_id="r")) == "in time"
        before = store.header("r")
        go_on.set()
        assert late.wait(PATIENCE_S)

        assert daemons == [True]
        assert store.header("r") == before
        assert flow.run(body.options(run_id="r")) == "in time"

    def test_a_timeout_is_a_failed_attempt(self, flow: Flow) -> None:
        """R5: each attempt has the whole timeout, and a step may succeed after one that ran into it."""
        ran: list[str] = []

        @step(timeout=0.01, retry=at_once(3))
        async def effect() -> str:
            ran.append("effect")
            if len(ran) < 3:
                await asyncio.Event().wait()
            return "done"

        @task
        async def body() -> str:
            return await effect()

        assert flow.run(body) == "done"
        assert len(ran) == 3

    def test_a_step_in_time_is_not_disturbed(self, flow: Flow, colour: Colour) -> None:
        """R5: a timeout that is not reached changes nothing, in whatever form it is given."""

        @colour.step(timeout="1h")
        def effect() -> str:
            return current_run().id

        @colour.task
        def body() -> Body[set[str]]:
            results = {(yield effect())}
            for timeout in ("1h30m", 3600, timedelta(hours=1)):
                results.add((yield effect.options(timeout=timeout)()))
            return results

        assert flow.run(body.options(run_id="r")) == {"r"}

    def test_a_timeout_error_of_the_step_is_its_own(self, flow: Flow, colour: Colour) -> None:
        """R5: a `TimeoutError` that the step raises itself is not taken for flowkit's."""

        @colour.step(timeout="1h", attempts=1)
        def effect() -> None:
            raise TimeoutError("mine")

        @colour.task
        def body() -> Body[None]:
            yield effect()

        with pytest.raises(TimeoutError, match="mine") as caught:
            flow.run(body)
        assert type(caught.value) is TimeoutError

    def test_a_task_has_a_timeout_too(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """R5: a task that takes longer than its timeout fails with `StepTimeout`, which is a `TimeoutError`."""
        ran: list[str] = []

        @colour.step
        def effect() -> None:
            ran.append("effect")
            clock.advance(minutes=40)

        @colour.task(timeout="1h", attempts=3)
        def body() -> Body[None]:
            for _ in range(10):
                yield effect()

        flow = store.flow(clock=clock)
        with pytest.raises(TimeoutError):
            flow.run(body.options(run_id="r"))

        assert len(ran) == 2
        assert flow.handle("r").status() is RunStatus.FAILED


class TestPolicies:
    """R1 and R4, as they are written down."""

    @pytest.mark.parametrize(
        "options",
        [
            {"attempts": 0},
            {"attempts": -1},
            {"retry": "often"},
            {"timeout": "soon"},
            {"timeout": -1},
            {"attempts": 2, "retry": Retry(attempts=3)},
        ],
        ids=str,
    )
    def test_nonsense_is_refused_where_it_is_written(self, options: dict[str, Any]) -> None:
        """R1: an option that makes no sense is an error at the decorator, not at run time."""
        with pytest.raises(ConfigurationError):
            step(**options)(lambda: None)
        with pytest.raises(ConfigurationError):
            task(id="rules-nonsense", **options)(lambda: None)

    def test_a_policy_that_makes_no_sense_is_refused(self) -> None:
        """R1: a `Retry` with impossible numbers is refused where it is made."""
        for options in ({"attempts": 0}, {"delay": -1}, {"jitter": -0.5}, {"max_delay": -1}):
            with pytest.raises((ConfigurationError, ValueError)):
                Retry(**options)
