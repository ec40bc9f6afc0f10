"""What one trial sees of its processes: which attempts are under way, which were begun how often, and what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from attrs import define, field

from flowkit.effects import Effect, End, Invoke, Record, Returned
from flowkit.entries import Kind, Phase, split
from flowkit.errors import SerializationError
from flowkit.journal import Past
from flowkit.records import Finish
from flowkit.rollback import undo_key
from flowkit.run import Run
from flowkit_testing.advice import MUTATES
from flowkit_testing.checks import Check
from flowkit_testing.ledger import Ledger
from flowkit_testing.process import Moment, Process
from flowkit_testing.subject import RUN_ID

_UNDO_MARK = undo_key("")
Attempt = tuple[str, str, int]
"""Run, key and number."""


@define(eq=False)
class Watch:
    """Holds every effect against what the storage has acknowledged before."""

    ledger: Ledger
    wrong: list[str] = field(factory=list)
    undoable: set[tuple[str, str]] = field(factory=set)  # run and key of steps that have an undo
    begun: Counter[Attempt] = field(factory=Counter)
    allowed: Counter[Attempt] = field(factory=Counter)
    cancelled: bool = False  # the run was told to stop
    heard: bool = False  # and the answer to a commit of it has said so
    calls_after_cancel: int = 0
    _zombies: set[Process] = field(factory=set)  # they do not know that somebody else has taken over
    _running: dict[int, tuple[Process, Run, Invoke]] = field(factory=dict)  # by the identity of the effect
    suspects: list[str] = field(factory=list)  # what is no fault by itself, and explains those that come of it
    weighs: bool = False  # hold what is recorded of steps against what their bodies have returned
    _given: dict[tuple[Run, str], bytes] = field(factory=dict)  # what they were called with, as far as that is JSON
    _returned: dict[tuple[Run, str], bytes | None] = field(factory=dict)  # as JSON; None if it is of other types

    def recall(self, begun: Counter[Attempt], allowed: Counter[Attempt]) -> None:
        """Know what was seen by another one, before."""
        self.begun |= begun
        self.allowed |= allowed

    def before(self, moment: Moment) -> None:
        """An effect is about to be performed."""
        match moment.effect:
            case Invoke() as effect:
                self._begins(moment, effect)
                if self.weighs:
                    self._given[moment.run, effect.key] = _arguments(moment.run, effect)
            case Record(kind=Kind.STEP, phase=Phase.DONE) as effect if self.weighs:
                self._records(moment.run, effect)
            case End(then=Finish()):
                self._ends(moment)
            case _:
                pass

    def runs(self, moment: Moment, planned: Effect) -> None:
        """It is performed now, in this form."""
        if isinstance(planned, Invoke):
            self._running[id(planned)] = (moment.process, moment.run, planned)

    def after(self, moment: Moment, answer: object) -> None:
        """It was performed, with this answer."""
        if self.weighs and isinstance(moment.effect, Invoke) and isinstance(answer, Returned):
            self._keeps_its_hands_off(moment.run, moment.effect)
            plain = _is_plain(answer.value)
            self._returned[moment.run, moment.effect.key] = _as_json(moment.run, answer.value) if plain else None

    def _keeps_its_hands_off(self, run: Run, effect: Invoke) -> None:
        given, left = self._given.get((run, effect.key)), _arguments(run, effect)
        if given is not None and given != left:
            told = f"{given[:80].decode()} is now {left[:80].decode()}"
            self.suspects.append(f"D8: step {effect.name!r} ({effect.key}) {MUTATES}: {told}")

    def _records(self, run: Run, effect: Record) -> None:
        """D1, D5: what is recorded of a step is what its body has returned."""
        if (run, effect.key) not in self._returned:
            self._say(
                Check.EFFECTS, f"D1: step {effect.name!r} ({effect.key}) is recorded as done, and its body did not run"
            )
            return
        returned = self._returned[run, effect.key]
        if returned is None:
            return
        recorded = _as_json(run, run.codec.from_json(run.codec.loads(split(effect.entries[-1])[1]), Any))
        if recorded != returned:
            self._say(
                Check.SAME_BYTES,
                f"D1: step {effect.name!r} ({effect.key}) returned {returned[:80]!r} and its record says "
                f"{recorded[:80]!r}",
            )

    def over(self, moment: Moment) -> None:
        """It has been performed, or has failed."""
        self._running.pop(id(moment.effect), None)
        if self.cancelled and isinstance(moment.effect, Record) and moment.run.id == RUN_ID:
            self.heard = True

    def _begins(self, moment: Moment, effect: Invoke) -> None:
        run_id, key = moment.run.id, effect.key
        self.begun[run_id, key, effect.attempt] += 1
        self.calls_after_cancel += self.heard and run_id == RUN_ID and not key.endswith(_UNDO_MARK)
        if effect.undoable:
            self.undoable.add((run_id, key))
        superseded = self.ledger.is_superseded(moment.run.writer.lease)
        if superseded or moment.process in self._zombies:  # it can record nothing of this, nor of what its children do
            self.allowed[run_id, key, effect.attempt] += 1
        if superseded:
            return
        if self.ledger.has_outcome(run_id, key):
            self._say(Check.DONE_ONCE, f"D2: step {effect.name!r} ({key}) was completed and ran again")
        failed = self.ledger.attempts.get((run_id, key), 0)
        if effect.attempt != failed + 1:
            self._say(
                Check.RETRY_BUDGET,
                f"R2: attempt {effect.attempt} of step {effect.name!r} ({key}) began, {failed} were recorded as failed",
            )
        early_ms = self.ledger.retry_at_ms.get((run_id, key), 0) - moment.run.clock.now_ms()
        if early_ms > 0:
            self._say(
                Check.RETRY_BUDGET,
                f"R2: attempt {effect.attempt} of step {effect.name!r} ({key}) began {early_ms} ms before it was due",
            )

    def _ends(self, moment: Moment) -> None:
        for process, run, effect in self._running.values():
            if run is moment.run and process is moment.process:
                self._say(
                    Check.WORK_SETTLES,
                    f"W4: run {run.id!r} ends while its step {effect.name!r} ({effect.key}) is still running",
                )

    def recalled(self, run: Run, past: Past) -> None:
        """The journal answers a call."""
        recorded = self.ledger.payloads.get((run.id, past.key))
        if recorded is None:
            self._say(
                Check.SAME_BYTES, f"D2: operation {past.key} of run {run.id!r} is answered though nothing is recorded"
            )
        elif recorded != past.payload:
            self._say(
                Check.SAME_BYTES,
                f"D2: operation {past.key} of run {run.id!r} was recorded as {recorded[:80]!r} and is answered "
                f"{past.payload[:80]!r}",
            )

    def injured(self, zombie: Process | None = None) -> None:
        """A fault strikes: each attempt without an acknowledged outcome may be made once more.

        Args:
            zombie: a process that was superseded and goes on, until it comes to the storage.
        """
        if zombie is not None:
            self._zombies.add(zombie)
        for run_id, key, attempt in self.begun:
            if not self.ledger.has_outcome(run_id, key) and self.ledger.attempts.get((run_id, key), 0) < attempt:
                self.allowed[run_id, key, attempt] += 1

    def repeated(self) -> Iterator[str]:
        """Attempts that were made again though no fault came between their effect and its commit."""
        for attempt, times in self.begun.items():
            if times > 1 + self.allowed[attempt]:
                run_id, key, number = attempt
                yield Check.EFFECTS.broken(
                    f"attempt {number} of operation {key} of run {run_id!r} was made {times} times"
                )

    def _say(self, check: Check, what: str) -> None:
        self.wrong.append(check.broken(what))


def _is_plain(value: object) -> bool:
    """True for what is stored the same whatever a step says that it returns."""
    if type(value) is list:
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(type(key) is str and _is_plain(item) for key, item in value.items())
    return value is None or type(value) in {str, int, float, bool}


def _arguments(run: Run, effect: Invoke) -> bytes:
    """What a step is called with, as far as that can be compared."""
    try:
        return _as_json(run, [*effect.args, *effect.kwargs.values()])
    except SerializationError:
        return b""
    except Exception:  # noqa: BLE001  # whatever a type of the user's does when it is looked at
        return b""


def _as_json(run: Run, value: object) -> bytes:
    return run.codec.dumps(run.codec.to_json(value, Any))
