"""One run of a task in a world of its own, with faults at given points, and what is found out about it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TypeVar, cast

from attrs import define, field, frozen

from flowkit.effects import Effect, Invoke
from flowkit.errors import FlowkitError
from flowkit.events import event_message
from flowkit.journal import Past
from flowkit.records import Commit, Done, Exactly, Exists, Finish, Grant, NewRun, RunStatus
from flowkit.run import Run
from flowkit.storage import Storage
from flowkit_testing.bystander import Bystander
from flowkit_testing.checks import Check
from flowkit_testing.fences import CountedFences
from flowkit_testing.lab import Lab, NeverEnds, ReplayDiffers
from flowkit_testing.log import Change, LoggedStorage
from flowkit_testing.orders import Overlaps
from flowkit_testing.points import Injury, Passing, Point, Schedule, describe
from flowkit_testing.process import Moment, Process
from flowkit_testing.states import Watched
from flowkit_testing.subject import RUN_ID, Subject
from flowkit_testing.trace import Call, What
from flowkit_testing.verdicts import Aftermath
from flowkit_testing.watch import Watch

_T = TypeVar("_T")
_UNANSWERED = frozenset({"lost_ack", "not_applied"})


@frozen
class Origin:
    """A state to begin with: what was done to the storage, and when."""

    changes: tuple[Change, ...]
    now_ms: int
    state: Hashable


@frozen
class Passed:
    """A point of a trial, and how things stood there."""

    point: Point
    state: Hashable
    changes: int
    now_ms: int


class Unanswered(Exception):  # an answer, not an error of ours
    """The storage does not answer, as the schedule wants it."""


class _SeenBefore(BaseException):
    """What a crash has left behind has been resumed from already."""


@define(eq=False)
class Trial:
    """Runs a subject once, from the start or from a stored state, with the injuries of a schedule."""

    subject: Subject
    schedule: Schedule = ()
    watch_states: bool = False
    thorough: bool = False  # ask the storage too what a healthy one refuses, and weigh what is recorded
    known: Mapping[Hashable, object] | None = None  # states that have been resumed from: no need to do so again
    resubmit: bool = False  # whoever began it does not know that the run is there
    passed: list[Passed] = field(factory=list)
    wrong: list[str] = field(factory=list)
    left_state: Hashable = None  # the known state that the last crash has left behind
    left_states: list[Hashable] = field(factory=list)  # what each crash has left behind, if `watch_crashes`
    watch_crashes: bool = False
    _crashed: bool = False  # since somebody has last asked the storage
    world_after: Hashable = None
    broken_off: bool = False  # what it has left is not what would have come of it
    _overlaps: Overlaps = field(factory=Overlaps)
    _left: list[Injury] = field(factory=list)
    _storage: LoggedStorage = field(init=False)
    _watched: Watched = field(init=False)
    lab: Lab = field(init=False)
    watch: Watch = field(init=False)
    _passing: Passing = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._left = [injury for injury in self.schedule if not is_of_scenario(injury)]
        self._storage = LoggedStorage(self._counted(self.subject.make_storage()))
        self._watched = Watched(self._storage, self.subject.states)
        self._passing = Passing(self.subject.injector, self._on_point)
        self.lab = Lab(self._storage, self, codec=self.subject.codec)
        self.lab.on_seats = self.subject.world is not None or any(injury.fault == "stop" for injury in self._left)
        self.lab.all_durable = True
        self.watch = Watch(self.lab.ledger, self.wrong, weighs=self.thorough)

    def _counted(self, storage: Storage) -> Storage:
        """With fences that are the same whenever the same calls are made."""
        return CountedFences(storage)

    @property
    def changes(self) -> Sequence[Change]:
        """What was done to the storage."""
        return self._storage.changes

    @property
    def storage(self) -> LoggedStorage:
        """Where its runs are."""
        return self._storage

    @property
    def reached(self) -> bool:
        """True if every injury of the schedule happened."""
        return not self._left

    @property
    def struck(self) -> int:
        """How many injuries have happened, apart from those of the scenario."""
        return sum(1 for injury in self.schedule if not is_of_scenario(injury)) - len(self._left)

    def worlds(self) -> Iterator[Hashable]:
        """What the world was like at each point, if states were watched, and at the end."""
        yield self.world_after
        for passed in self.passed:
            _stored, world = cast("tuple[Hashable, Hashable]", passed.state)
            yield world

    @property
    def idle(self) -> list[str]:
        """The steps that were to fail and were never called."""
        return self.subject.injector.idle_failures()

    def run(self, origin: Origin | None = None) -> None:
        """Go on from a state (None: from nothing) until nothing is left to do."""
        lab, subject = self.lab, self.subject
        if subject.world is not None:
            subject.world.reset()
        bystander = Bystander.beside(self._storage.behind, lab.clock.now_ms())
        try:
            self._go(origin)
            self._look_after_a_crash()
            if self.thorough:
                self.wrong.extend(bystander.intrusions(lab.clock.now_ms()))
            if not lab.retired:  # else whoever has taken over looks
                self.wrong.extend(bystander.changes(lab.clock.now_ms()))
            self.wrong.extend(self._resumed_twice())
            if self.thorough:
                self.wrong.extend(self._finished_twice())
            if subject.world is not None:
                self.world_after = subject.world.seen()
        except _SeenBefore:
            self.left_state = self._now()
        except NeverEnds as error:
            self.wrong.append(Check.ENDS.broken(str(error)))
        except ReplayDiffers as error:
            self.broken_off = True
            self.wrong.append(f"{error.rule}: {error}")
        except (FlowkitError, AssertionError, LookupError, TypeError, ValueError, RuntimeError) as error:
            self.wrong.append(f"the engine itself has failed: {type(error).__name__}: {error}")
        finally:
            lab.close()

    def _go(self, origin: Origin | None) -> None:
        lab, subject = self.lab, self.subject
        if origin is not None:
            lab.restore(origin.changes, origin.now_ms)
            self._storage.changes[:] = origin.changes
            if self._now() != origin.state:
                self.wrong.append(
                    "the storage holds something else after the same calls: what is resumed is not the run"
                )
        if self.resubmit or self._storage.load(RUN_ID, 0, 0) is None:
            lab.submit(subject.spec, subject.args, subject.kwargs)
        for number, (name, payload) in enumerate(subject.events):
            message = event_message(subject.codec, name, payload, f"explored-{number}", lab.clock.now_ms())
            self._storage.send(RUN_ID, message, now_ms=lab.clock.now_ms())
        lab.run_to_end(RUN_ID)
        lab.drain()
        while lab.let_stopped_go_on():
            lab.drain()

    def _resumed_twice(self) -> list[str]:
        """A finished run that is claimed and submitted again stays as it is (rule X2)."""
        storage, now_ms = self._storage.behind, self.lab.clock.now_ms()
        before = storage.load(RUN_ID)
        if before is None or not before.header.status.finished:
            return []
        wrong = []
        if storage.claim(Grant("twice", "twice", 1000), Exactly(RUN_ID), 1, now_ms=now_ms).leases:
            wrong.append(Check.TWICE_IS_ONCE.broken("X2: a finished run could be claimed again"))
        new = NewRun(RUN_ID, before.header.task, before.input, grant=Grant("twice", "twice again", 1000))
        [again] = storage.submit([new], now_ms=now_ms)
        if not isinstance(again, Exists):
            wrong.append(Check.TWICE_IS_ONCE.broken("X2: the id of a finished run could be given to another one"))
        after = storage.load(RUN_ID)
        if after is None or (after.header.status, after.result) != (before.header.status, before.result):
            wrong.append(
                Check.TWICE_IS_ONCE.broken("X2: a finished run is not what it was after it was asked for again")
            )
        return wrong

    def _finished_twice(self) -> Iterator[str]:
        """Whoever has finished a run cannot finish it once more in another way (rule X2)."""
        storage, lease = self._storage.behind, self.lab.ledger.leases.get(RUN_ID)
        before = storage.load(RUN_ID, 0, 0)
        if before is None or lease is None or not before.header.status.finished:
            return
        status = RunStatus.FAILED if before.header.status is RunStatus.SUCCEEDED else RunStatus.SUCCEEDED
        end = Finish(status, b"null")
        again = Commit(RUN_ID, lease.owner, lease.fence, "finished again", before.header.length, then=end)
        [verdict] = storage.commit([again], now_ms=self.lab.clock.now_ms())
        after = storage.load(RUN_ID, 0, 0)
        if isinstance(verdict, Done) or after is None or after.result != before.result:
            yield Check.TWICE_IS_ONCE.broken(
                f"X2: run {RUN_ID!r} had {before.header.status}; its last owner could finish it once more, as {status}"
            )

    @property
    def beside(self) -> dict[str, set[str]]:
        """Which attempts were under way at the same time as others."""
        return self._overlaps.beside

    def seen_wrong(self) -> list[str]:
        """What was seen to be wrong on the way."""
        return [*self.wrong, *self.lab.ledger.broken, *self.watch.repeated()]

    def aftermath(self) -> Aftermath:
        """What it has left."""
        watch, now_ms = self.watch, self.lab.clock.now_ms()
        wrong = self.seen_wrong()
        return Aftermath(self._storage, now_ms, wrong, watch.undoable, watch.calls_after_cancel, self.world_after)

    def timeline(self) -> tuple[str, ...]:
        """What happened, in order."""
        return tuple(
            f"{seen.call.run_id}: {seen.call} {seen.what} {seen.note}".rstrip() for seen in self.lab.trace.seen
        )

    def close(self) -> None:
        """Let go of the storage."""
        self._storage.close()

    # ---- a watcher of processes -------------------------------------------------------------------------------

    def before(self, moment: Moment) -> Effect:
        """An effect is about to be performed."""
        self.watch.before(moment)
        planned = self._passing.before(moment)
        self.watch.runs(moment, planned)
        if isinstance(planned, Invoke):
            self._overlaps.begins(describe(moment))
        return planned

    def after(self, moment: Moment, answer: object) -> object:
        """An effect was performed."""
        self.watch.after(moment, answer)
        return self._passing.after(moment, answer)

    def over(self, moment: Moment) -> None:
        """An effect was performed, or has failed."""
        self.watch.over(moment)
        if isinstance(moment.effect, Invoke):
            self._overlaps.ends(describe(moment))
        self._passing.over(moment)

    def recalled(self, run: Run, past: Past) -> None:
        """The journal answers a call."""
        self.watch.recalled(run, past)
        self._passing.recalled(run, past)

    def asked(self, process: Process, operation: str, perform: Callable[[], _T]) -> _T:
        """A process calls its storage."""
        self._look_after_a_crash()
        if self.known is not None and not self._left and self._now() in self.known:
            raise _SeenBefore
        injury = self._next_unanswered(operation)
        if injury is None:
            return self._passing.asked(process, operation, perform)
        if injury.fault == "lost_ack":
            perform()
        raise Unanswered(f"injected: {injury}")

    def _look_after_a_crash(self) -> None:
        if self._crashed:
            self._crashed = False
            self.left_states.append(self._now())

    def _next_unanswered(self, operation: str) -> Injury | None:
        """The injury to this call, if it is one that goes unanswered."""
        if not self._left or self._left[0].fault not in _UNANSWERED:
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
            with self._storage.lock:  # or another thread's change would be in one and not in the other
                self.passed.append(Passed(point, self._now(), len(self.changes), self.lab.clock.now_ms()))

    def _strike(self, process: Process, injury: Injury) -> None:
        self._note(process, injury)
        match injury.fault:
            case "lease":
                self.lab.take_over(run_of(injury.point))
            case "stop":
                self.lab.take_over(run_of(injury.point))
                process.stop()
            case "cancel":
                self.watch.cancelled = True
                self.lab.cancel(RUN_ID)
            case "crash" if process.on_stop is not None:
                process.stop(for_good=True)
            case "crash":
                self._crashed = self.watch_crashes
                raise process.die(str(injury))
            case _:
                raise AssertionError(injury)  # the others are no strikes

    def _note(self, process: Process, injury: Injury) -> None:
        """A fault happens now."""
        self._passing.counts.clear()
        self.watch.injured(process if injury.fault in {"lease", "stop"} else None)
        run_id, _, what = injury.point.what.rpartition(": ")
        self.lab.trace.add(What.INJECTED, Call(run_id, "", f"{injury.fault} {injury.point.when} {what}", 1))

    def _now(self) -> Hashable:
        """What is stored now, and what the world is like."""
        state = self._watched.state()
        world = self.subject.world
        return state if world is None else (state, world.seen())


def shortened(schedule: Schedule, left_out: int) -> Schedule:
    """The schedule without one of its injuries."""
    return tuple(injury for at, injury in enumerate(schedule) if at != left_out)


def is_of_scenario(injury: Injury) -> bool:
    """True if it belongs to the scenario: it holds from the start, and for all processes."""
    return injury.fault in {"fail", "late", "replay"}


def run_of(point: Point) -> str:
    """The run that a point is in."""
    return point.what.partition(": ")[0]
