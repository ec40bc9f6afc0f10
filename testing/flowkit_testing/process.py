"""A pretended process: an engine over the shared storage, which can die at any effect without a word."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from attrs import evolve, frozen

from flowkit import Flow
from flowkit.active import in_context
from flowkit.body import Ending
from flowkit.documents import decode_input, encode_input
from flowkit.effects import Advance, Effect, End, Invoke, Record, RunBody
from flowkit.incarnations import Start
from flowkit.journal import Past
from flowkit.reasons import Revoked
from flowkit.records import NewRun
from flowkit.registry import tasks
from flowkit.run import Probe, Run, current
from flowkit_testing.fake_clock import FakeClock
from flowkit_testing.ledger import Ledger
from flowkit_testing.port import Port
from flowkit_testing.trace import Call, Trace, What
from flowkit_testing.turns import Turns
from flowkit_testing.virtual_loop import VirtualLoop

_T = TypeVar("_T")


class ProcessDied(BaseException):
    """The pretended process died here. Nothing in it can answer this: whatever it still does has no effect."""


@frozen
class Moment:
    """An effect that is about to be performed, or just was."""

    process: Process
    run: Run
    effect: Effect
    call: Call


class Watcher(Protocol):
    """Sees all that processes do, and may make it go wrong."""

    def before(self, moment: Moment) -> Effect:
        """The effect to perform instead, or the same one; may raise."""

    def after(self, moment: Moment, answer: object) -> object:
        """The answer to hand on; may raise."""

    def over(self, moment: Moment) -> None:
        """An effect was performed, or has failed, and its answer is known."""

    def recalled(self, run: Run, past: Past) -> None:
        """The journal answers a call."""

    def asked(self, process: Process, operation: str, perform: Callable[[], _T]) -> _T:
        """Perform a call of the storage; may raise before or after."""


@frozen
class World:
    """What all pretended processes share."""

    clock: FakeClock
    trace: Trace
    ledger: Ledger
    watcher: Watcher
    open_flow: Callable[[Port], Flow]  # not entered yet
    swallowed: dict[str, None]  # what was told of bodies that went on after they were told to let go (rule E1)


OF_THE_TEST = "the test"  # the process in which the test itself calls tasks: whatever ends them ends in the test


class Process(Probe):
    """One process of the pretended cluster."""

    def __init__(self, world: World, make_port: Callable[[Process], Port], name: str) -> None:
        self.world = world
        self.name = name
        self.died: ProcessDied | None = None
        self.on_stop: Callable[[], None] | None = None  # while a run is advanced on a thread that may stand still
        self.killed = False
        self._goes_on = threading.Event()
        self._goes_on.set()
        self._lock = threading.Lock()
        self._bodies: set[Run] = set()
        self.turns = Turns(lambda: self.stopped)
        self._away: dict[int, Effect] = {}  # effects that another thread is at work on
        self.flow = world.open_flow(make_port(self)).open()
        self.flow.engine.probe = self

    def __repr__(self) -> str:
        return f"<Process {self.name}{'' if self.died is None else ' (dead)'}>"

    # ---- life and death ---------------------------------------------------------------------------------------

    def die(self, where: str) -> ProcessDied:
        """End without a word: its ports are closed, its bodies leave the stack and can record nothing more.

        Returns:
            What to raise at the point of death.
        """
        with self._lock:
            died = self.died = self.died or ProcessDied(where)
            bodies = tuple(self._bodies)
        self.turns.end()
        for run in bodies:
            if run.reason is None:
                run.reason = Revoked(died)
            if run.unwind is not None:
                run.unwind(run.reason)
        return died

    @property
    def stopped(self) -> bool:
        """True while it stands still."""
        return not self._goes_on.is_set()

    def stop(self, *, for_good: bool = False) -> None:
        """Stand still here, as on SIGSTOP, until it is let go on; whatever else in it comes to an effect does too.

        Args:
            for_good: it is never let go on, as after SIGKILL: no `finally` of it runs.
        """
        self.killed = for_good
        self._goes_on.clear()
        if self.on_stop is not None:
            self.on_stop()
        self._stand()

    def go_on(self) -> None:
        """Let it go on, as on SIGCONT."""
        self._goes_on.set()

    def _stand(self) -> None:
        self._goes_on.wait()
        if self.died is not None:
            raise self.died

    def renew(self) -> None:
        """Renew the leases of what is being advanced here, as the heartbeat of a real process does.

        One that is not answered is made up for by the next; what it says of lost leases is for the commits to find out.
        """
        with self._lock:
            leases = [run.writer.lease for run in self._bodies if run.writer.lost is None]
        if leases:
            engine = self.flow.engine
            with contextlib.suppress(Exception):
                engine.storage.renew(engine.worker_id, leases, engine.lease_ms, now_ms=engine.now_arg())

    def close(self) -> None:
        """Let go of its resources."""
        self.flow.close()

    def ask(self, operation: str, perform: Callable[[], _T]) -> _T:
        """A call of the storage (see `port.Line`)."""
        self._stand()
        return self.world.watcher.asked(self, operation, perform)

    def advance(self, start: Start) -> Ending:
        """Advance a claimed run as far as it goes, on a virtual event loop if it is async."""
        spec, engine = tasks.find(start.task), self.flow.engine
        self.turns = Turns(lambda: self.stopped)
        context = contextvars.copy_context()
        context.run(in_context.set, self.flow)
        context.run(current.set, None)
        if spec is None or not spec.is_async:
            return context.run(engine.advance, start)
        with asyncio.Runner(loop_factory=lambda: VirtualLoop(self.world.clock, self._someone_is_away)) as runner:
            runner.get_loop().set_exception_handler(self._asyncio_complains)
            return runner.run(engine.advance_async(start), context=context)

    def _asyncio_complains(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Nobody looks at what the tasks of a dead process have left behind."""
        if self.died is None:
            loop.default_exception_handler(context)

    def _someone_is_away(self) -> bool:
        return bool(self._away)

    # ---- the probe of its engine (see `flowkit.run.Probe`) ------------------------------------------------------

    def before(self, run: Run, effect: Effect) -> Effect:
        """An effect is about to be performed."""
        self._stand()
        moment = Moment(self, run, effect, self.world.trace.call_of(run, effect))
        match effect:
            case Invoke():
                self.world.trace.add(What.BEGUN, moment.call, f"attempt {effect.attempt}")
            case RunBody():
                self._bodies.add(run)
                self.world.trace.add(What.BODY, moment.call)
            case Advance():
                moment = evolve(moment, effect=evolve(effect, run=_seeded(run, effect.run)))
            case Record(spawn=spawn) if spawn:
                moment = evolve(moment, effect=evolve(effect, spawn=tuple(_seeded(run, new) for new in spawn)))
            case _:
                pass
        planned = self.world.watcher.before(moment)
        if isinstance(planned, Record | End) or (isinstance(planned, Invoke) and planned.threaded):
            self._away[id(planned)] = planned
        if isinstance(planned, Invoke) and not planned.threaded:
            self._give_way()
        return planned

    def _give_way(self, rank: int = 0) -> None:
        self.turns.give_way(rank)
        self._stand()

    def come_late(self, rank: int) -> None:
        """Let all others go first that can, but for those that come later still."""
        self._give_way(rank)

    def after(self, run: Run, effect: Effect, answer: object) -> object:
        """An effect was performed."""
        self._away.pop(id(effect), None)
        moment = Moment(self, run, effect, self.world.trace.call_of(run, effect))
        if isinstance(effect, RunBody):
            self._bodies.discard(run)
        elif isinstance(effect, Record):
            self.world.trace.add(What.RECORDED, moment.call, effect.phase)
        self.world.watcher.over(moment)
        return answer if self.died is not None else self.world.watcher.after(moment, answer)

    def failed(self, run: Run, effect: Effect, _error: BaseException) -> None:
        """An effect raised."""
        self._away.pop(id(effect), None)
        self.world.watcher.over(Moment(self, run, effect, self.world.trace.call_of(run, effect)))
        if isinstance(effect, RunBody):
            self._bodies.discard(run)

    def beside(self, run: Run, body: Callable[[], None]) -> Callable[[], None]:
        """What to do on another thread: the same, in turns."""
        del run
        return self.turns.beside(body)

    def stands_by(self, run: Run, ready: Callable[[], bool]) -> None:
        """This thread is about to wait for others."""
        del run
        self.turns.stand_by(ready)

    def swallowed(self, run: Run, told: str) -> None:
        """A body went on after it was told to let go."""
        del run
        self.world.swallowed[told] = None

    def recalled(self, run: Run, past: Past) -> None:
        """The journal answers a call."""
        trace = self.world.trace
        trace.add(What.REPLAYED if run.id in trace.forced else What.RECALLED, trace.recalled(run, past))
        self.world.watcher.recalled(run, past)


def _seeded(parent: Run, new: NewRun) -> NewRun:
    """The child with a seed that follows from its parent's, so that every run of a test draws the same numbers."""
    given = decode_input(parent.codec, new.input)
    return evolve(new, input=encode_input(parent.codec, evolve(given, seed=f"{parent.seed}/{new.run_id}")))
