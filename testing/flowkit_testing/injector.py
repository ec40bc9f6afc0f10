"""The faults that a test has asked for, at work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from attrs import define, evolve, field

from flowkit.effects import Effect, End, Invoke, RunBody
from flowkit.journal import Past
from flowkit.reasons import Detached, Unwind
from flowkit.records import Finish
from flowkit.run import Run
from flowkit_testing.faults import (
    Fail,
    Fault,
    InjectedFault,
    StepFault,
    StorageFault,
    Strike,
    held_back,
    is_outcome,
)
from flowkit_testing.lab import Replayed
from flowkit_testing.orders import Latecomers
from flowkit_testing.points import describe_effect
from flowkit_testing.process import OF_THE_TEST, Moment, Process
from flowkit_testing.trace import What
from flowkit_testing.which import which

_T = TypeVar("_T")


@define(eq=False)
class Injector:
    """A watcher that makes happen what a test wants to happen.

    With `by_attempt`, whether a fault happens to an attempt is decided once: the same attempt made again after a crash
    goes the same way, so that runs with and without crashes can be compared.
    """

    steps: list[StepFault] = field(factory=list)
    strikes: list[Strike] = field(factory=list)
    storage: list[StorageFault] = field(factory=list)
    always_replay: bool = False
    by_attempt: bool = False
    of_scenario: int = 0  # how many of the faults of steps, from the first, belong to it
    late: Latecomers = field(factory=Latecomers)
    _fresh: set[str] = field(factory=set)  # runs that have recorded something since their body began
    _decided: dict[tuple[str, str, int], StepFault | None] = field(factory=dict)

    def copy_by_attempt(self) -> Injector:
        """The same faults of steps, none of them fired yet, decided by attempt."""
        return Injector([evolve(fault, fired=0) for fault in self.steps], by_attempt=True)

    def in_scenario(self, failing: Iterable[str], error: Callable[[str], BaseException], late: Latecomers) -> Injector:
        """The same faults, where besides some steps fail at every attempt, and some come late."""
        failures: list[StepFault] = [Fail(which(step), error=error(step)) for step in failing]
        steps = failures + [evolve(fault, fired=0) for fault in self.steps]
        return Injector(steps, by_attempt=True, of_scenario=len(failures), late=late)

    def idle(self) -> list[str]:
        """The faults that never happened."""
        asked_for: list[Fault] = [*self.steps, *self.strikes, *self.storage]
        return [str(fault) for fault in asked_for if not fault.fired]

    def idle_names(self) -> list[str]:
        """The steps that they were for."""
        of_steps: list[StepFault | Strike] = [*self.steps, *self.strikes]
        return [fault.which.name for fault in of_steps if not fault.fired]

    def idle_failures(self) -> list[str]:
        """The steps that were to fail, by the scenario, and were never called."""
        return [str(fault) for fault in self.steps[: self.of_scenario] if not fault.fired]

    def before(self, moment: Moment) -> Effect:
        """An effect is about to be performed."""
        for strike in self.strikes:
            strike.strike(moment, after=False)
        effect = moment.effect
        if self._replays(moment):
            self._replay_before_the_end(moment, effect)
        if not isinstance(effect, Invoke):
            return effect
        planned = self._with_faults(moment, effect) if self.steps else effect
        delay_s = self.late.delay_s(describe_effect(moment.run.id, effect)) if self.late.ranks else 0.0
        return held_back(moment, planned, delay_s) if delay_s else planned

    def _with_faults(self, moment: Moment, effect: Invoke) -> Invoke:
        fault = self._fault(moment, effect)
        if fault is None:
            return effect
        moment.process.world.trace.add(What.INJECTED, moment.call, str(fault))
        return fault.plan(moment, effect)

    def _fault(self, moment: Moment, effect: Invoke) -> StepFault | None:
        attempt = (moment.run.id, effect.key, effect.attempt)
        if self.by_attempt and attempt in self._decided:
            return self._decided[attempt]
        fault = next((fault for fault in self.steps if fault.applies(moment, effect)), None)
        if fault is not None:
            fault.fired += 1
        self._decided[attempt] = fault
        return fault

    def after(self, moment: Moment, answer: object) -> object:
        """An effect was performed."""
        if self.late.ranks and isinstance(moment.effect, Invoke) and not moment.run.is_async:
            rank = self.late.ranks.get(describe_effect(moment.run.id, moment.effect))
            if rank is not None:
                moment.process.come_late(rank)
        for strike in self.strikes:
            strike.strike(moment, after=True)
        if self._replays(moment) and is_outcome(moment.effect):
            self._fresh.add(moment.run.id)
            moment.run.close(Replayed("unwound after a recorded step"))
        return answer

    def _replays(self, moment: Moment) -> bool:
        """A call that the test itself makes has nobody who would take its run up again."""
        return self.always_replay and moment.process.name != OF_THE_TEST

    def _replay_before_the_end(self, moment: Moment, effect: Effect) -> None:
        """Unwind a body that ends after its last step has been recorded, too: nothing would replay that one."""
        if isinstance(effect, RunBody):
            self._fresh.discard(moment.run.id)
        elif isinstance(effect, End) and isinstance(effect.then, Finish) and moment.run.id in self._fresh:
            raise Unwind(Detached(Replayed("unwound before its end")))

    def over(self, moment: Moment) -> None:
        """An effect has been performed, or has failed."""

    def recalled(self, run: Run, past: Past) -> None:
        """The journal answers a call."""

    def asked(self, process: Process, operation: str, perform: Callable[[], _T]) -> _T:
        """A process calls its storage."""
        del process
        due = [fault for fault in self.storage if fault.due(operation)]
        if not due:
            return perform()
        if due[0].outcome == "applied_ack_lost":
            perform()
        raise InjectedFault(f"injected: {due[0]}")
