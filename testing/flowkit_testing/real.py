"""The second tier: the same points, in processes of their own that die by SIGKILL or stand still by SIGSTOP.

What the first tier pretends is done here to the operating system, on a storage that processes share: one that kills
or stops itself at a named point; then another one that takes the run up; then, if the first was stopped, SIGCONT.
Time stays virtual, so that timers of days and leases take none of it. The verdict must be that of the first tier.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Hashable, Sequence

from attrs import define, evolve, field, frozen

from flowkit.storage import Storage, open_storage
from flowkit_testing.forks import Forks, Processes
from flowkit_testing.points import REPLAYED, Injury, Schedule, token_of
from flowkit_testing.real_order import Memory, Order, Report, pass_memory
from flowkit_testing.subject import Subject
from flowkit_testing.trial import is_of_scenario, run_of
from flowkit_testing.verdicts import Aftermath, Standard, what_is_wrong

_STANDING = frozenset({"stop", "lease"})


@frozen
class RealVerdict:
    """What came of a schedule."""

    schedule: Schedule
    reached: bool
    wrong: tuple[str, ...]
    timeline: tuple[str, ...] = ()


@define(eq=False)
class RealTier:
    """Tries schedules on one subject in real processes.

    Args:
        subject: what to try. Its task is found by importing its module; its arguments and events go as JSON. A world
            must be one that processes share, such as files.
        processes: where they come from.
        make_url: gives the URL of an empty storage that processes can share.
    """

    subject: Subject
    processes: Processes
    make_url: Callable[[], str]
    _standards: dict[Schedule, Standard] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        refuse_what_cannot_be_real(self.subject)

    def run(self, schedule: Schedule) -> RealVerdict:
        """Run it with these faults and hold what is left against a run without.

        Raises:
            ValueError: a process that stands still is to be followed by another fault.
        """
        strikes = [injury for injury in schedule if not is_of_scenario(injury)]
        if any(injury.fault in _STANDING for injury in strikes[:-1]):
            raise ValueError("in the real tier, a process that stands still is the last fault of a schedule")
        scenario = tuple(injury for injury in schedule if is_of_scenario(injury) and injury != REPLAYED)
        standard = self._standards.get(scenario)
        if standard is None:
            standard, verdict = self._try(scenario, None)
            self._standards[scenario] = standard
            if verdict.wrong or schedule == scenario:
                return evolve(verdict, schedule=schedule)
        return self._try(schedule, standard)[1]

    def _try(self, schedule: Schedule, standard: Standard | None) -> tuple[Standard, RealVerdict]:
        world, codec = self.subject.world, self.subject.codec
        before: Hashable = None
        if world is not None:
            world.reset()
            before = world.seen()
        url = self.make_url()
        reports = _Course(self.processes, self._order(url, schedule), schedule).run()
        storage = open_storage(url)
        storage.open()
        try:
            after = _aftermath(reports, storage, None if world is None else world.seen())
            _refuse_a_world_that_does_not_show(self.subject, standard, before, after)
            wrong = what_is_wrong(after, schedule, codec, standard)
            made = standard or Standard.of(after, codec)
        finally:
            storage.close()
        struck = max(report.memory.struck for report in reports)
        reached = struck == sum(1 for injury in schedule if not is_of_scenario(injury))
        timeline = tuple(line for report in reports for line in report.timeline)
        return made, RealVerdict(schedule, reached, wrong, timeline)

    def _order(self, url: str, schedule: Schedule) -> Order:
        subject, to_json = self.subject, self.subject.codec.to_json
        module = subject.spec.fn.__module__
        return Order(
            url,
            module,
            str(sys.modules[module].__file__),
            subject.spec.id,
            [to_json(arg) for arg in subject.args],
            {name: to_json(arg) for name, arg in subject.kwargs.items()},
            [(name, to_json(payload)) for name, payload in subject.events],
            token_of(schedule),
            Memory(),
            self.processes.next_report(),
        )


def refuse_what_cannot_be_real(subject: Subject) -> None:
    """Say what a process of its own could not know.

    Raises:
        ValueError: the task, or a fault, exists in this process only.
    """
    if "<locals>" in subject.spec.fn.__qualname__:
        raise ValueError(
            f"task {subject.spec.id!r} is defined inside of a function, where another process cannot find it: define "
            "it at the top level of its module to try it in real processes"
        )
    if subject.injector.steps:
        raise ValueError(
            f"{subject.injector.steps[0]} is known to this process only: to try it in real processes, write it into "
            "the step, or use failing=(...)"
        )


def _refuse_a_world_that_does_not_show(
    subject: Subject, standard: Standard | None, before: Hashable, after: Aftermath
) -> None:
    """As `refuse_what_cannot_fail`, of a world that other processes are to change."""
    if subject.world is not None and standard is None and not after.wrong and after.world == before:
        raise AssertionError(
            f"world() shows the same before and after a run of task {subject.spec.id!r} in another process: what is "
            "kept in the memory of this one is not changed there. Let the steps write to files, or a server, to try "
            "this in real processes"
        )


# ---- one schedule ---------------------------------------------------------------------------------------------------


@define(eq=False)
class _Course:
    """Runs processes one after the other, as a schedule wants it."""

    processes: Processes
    order: Order
    schedule: Schedule
    _reports: dict[str, Report] = field(factory=dict)  # the last one of each process

    def run(self) -> tuple[Report, ...]:
        """All that they have reported."""
        forks, order = self.processes.first, self.order
        while True:
            pid = forks.start(order)
            status = forks.wait(pid)
            report = self._read(order, status)
            if os.WIFSTOPPED(status):
                self._overtake(forks, pid, order)
            if not os.WIFSIGNALED(status):
                return tuple(self._reports.values())
            died_at = self._strike(report).point
            forks = self.processes.others
            order = self._next(report.memory, submits=died_at.what == "storage: submit")

    def _overtake(self, forks: Forks, zombie: int, its_order: Order) -> None:
        """Another process takes the run over; then the one that stands still goes on, and finds out."""
        report = self._reports[its_order.report]
        injury = self._strike(report)
        at_once = injury.fault == "lease"
        others, order = (
            self.processes.others,
            self._next(report.memory, takes_over=run_of(injury.point), stands=at_once),
        )
        rival = others.start(order)
        meanwhile = self._read(order, others.wait(rival)).memory
        pass_memory(meanwhile, its_order)
        forks.go_on(zombie)
        left = self._read(its_order, forks.wait(zombie)).memory
        if at_once:
            pass_memory(evolve(meanwhile, now_ms=max(meanwhile.now_ms, left.now_ms)), order)
            others.go_on(rival)
            self._read(order, others.wait(rival))

    def _next(self, memory: Memory, *, submits: bool = False, takes_over: str = "", stands: bool = False) -> Order:
        report = self.processes.next_report()
        return evolve(self.order, memory=memory, report=report, submits=submits, takes_over=takes_over, stands=stands)

    def _read(self, order: Order, status: int) -> Report:
        """What a process has reported that stands still, or has ended, with this status."""
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGKILL:
            raise RuntimeError(f"a process of the real tier was ended by signal {os.WTERMSIG(status)}")
        report = self._reports[order.report] = Report.read(order.report)
        if report.error:
            raise RuntimeError(f"a process of the real tier has failed:\n{report.error}")
        return report

    def _strike(self, report: Report) -> Injury:
        """The fault that has happened last."""
        strikes = [injury for injury in self.schedule if not is_of_scenario(injury)]
        return strikes[report.memory.struck - 1]


def _aftermath(reports: Sequence[Report], storage: Storage, world: Hashable) -> Aftermath:
    return Aftermath(
        storage,
        max(report.memory.now_ms for report in reports),
        [text for report in reports for text in report.wrong],
        {pair for report in reports for pair in report.undoable},
        max(report.calls_after_cancel for report in reports),
        world,
    )
