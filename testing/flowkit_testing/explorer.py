"""Try every point where a process may die, and every state that this leaves behind.

What follows a crash depends only on what is stored, so it is enough to resume once from each distinct durable state;
states found while resuming are resumed from as well, until there are no new ones. That covers any number of crashes
in a row. Beside that, a process dies in place at each point: its `finally` blocks run and must change nothing.

Where the test shows the world that its steps change, a state is what is stored and what that world is like. Such a
state cannot be made again from a log, so each is reached again from the start, by way of the crashes that led to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Iterator, Sequence

from attrs import define, field

from flowkit.records import RunStatus
from flowkit_testing.budget import Budget
from flowkit_testing.checks import Check
from flowkit_testing.differences import plainly
from flowkit_testing.exploration import Exploration, Tried, Verdict, Violation
from flowkit_testing.orders import count, orders
from flowkit_testing.plan import DEFAULT_FAULTS, MOST_ORDERS, MOST_UNANSWERED, Kind, calls_left_out, schedules
from flowkit_testing.points import REPLAYED, Injury, Point, Schedule
from flowkit_testing.reference import (
    Reference,
    judged,
    refuse_a_blind_world,
    refuse_what_is_never_called,
    scenario_of,
    shrunk,
)
from flowkit_testing.subject import RUN_ID, Subject, in_scenario, shown
from flowkit_testing.trial import Origin, Passed, Trial
from flowkit_testing.verdicts import Standard
from flowkit_testing.waves import waves

_MOST_VIOLATIONS = 20
_MOST_SHRUNK = 3  # shrinking takes runs too, and one small schedule tells enough
_STATES_PER_POINT = 3
_MORE_STATES = 100
_MOST_SHOWN_EVENTS = 60
_MOST_SHOWN_ERROR = 200


@define(eq=False)
class Explorer:
    """Explores one subject.

    Args:
        subject: what to explore.
        faults: which kinds of faults to try.
        failing: steps that are to fail for good, each in a scenario of its own.
        budget: after how much to stop.
        first: schedules that are tried before all others.
    """

    subject: Subject
    faults: Collection[Kind] = DEFAULT_FAULTS
    failing: Collection[str] = ()
    budget: Budget = field(factory=Budget)
    first: tuple[Schedule, ...] = ()
    _found: Exploration = field(init=False)
    _broken: int = 0
    _references: dict[Schedule, Reference] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self._found = Exploration(self.subject.spec.id)

    def explore(self) -> Exploration:
        """Try everything."""
        self.budget.begin()
        for schedule in self.first:
            self.replay(schedule)
        if self._found.violations:
            self._found.notes.append("schedules that broke it before do so again; the others were not tried")
            return self._found
        self._found.tried.clear()  # they are among what follows, or their points are not there any more
        well = self._scenario(())
        self._note_failure(self._references[()])
        if well and not self._enough():
            for scenario in self._failures():
                self._scenario(scenario)
            self._orders()
        self._note_budget()
        return self._found

    def replay(self, schedule: Schedule) -> Exploration:
        """Try one schedule."""
        wrong, reached = self._try(schedule)
        self._tried(schedule, "failed" if wrong else "passed" if reached else "not reached")
        return self._found

    def _try(self, schedule: Schedule) -> tuple[bool, bool]:
        """Whether something does not hold after it, and whether all of it happened."""
        reference = self._reference(scenario_of(schedule))
        if REPLAYED in schedule:
            trial = Trial(in_scenario(self.subject, schedule), schedule, thorough=True)
        else:
            trial = Trial(reference.subject, schedule)
        trial.run()
        return self._judge(trial, schedule, reference), trial.reached

    def _failures(self) -> Iterator[Schedule]:
        """Each of the steps that are to fail, by itself; an undo that only runs when a step fails, after each of these.

        Raises:
            AssertionError: one of them is never called, so that nothing would be proven.
        """
        for step in self.failing:
            alone = (_failure_of(step),)
            if not self._reference(alone).trial.idle:
                yield alone
                continue
            after_others = [(_failure_of(other), *alone) for other in self.failing if other != step]
            reached = [scenario for scenario in after_others if not self._reference(scenario).trial.idle]
            if not reached:
                refuse_what_is_never_called(self.subject, self._reference(alone).trial)
            yield from reached

    # ---- one scenario -----------------------------------------------------------------------------------------

    def _scenario(self, scenario: Schedule, *, crashes_only: bool = False) -> bool:
        """Explore what follows from a run in which some steps fail or come late; False if that run itself is wrong."""
        before = len(self._found.violations)
        reference = self._reference(scenario)
        self._found.points += len(reference.trial.passed)
        if len(self._found.violations) > before:
            return False
        if not crashes_only:
            self._try((*scenario, REPLAYED))  # what all others are held against is held against itself first
        in_place: dict[Point, Verdict] = {}
        if "crash" in self.faults:
            in_place = self._resume_from_every_state(scenario, reference)
        if crashes_only:
            self._tried(scenario, "failed" if len(self._found.violations) > before else "passed")
            return True
        self._note_calls(reference)
        planned = list(schedules(scenario, reference.trial.passed, self.faults))
        well = self._in_waves(scenario, planned, reference)
        for schedule in planned:
            if schedule in well:
                self._tried(schedule, in_place.get(schedule[-1].point, "equal") if well[schedule] else "passed")
            elif self._enough():
                resumed = in_place.get(schedule[-1].point) if schedule[-1].fault == "crash" else None
                self._tried(schedule, "failed" if resumed == "failed" else "not tried")
            elif schedule[-1].fault == "crash":
                self._tried(schedule, self._die_in_place(schedule, reference, in_place))
            else:
                self.replay(schedule)
        return True

    def _reference(self, scenario: Schedule) -> Reference:
        """The run without faults, or with those of its scenario alone."""
        known = self._references.get(scenario)
        if known is not None:
            return known
        world = self.subject.world
        if world is not None:
            world.reset()
        before = None if world is None else world.seen()
        subject = in_scenario(self.subject, scenario)
        trial = Trial(subject, scenario, watch_states=True, thorough=True)
        trial.run()
        reference = self._references[scenario] = Reference(
            subject, trial, Standard.of(trial.aftermath(), subject.codec)
        )
        self._judge(trial, scenario, None)
        if not scenario:  # a run whose first step fails need not change anything
            refuse_a_blind_world(self.subject, trial, before)
        self._found.swallowed.update(trial.lab.swallowed)
        if world is not None and trial.idle == [] and scenario and trial.world_after != before:
            self._note_what_is_left(scenario, trial, before)
        return reference

    def _resume_from_every_state(self, scenario: Schedule, reference: Reference) -> dict[Point, Verdict]:
        queue: deque[tuple[Schedule, Passed, Origin]] = deque()
        verdicts: dict[Point, Verdict] = {}
        known = reference.known

        def enqueue(trial: Trial, path: Schedule) -> None:
            last: Hashable = None
            for passed in trial.passed:
                if passed.state is last:  # to hash a state takes longer than anything else here
                    continue
                last = passed.state
                if last not in known:
                    known[last] = True
                    queue.append(((*path, Injury("crash", passed.point)), passed, _origin(trial, passed)))

        enqueue(reference.trial, scenario)
        most_states = _STATES_PER_POINT * len(reference.trial.passed) + _MORE_STATES
        while queue and not self._enough():
            path, passed, origin = queue.popleft()
            if len(known) > most_states:
                endless = f"{len(known)} different states were stored, and more come up: what grows with each crash?"
                self._violated(path, (Check.ENDS.broken(endless),), ())
                break
            trial = self._resumed(reference, path, origin)
            if self._judge(trial, path, reference):
                known[passed.state] = False
            if len(path) == len(scenario) + 1:
                verdicts[passed.point] = "passed" if known[passed.state] else "failed"
            enqueue(trial, path)
        self._found.states += len(known)
        for left, _, _ in queue:
            self._tried(left, "not tried")
        return verdicts

    def _in_waves(self, scenario: Schedule, planned: Sequence[Schedule], reference: Reference) -> dict[Schedule, bool]:
        """Schedules that went well together with others in one run; True for those that leave a known state behind."""
        well: dict[Schedule, bool] = {}
        if self.subject.world is not None:  # each is to be compared by what it does to the world
            return well
        for wave in waves(planned):
            if self._enough():
                break
            schedule = (*scenario, *wave.injuries)
            trial = Trial(reference.subject, schedule, watch_crashes=True)
            trial.run()
            self._found.runs += 1
            self.budget.spend()
            if not judged(trial, schedule, reference) and all(map(reference.known.get, trial.left_states)):
                well.update(dict.fromkeys(wave.schedules[: trial.struck], bool(trial.left_states)))
            trial.close()
        return well

    def _resumed(self, reference: Reference, path: Schedule, origin: Origin) -> Trial:
        """Resume from a state, by a log of what led to it; or by its path, if the world belongs to it."""
        self._found.resumes += 1
        if self.subject.world is None:
            trial = Trial(reference.subject, watch_states=True)
            trial.run(origin)
        else:
            trial = Trial(reference.subject, path, watch_states=True)
            trial.run()
        return trial

    def _die_in_place(self, schedule: Schedule, reference: Reference, verdicts: dict[Point, Verdict]) -> Verdict:
        """A process dies with its `finally` blocks running; if it leaves a known state behind, that is enough."""
        point = schedule[-1].point
        if self.subject.world is not None:  # its `finally` blocks would change the world, as no dead process does
            passed = next(passed for passed in reference.trial.passed if passed.point == point)
            return verdicts.get(point) or ("equal" if reference.known[passed.state] else "failed")
        trial = Trial(reference.subject, schedule, known=reference.known)
        trial.run()
        if self._judge(trial, schedule, reference):
            return "failed"
        if not trial.reached:
            return "not reached"
        if trial.left_state is not None and not reference.known[trial.left_state]:
            return "failed"
        return verdicts.get(point, "equal")

    # ---- orders of completion ---------------------------------------------------------------------------------

    def _orders(self) -> None:
        """Whatever runs side by side is completed in other orders too, the smallest changes first."""
        beside = self._references[()].trial.beside
        most = MOST_ORDERS if self.budget.unlimited else None
        for scenario in orders(beside):
            if self._enough() or (most is not None and self._found.orders >= most):
                break
            self._found.orders += 1
            self._scenario(scenario, crashes_only=True)
        if not any(beside.values()):
            return
        limit = self._found.orders + 1000
        known = count(beside, limit)
        total = f"{known}" if known < limit else f"more than {known - 1}"
        self._found.notes.append(f"{self._found.orders} of {total} orders of completion tried")

    # ---- judging ----------------------------------------------------------------------------------------------

    def _judge(self, trial: Trial, schedule: Schedule, reference: Reference | None) -> bool:
        """Hold a trial against all that must hold; True if something does not."""
        self._found.runs += 1
        self.budget.spend()
        wrong = judged(trial, schedule, reference)
        if wrong:
            self._violated(schedule, wrong, trial.timeline())
        trial.close()
        return bool(wrong)

    def _violated(self, schedule: Schedule, wrong: tuple[str, ...], timeline: tuple[str, ...]) -> None:
        self._broken += 1
        smaller = shrunk(schedule, self._references) if len(self._found.violations) < _MOST_SHRUNK else None
        if smaller is not None:
            schedule, wrong, timeline = smaller
        if all(known.schedule != schedule for known in self._found.violations):
            self._found.violations.append(Violation(schedule, wrong, timeline[-_MOST_SHOWN_EVENTS:]))

    def _tried(self, schedule: Schedule, verdict: Verdict) -> None:
        self._found.tried.append(Tried(schedule, verdict))

    def _enough(self) -> bool:
        """True once there is so much wrong that more of it tells nothing new, or the budget is spent."""
        return self._broken >= _MOST_VIOLATIONS or self.budget.spent

    def _note_failure(self, reference: Reference) -> None:
        """That a run which fails by itself always fails in the same way says little, unless it is meant to fail."""
        status, result, _ = reference.standard.ended.get(RUN_ID, ("lost", None, {}))
        if status == RunStatus.FAILED:
            self._found.doubts.append(
                f"without any fault the run ends as failed: {plainly(result)[:_MOST_SHOWN_ERROR]}"
            )

    def _note_what_is_left(self, scenario: Schedule, trial: Trial, before: Hashable) -> None:
        """A run that has failed may leave something behind, an entry in a log say; or an undo is missing."""
        steps = ", ".join(injury.point.what for injury in scenario if injury.fault == "fail")
        if steps:
            self._found.doubts.append(
                f"when {steps} fails, the world is {shown(trial.world_after)!r} afterwards, and was {shown(before)!r} "
                "before: is an undo missing (`@the_step.compensate`)?"
            )

    def _note_calls(self, reference: Reference) -> None:
        left_out = calls_left_out(reference.trial.passed)
        if left_out and {"lost_ack", "not_applied"} & {*self.faults}:
            self._found.notes.append(
                f"{left_out} calls of the storage were always answered: all commits lose their answers, and the first "
                f"{MOST_UNANSWERED} of each other kind"
            )

    def _note_budget(self) -> None:
        left = sum(1 for tried in self._found.tried if tried.verdict == "not tried")
        if left:
            why = f"the budget of {self.budget} was spent" if self.budget.spent else "so much was wrong already"
            self._found.notes.append(f"{left} faults were not tried: {why}")


def _failure_of(step: str) -> Injury:
    return Injury("fail", Point(step, "before"))


def _origin(trial: Trial, passed: Passed) -> Origin:
    return Origin(tuple(trial.changes[: passed.changes]), passed.now_ms, passed.state)
