"""Try every point where a process may die, and every state that this leaves behind.

What follows a crash depends only on what is stored, so it is enough to resume once from each distinct durable state;
states found while resuming are resumed from as well, until there are no new ones. That covers any number of crashes
in a row. Beside that, each point of the fault-free run is tried with a process that dies in place: its `finally`
blocks run and must change nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator

from attrs import define, field

from flowkit.entries import Phase
from flowkit.records import RunStatus
from flowkit_testing.exploration import Exploration, Violation
from flowkit_testing.fake_clock import STARTS_AT_MS
from flowkit_testing.invariants import broken_rules
from flowkit_testing.points import Fault, Injury, Point, Schedule
from flowkit_testing.states import Settled, State, settled
from flowkit_testing.trial import Origin, Passed, Subject, Trial

ALL_FAULTS: tuple[Fault, ...] = ("crash", "not_applied", "lost_ack", "lease")
_INTERRUPTED = b"StepInterrupted"
_BEFORE_THE_DIFFERENCE = 40
_SHOWN = 200
_LETTING_GO = frozenset({Phase.BEGUN, Phase.WAITING})
_MOST_VIOLATIONS = 20
_STATES_PER_POINT = 3
_MORE_STATES = 100
_MOST_PER_FAULT_MS = 150_000  # five leases


@define(eq=False)
class Explorer:
    """Explores one subject."""

    subject: Subject
    faults: Collection[Fault] = ALL_FAULTS
    compare_journals: bool = True
    _found: Exploration = field(init=False)
    _took_ms: int = 0
    _wanted: dict[str, Settled] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self._found = Exploration(self.subject.spec.id)

    def explore(self) -> Exploration:
        """Try everything."""
        reference = self._reference()
        if not self._found.safe:
            return self._found
        if "crash" in self.faults:
            self._resume_from_every_state(reference)
        for schedule in self._schedules([passed.point for passed in reference.passed]):
            if self._enough():
                break
            self.replay(schedule)
        return self._found

    def _enough(self) -> bool:
        """True once there is so much wrong that more of it tells nothing new."""
        return len(self._found.violations) >= _MOST_VIOLATIONS

    def replay(self, schedule: Schedule) -> Exploration:
        """Try one schedule."""
        if not self._wanted:
            self._reference()
        trial = Trial(self.subject, schedule)
        trial.run()
        if not trial.reached:
            self._found.unreached.append(schedule)
        self._judge(trial, schedule)
        return self._found

    def _reference(self) -> Trial:
        """The run without faults, which all others must equal."""
        trial = Trial(self.subject, watch_states=True)
        trial.run()
        self._wanted = settled(trial.lab.storage, self.subject.codec)
        self._found.points = len(trial.passed)
        self._judge(trial, ())
        return trial

    def _schedules(self, points: list[Point]) -> Iterator[Schedule]:
        for point in points:
            if "crash" in self.faults:
                yield (Injury("crash", point),)
            if "lease" in self.faults and not point.what.startswith("storage:") and "end " not in point.what:
                yield (Injury("lease", point),)
            if point.what == "storage: commit" and point.when == "before":
                for fault in ("not_applied", "lost_ack"):
                    if fault in self.faults:
                        yield (Injury(fault, point),)

    def _resume_from_every_state(self, reference: Trial) -> None:
        seen: set[State] = set()
        queue: deque[tuple[Schedule, Origin]] = deque()

        def enqueue(trial: Trial, path: Schedule) -> None:
            for passed in trial.passed:
                if passed.state not in seen:
                    seen.add(passed.state)
                    queue.append(((*path, Injury("crash", passed.point)), _origin(trial, passed)))

        enqueue(reference, ())
        most_states = _STATES_PER_POINT * len(reference.passed) + _MORE_STATES
        while queue and not self._enough():
            path, origin = queue.popleft()
            if len(seen) > most_states:
                endless = f"{len(seen)} different states were stored, and more come up: what grows with each crash?"
                self._found.violations.append(Violation(path, (endless,)))
                break
            trial = Trial(self.subject, watch_states=True)
            trial.run(origin)
            self._judge(trial, path)
            enqueue(trial, path)
        self._found.states = len(seen)

    # ---- what must hold ---------------------------------------------------------------------------------------

    def _judge(self, trial: Trial, schedule: Schedule) -> None:
        self._found.runs += 1
        wrong = [
            *trial.wrong,
            *trial.lab.ledger.broken,
            *broken_rules(trial.lab.storage, self.subject.codec),
            *self._differences(trial),
            *_repeated(trial),
            *self._late(trial, schedule),
        ]
        trial.close()
        if wrong:
            self._found.violations.append(Violation(schedule, tuple(dict.fromkeys(wrong))))

    def _late(self, trial: Trial, schedule: Schedule) -> Iterator[str]:
        """A fault costs a lease or two, not more: no timer and no back-off starts over (rules E4, R2)."""
        allowed_ms = self._took_ms + len(schedule) * _MOST_PER_FAULT_MS
        took_ms = trial.lab.clock.now_ms() - STARTS_AT_MS
        if not schedule:
            self._took_ms = took_ms
        elif took_ms > allowed_ms:
            late_s = (took_ms - self._took_ms) / 1000
            yield f"everything took {late_s:,.0f} s longer than without the fault: does a timer start over? (E4, R2)"

    def _differences(self, trial: Trial) -> Iterator[str]:
        ended = settled(trial.lab.storage, self.subject.codec)
        for run_id, (status, result, operations) in ended.items():
            if not RunStatus(status).finished:
                yield f"run {run_id!r} is {status} and nothing would take it up (X1)"
            wanted = self._wanted.get(run_id)
            if wanted is None:
                yield f"run {run_id!r} exists only because of the fault"
            elif _interrupted(result):  # D3: a declared failure
                continue
            elif not self.compare_journals:
                yield from _compare(run_id, (status, result, {}), (*wanted[:2], {}))
            else:
                yield from _compare(run_id, (status, result, operations), wanted)
        if not any(_interrupted(result) for _, result, _ in ended.values()):
            for run_id in self._wanted.keys() - ended.keys():
                yield f"run {run_id!r} is lost (X1)"


def _origin(trial: Trial, passed: Passed) -> Origin:
    return Origin(tuple(trial.changes[: passed.changes]), passed.now_ms)


def _repeated(trial: Trial) -> Iterator[str]:
    """An attempt begins again only because a fault came between its effect and its commit."""
    most = 1 + len(trial.schedule)
    for (run_id, key, attempt), times in trial.begun.items():
        if times > most:
            yield f"attempt {attempt} of operation {key} of run {run_id!r} began {times} times"


def _interrupted(result: bytes | None) -> bool:
    return result is not None and _INTERRUPTED in result


def _compare(run_id: str, found: Settled, wanted: Settled) -> Iterator[str]:
    if found[0] != wanted[0]:
        yield f"run {run_id!r} is {found[0]}, without the fault {wanted[0]}"
    if found[1] != wanted[1]:
        yield f"run {run_id!r} has another result than without the fault\n{_difference(found[1], wanted[1])}"
    mine, theirs = _without_pauses(found[2]), _without_pauses(wanted[2])
    for key in dict.fromkeys((*theirs, *mine)):
        if mine.get(key) != theirs.get(key):
            operation = f"operation {key} of run {run_id!r}" if key else f"run {run_id!r} itself"
            yield f"{operation} is recorded otherwise\n{_difference(mine.get(key), theirs.get(key))}"


def _without_pauses(recorded: dict[str, list[tuple[str, ...]]]) -> dict[str, list[tuple[str, ...]]]:
    """What is recorded, but for the marks of a run that let go of itself."""
    of_run = [entry for entry in recorded.get("", []) if entry[1] not in _LETTING_GO]
    rest = {key: entries for key, entries in recorded.items() if key}
    return {**rest, "": of_run} if of_run else rest


def _difference(found: object, wanted: object) -> str:
    """Two values from where they begin to differ."""
    mine, theirs = repr(found), repr(wanted)
    same = next((at for at, (one, other) in enumerate(zip(mine, theirs, strict=False)) if one != other), 0)
    start = max(0, same - _BEFORE_THE_DIFFERENCE)
    return f"        now:     {_part(mine, start)}\n        without: {_part(theirs, start)}"


def _part(text: str, start: int) -> str:
    shown = text[start : start + _SHOWN]
    return f"{'...' if start else ''}{shown}{'...' if len(text) > start + _SHOWN else ''}"
