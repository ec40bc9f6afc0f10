"""`Harness`: run tasks in virtual time, and make happen what should not."""

from __future__ import annotations

import asyncio
import contextvars
import difflib
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from flowkit import Flow
from flowkit.active import in_context
from flowkit.daemons import loop_is_running
from flowkit.durations import Duration
from flowkit.memory import MemoryStorage
from flowkit.operations import StepSpec
from flowkit.recording import read
from flowkit.records import Snapshot
from flowkit.registry import TaskSpec
from flowkit.rehearsal import Rehearsal, rehearse
from flowkit.run import current
from flowkit.storage import Storage
from flowkit.tasks import Runnable
from flowkit_testing.budget import Budget
from flowkit_testing.exploration import Exploration
from flowkit_testing.explorer import Explorer
from flowkit_testing.fake_clock import FakeClock
from flowkit_testing.for_real import confirm_for_real, replay_for_real
from flowkit_testing.injector import Injector
from flowkit_testing.injuries import Injuries
from flowkit_testing.lab import Lab
from flowkit_testing.namespace import Namespace
from flowkit_testing.off_loop import on_thread
from flowkit_testing.plan import DEFAULT_FAULTS, Kind, check_events, check_failing, check_faults
from flowkit_testing.points import schedule_of
from flowkit_testing.process import OF_THE_TEST
from flowkit_testing.real import RealTier
from flowkit_testing.regressions import Regressions
from flowkit_testing.report import RunReport
from flowkit_testing.subject import Subject, World

P = ParamSpec("P")
R = TypeVar("R")
_T = TypeVar("_T")


class SwallowedWarning(UserWarning):
    """A task went on after it was told to let go: it has an `except BaseException:` or `except:` without `raise`."""


class FaultNeverFired(AssertionError):
    """A fault was asked for and never happened: the test did not test what it says."""


