"""The faults that a test has asked for, at work."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from attrs import define, evolve, field

from flowkit.effects import Effect, Invoke
from flowkit_testing.faults import Fault, InjectedFault, StepFault, StorageFault, Strike, is_outcome
from flowkit_testing.lab import Replayed
from flowkit_testing.process import Moment, Process
from flowkit_testing.trace import What

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
    _decided: dict[tuple[str, str, int], StepFault | None] = field(factory=dict)

    def copy_by_attempt(self) -> Injector:
        """The same faults of steps, none of them fired yet, decided by attempt."""
        return Injector([evolve(fault, fired=0) for fault in self.steps], by_attempt=True)

    def idle(self) -> list[str]:
        """The faults that never happened."""
        asked_for: list[Fault] = [*self.steps, *self.strikes, *self.storage]
        return [str(fault) for fault in asked_for if not fault.fired]

    def before(self, moment: Moment) -> Effect:
        """An effect is about to be performed."""
        for strike in self.strikes:
            strike.strike(moment, after=False)
        effect = moment.effect
        if not isinstance(effect, Invoke) or not self.steps:
            return effect
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
        for strike in self.strikes:
            strike.strike(moment, after=True)
        if self.always_replay and is_outcome(moment.effect):
            moment.run.close(Replayed("unwound after a recorded step"))
        return answer

    def asked(self, process: Process, operation: str, perform: Callable[[], _T]) -> _T:
        """A process calls its storage."""
        del process
        due = [fault for fault in self.storage if fault.due(operation)]
        if not due:
            return perform()
        if due[0].outcome == "applied_ack_lost":
            perform()
        raise InjectedFault(f"injected: {due[0]}")
