"""One run of a task in a world of its own, with faults at given points, and what is found out about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from attrs import Factory, define, field, frozen

from flowkit.codec import Codec
from flowkit.effects import Effect, Invoke
from flowkit.registry import TaskSpec
from flowkit.storage import Storage
from flowkit_testing.injector import Injector
from flowkit_testing.lab import Lab, NeverEnds, ReplayDiffers
from flowkit_testing.log import Change, LoggedStorage
from flowkit_testing.points import Injury, Passing, Point, Schedule
from flowkit_testing.process import Moment, Process
from flowkit_testing.states import State, StateReader

_T = TypeVar("_T")
RUN_ID = "run-1"


@frozen
class Subject:
    """What is explored: a task, its arguments, and the faults that belong to the test."""

    spec: TaskSpec
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    make_storage: Callable[[], Storage]
    injector: Injector
    codec: Codec
    queues: tuple[str, ...] = ("default",)
    states: StateReader = field(default=Factory(lambda self: StateReader(self.codec), takes_self=True), eq=False)


@frozen
class Origin:
    """A state to begin with: what was done to the storage, and when."""

    changes: tuple[Change, ...]
    now_ms: int


@frozen
class Passed:
    """A point of a trial, and how things stood there."""

    point: Point
    state: State
    changes: int
    now_ms: int


class Unanswered(Exception):  # an answer, not an error of ours
    """The storage does not answer, as the schedule wants it."""


@define(eq=False)
class Trial:
    """Runs a subject once, from the start or from a stored state, with the injuries of a schedule."""

    subject: Subject
    schedule: Schedule = ()
    watch_states: bool = False
    passed: list[Passed] = field(factory=list)
    wrong: list[str] = field(factory=list)
    begun: Counter[tuple[str, str, int]] = field(factory=Counter)
    _left: list[Injury] = field(factory=list)
    _state: tuple[int, State] = (-1, None)
    _storage: LoggedStorage = field(init=False)
    lab: Lab = field(init=False)
    _passing: Passing = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._left = list(self.schedule)
        self._storage = LoggedStorage(self.subject.make_storage())
        self._passing = Passing(self.subject.injector, self._on_point)
        self.lab = Lab(self._storage, self, codec=self.subject.codec)

    @property
    def changes(self) -> Sequence[Change]:
        """What was done to the storage."""
        return self._storage.changes

    @property
    def reached(self) -> bool:
        """True if every injury of the schedule happened."""
        return not self._left

    def run(self, origin: Origin | None = None) -> None:
        """Go on from a state (None: from nothing) until nothing is left to do."""
        lab, subject = self.lab, self.subject
        try:
            if origin is not None:
                lab.restore(origin.changes, origin.now_ms)
                self._storage.changes[:] = origin.changes
            if self._storage.load(RUN_ID, 0, 0) is None:
                lab.submit(subject.spec, subject.args, subject.kwargs)
            lab.run_to_end(RUN_ID)
            lab.drain()
        except (NeverEnds, ReplayDiffers) as error:
            self.wrong.append(str(error))
        finally:
            lab.close()

    def close(self) -> None:
        """Let go of the storage."""
        self._storage.close()

    # ---- a watcher of processes -------------------------------------------------------------------------------

    def before(self, moment: Moment) -> Effect:
        """An effect is about to be performed."""
        effect = moment.effect
        if isinstance(effect, Invoke):
            self._begins(moment, effect)
        return self._passing.before(moment)

    def _begins(self, moment: Moment, effect: Invoke) -> None:
        run_id, key, ledger = moment.run.id, effect.key, self.lab.ledger
        self.begun[run_id, key, effect.attempt] += 1
        if ledger.has_outcome(run_id, key):
            self.wrong.append(f"D2: step {effect.name!r} ({key}) was completed and ran again")
        failed = ledger.attempts.get((run_id, key), 0)
        if effect.attempt != failed + 1:
            self.wrong.append(
                f"R2: attempt {effect.attempt} of step {effect.name!r} ({key}) began, {failed} were recorded as failed"
            )

    def after(self, moment: Moment, answer: object) -> object:
        """An effect was performed."""
        return self._passing.after(moment, answer)

    def asked(self, process: Process, operation: str, perform: Callable[[], _T]) -> _T:
        """A process calls its storage."""
        injury = self._next_unanswered(operation)
        if injury is None:
            return self._passing.asked(process, operation, perform)
        if injury.fault == "lost_ack":
            perform()
        raise Unanswered(f"injected: {injury}")

    def _next_unanswered(self, operation: str) -> Injury | None:
        """The injury to this call, if it is one that goes unanswered."""
        if not self._left or self._left[0].fault not in {"lost_ack", "not_applied"}:
            return None
        what = f"storage: {operation}"
        point = self._left[0].point
        if point.what != what or self._passing.counts[what, "before"] + 1 != point.nth:
            return None
        self._passing.counts.clear()
        return self._left.pop(0)

    def _on_point(self, process: Process, point: Point) -> None:
        if self._left:
            if self._left[0].point == point:
                self._strike(process, self._left.pop(0))
        elif self.watch_states:
            self.passed.append(Passed(point, self._now(), len(self.changes), self.lab.clock.now_ms()))

    def _strike(self, process: Process, injury: Injury) -> None:
        self._passing.counts.clear()
        if injury.fault == "lease":
            self.lab.take_over(injury.point.what.partition(":")[0])
        elif injury.fault == "crash":
            raise process.die(str(injury))

    def _now(self) -> State:
        """What is stored now; looked up again only if something was changed."""
        if self._state[0] != len(self.changes):
            self._state = (len(self.changes), self.subject.states.read(self._storage))
        return self._state[1]
