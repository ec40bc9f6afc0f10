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

from flowkit.records import RunStatus
from flowkit_testing.exploration import Exploration, Violation
from flowkit_testing.points import Fault, Injury, Point, Schedule
from flowkit_testing.states import Settled, State, settled
from flowkit_testing.trial import Origin, Passed, Subject, Trial

ALL_FAULTS: tuple[Fault, ...] = ("crash", "not_applied", "lost_ack", "lease")
_INTERRUPTED = b"StepInterrupted"
_BEFORE_THE_DIFFERENCE = 40
_SHOWN = 200


@define(eq=False)
class Explorer:
    """Explores one subject."""

    subject: Subject
    faults: Collection[Fault] = ALL_FAULTS
    compare_journals: bool = True
    _found: Exploration = field(init=False)
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
            self.replay(schedule)
        return self._found

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
        while queue:
            path, origin = queue.popleft()
            trial = Trial(self.subject, watch_states=True)
            trial.run(origin)
            self._judge(trial, path)
            enqueue(trial, path)
        self._found.states = len(seen)

    # ---- what must hold ---------------------------------------------------------------------------------------

    def _judge(self, trial: Trial, schedule: Schedule) -> None:
        self._found.runs += 1
        wrong = [*trial.wrong, *trial.lab.ledger.broken, *self._differences(trial), *_repeated(trial)]
        trial.close()
        if wrong:
            self._found.violations.append(Violation(schedule, tuple(dict.fromkeys(wrong))))

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
    mine, theirs = found[2], wanted[2]
    for key in dict.fromkeys((*theirs, *mine)):
        if mine.get(key) != theirs.get(key):
            operation = f"operation {key} of run {run_id!r}" if key else f"run {run_id!r} itself"
            yield f"{operation} is recorded otherwise\n{_difference(mine.get(key), theirs.get(key))}"


def _difference(found: object, wanted: object) -> str:
    """Two values from where they begin to differ."""
    mine, theirs = repr(found), repr(wanted)
    same = next((at for at, (one, other) in enumerate(zip(mine, theirs, strict=False)) if one != other), 0)
    start = max(0, same - _BEFORE_THE_DIFFERENCE)
    return "\n".join(
        f"        {name} {'...' if start else ''}{text[start : start + _SHOWN]}{'...' if len(text) > start + _SHOWN else ''}"
        for name, text in (("now:    ", mine), ("without:", theirs))
    )