class Harness(Injuries):
    """What a test uses to run tasks and to injure them. Made by the fixture `harness`.

    Args:
        storage: where runs are kept; closed by whoever made it.
        make_storage: makes an empty one for each trial of `explore`; unless given, a part of `storage`, or one in
            memory if `storage` is.
        always_replay: unwind and replay after every recorded step.
        replay: the token of the one schedule that `explore` is to try.
        regressions: schedules that have broken something before, which `explore` tries first.
        real: let `explore` try schedules in real processes too, which are killed and stopped; the one of `replay`
            there only.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        make_storage: Callable[[], Storage] | None = None,
        always_replay: bool = False,
        replay: str | None = None,
        regressions: Regressions | None = None,
        real: Callable[[Subject], RealTier] | None = None,
    ) -> None:
        self._storage = storage
        self._given_make_storage = make_storage
        self._trials = 0
        self._regressions = regressions
        self._real = real
        self._only = None if replay is None else schedule_of(replay)
        faults = Injector(always_replay=always_replay)
        super().__init__(faults, Lab(storage, faults))
        self._working = False
        self.explorations: list[Exploration] = []
        self.flow: Flow = self._lab.start_process(OF_THE_TEST).flow
        self._lab.start_process()
        self.clock.on_advance = self._settle
        self.clock.on_sleep = self._settle_for_sleeper
        self.clock.on_wait = lambda until_ms: self._work(lambda: self._lab.step(until_ms))

    @property
    def clock(self) -> FakeClock:
        """Virtual time; `harness.clock.advance("30d")` lets it pass."""
        return self._lab.clock

    # ---- running ----------------------------------------------------------------------------------------------

    def run(self, task: Runnable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> RunReport[R]:
        """Run a task to its end: resumed after every crash, woken when it waits. Never raises for a failed run."""

        def work() -> RunReport[R]:
            run_id = self._lab.submit(_spec_of(task, "run"), args, kwargs)
            self._lab.run_to_end(run_id)
            return RunReport(self._lab, run_id)

        return self._work(work)

    def start(self, task: Runnable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> RunReport[R]:
        """Start a task and let it go as far as it comes without time passing."""

        def work() -> RunReport[R]:
            run_id = self._lab.submit(_spec_of(task, "start"), args, kwargs)
            self._lab.settle(self.clock.now_ms())
            return RunReport(self._lab, run_id)

        return self._work(work)

    def send_event(self, run: RunReport[Any] | str, name: str, payload: object = None, id: str | None = None) -> bool:
        """Send a run an event, as `flow.send_event` does, and let it go as far as it comes without time passing."""
        run_id = run if isinstance(run, str) else run.run_id

        def work() -> bool:
            received = self.flow.send_event(run_id, name, payload, id)
            self._lab.settle(self.clock.now_ms())
            return received

        return self._work(work)

    def schedule(self, *scheduled: Runnable[..., Any]) -> None:
        """Let the ticks of these tasks come as time passes, as workers do; other schedules stand still in a test.

        The schedule begins now. `harness.clock.advance("1d")` then creates and advances the runs of a day.
        """
        self._lab.scheduled = (*self._lab.scheduled, *(each.spec for each in scheduled))
        self._settle(self.clock.now_ms())

    @property
    def aio(self) -> AioHarness:
        """The same harness, awaitable."""
        return AioHarness(self)

    def explore(
        self,
        task: Runnable[..., Any],
        /,
        *args: Any,  # noqa: ANN401  # the task's own
        faults: tuple[Kind, ...] = DEFAULT_FAULTS,
        failing: Collection[str] = (),
        world: Callable[[], object] | None = None,
        reset: Callable[[], object] | None = None,
        budget: int | Duration | None = None,
        events: Sequence[tuple[str, object]] = (),
        **kwargs: Any,  # noqa: ANN401  # the task's own
    ) -> Exploration:
        """Try a task with a process that dies at every point, any number of times; `.assert_safe()` it.

        Args:
            task: the task or sequencer.
            *args: what to call it with.
            faults: "crash", "lost_ack" (a commit's answer is lost, whether applied or not), "lease" (another process
                takes over, and the first one goes on), "not_applied", "cancel".
            failing: steps, or undos (`"undo of book"`), that fail for good, each in a scenario of its own.
            world: shows what the steps have changed outside of flowkit, to be compared with the fault-free run.
            reset: brings that back to how it was before the run.
            budget: a number of runs, or a time such as "10s"; what it leaves untried is said, and counts as uncovered.
            events: names and payloads, sent to the run as soon as it exists.
            **kwargs: what to call it with.

        Raises:
            AssertionError: a check was asked for that could not fail.
            TypeError: the task does not take these arguments; `failing` or `events` are not what they are to be.

        Example: `harness.explore(checkout, order, failing=("ship",)).assert_safe()`
        """
        check_faults(faults)
        check_failing(failing)
        check_events(events)
        spec = _spec_of(task, "explore")
        self.flow.engine.new_run(spec, args, kwargs)  # raises what is wrong with them, before anything is blamed for it
        if (world is None) is not (reset is None):
            raise ValueError("harness.explore(world=..., reset=...): each needs the other, to look and to begin afresh")
        subject = Subject(
            spec,
            args,
            kwargs,
            self._make_storage,
            self._faults.copy_by_attempt(),
            self._lab.codec,
            None if world is None or reset is None else World(world, reset),
            tuple(events),
        )
        found = self._work(lambda: self._explored(subject, faults, failing, Budget.of(budget)))
        if self._regressions is not None:
            found.on_failure = self._regressions.keep
        self.explorations.append(found)
        return found

    def _explored(
        self, subject: Subject, faults: tuple[Kind, ...], failing: Collection[str], budget: Budget
    ) -> Exploration:
        """What comes of it in one process, and in real ones if they are asked for."""
        only, real = self._only, None if self._real is None else self._real(subject)
        if only is not None and real is not None:
            return replay_for_real(real, [only])
        first = () if self._regressions is None else self._regressions.schedules()
        explorer = Explorer(subject, faults, failing, budget, first)
        if only is not None:
            return explorer.replay(only)
        found = explorer.explore()
        if real is not None:
            confirm_for_real(found, real)
        return found

    def _make_storage(self) -> Storage:
        if self._given_make_storage is not None:
            return self._given_make_storage()
        capabilities = self.flow.engine.capabilities
        if capabilities.instant:
            return MemoryStorage()
        self._trials += 1
        return Namespace(self._storage, f"explored-{self._trials}-", capabilities)

    def replay(self, recorded: Snapshot | Path | str) -> Rehearsal:
        """Replay a recorded run against the code of today, as far as its record goes; `.assert_fine()` it.

        Args:
            recorded: a file that `flowkit runs show RUN_ID --export FILE` has written, or the run itself.
        """
        if not isinstance(recorded, Snapshot):
            recorded = read(Path(recorded).read_text("utf-8"), str(recorded))
        snapshot = recorded
        return self._work(lambda: rehearse(snapshot, self._lab.codec))

    def report(self, run_id: str) -> RunReport[Any]:
        """A run by its id, such as one that a task has triggered."""
        return RunReport(self._lab, run_id)

    # ---- the end of a test ------------------------------------------------------------------------------------

    def check(self) -> None:
        """What must hold at the end of every test.

        Raises:
            FaultNeverFired: a fault was asked for that never happened.
            AssertionError: a storage let a superseded process write.
        """
        swallowed = self._lab.swallowed | {line: None for each in self.explorations for line in each.swallowed}
        for line in swallowed:
            warnings.warn(line, SwallowedWarning, stacklevel=2)
        idle = self._faults.idle()
        if idle:
            ran = self._lab.trace.names()
            meant = [f"did you mean {near[0]!r}?" for name in self._faults.idle_names() if (near := _near(name, ran))]
            told = [f"never happened: {'; '.join(idle)}. Steps that ran: {', '.join(ran) or 'none'}", *meant]
            raise FaultNeverFired("; ".join(told))
        assert not self._lab.ledger.broken, "\n".join(self._lab.ledger.broken)
        self._work(lambda: self._lab.settle(self.clock.now_ms()))
        orphans = list(self._lab.orphans())
        assert not orphans, "left behind by the test: " + "; ".join(orphans)

    def close(self) -> None:
        """Stop everything."""
        self.clock.on_advance = self.clock.on_sleep = self.clock.on_wait = None
        self._lab.close()

    # ---- on whose thread --------------------------------------------------------------------------------------

    def _work(self, work: Callable[[], _T]) -> _T:
        """Do it here, or on a thread if an event loop runs here (a body's loop cannot be nested in another)."""
        outermost, self._working = not self._working, True
        try:
            return on_thread(work) if loop_is_running() else work()
        finally:
            if outermost:
                self._working = False

    def _settle(self, until_ms: int) -> None:
        self._work(lambda: self._lab.settle(until_ms))

    def _settle_for_sleeper(self, until_ms: int) -> None:
        """Whoever waits outside of all runs, such as the test itself, lets the runs go on meanwhile.

        If nothing is due by then, it sleeps longer, until something is.
        """
        if self._working or current.get() is not None:
            return
        moved = False
        while self._work(lambda: self._lab.step(until_ms)):
            moved = True
        if not moved:
            self._work(lambda: self._lab.step(None))


class AioHarness:
    """The awaitable form of `Harness`: runs are advanced on a thread, so the test's event loop stays free."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness

    async def run(self, task: Runnable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> RunReport[R]:
        """Run a task to its end."""
        return await asyncio.to_thread(self._harness.run, task, *args, **kwargs)

    async def start(self, task: Runnable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> RunReport[R]:
        """Start a task."""
        return await asyncio.to_thread(self._harness.start, task, *args, **kwargs)

    async def explore(self, task: Runnable[..., Any], /, *args: Any, **kwargs: Any) -> Exploration:  # noqa: ANN401  # the same
        """Try a task with a process that dies at every point; takes what `Harness.explore` takes."""
        return await asyncio.to_thread(self._harness.explore, task, *args, **kwargs)

    async def send_event(
        self, run: RunReport[Any] | str, name: str, payload: object = None, id: str | None = None
    ) -> bool:
        """Send a run an event."""
        return await asyncio.to_thread(self._harness.send_event, run, name, payload, id)


def _spec_of(task: Runnable[..., Any], method: str) -> TaskSpec:
    """What is known of a task; a step or a plain function is no task."""
    if isinstance(task, Runnable):
        return task.spec
    what = "a step" if isinstance(getattr(task, "spec", None), StepSpec) else "neither"
    raise TypeError(
        f"harness.{method}({task!r}) takes a task or a sequencer, and this is {what}: decorate a function that calls "
        "it with @task"
    )


def _near(name: str, names: list[str]) -> list[str]:
    return [] if name in names else difflib.get_close_matches(name, names, 1)


def enter(harness: Harness) -> contextvars.Token[Any]:
    """Make the harness's flow the one that tasks called by the test run in."""
    return in_context.set(harness.flow)
