"""A process of the real tier: it advances a run in virtual time, and kills or stops itself at a named point.

It does what a trial in one process does, by the same code. Only what dies is a real process, which takes with it all
that it had in its memory, and what it leaves is what a real storage has.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import signal
import sys
import threading
import traceback
from collections import Counter

from attrs import define, field

from flowkit.codec import JsonCodec
from flowkit.registry import TaskSpec, tasks
from flowkit.storage import Storage, open_storage
from flowkit_testing.injector import Injector
from flowkit_testing.points import Injury, schedule_of
from flowkit_testing.process import Process
from flowkit_testing.real_order import Counted, Memory, Order, Report, memory_of
from flowkit_testing.subject import Subject, in_scenario
from flowkit_testing.trial import Origin, Trial, is_of_scenario
from flowkit_testing.watch import Attempt

PATIENCE_S = 120


@define(eq=False)
class RealTrial(Trial):
    """A trial whose faults are signals, and which goes on from what other processes have left."""

    order: Order = field(kw_only=True)
    _planned: int = 0

    def _counted(self, storage: Storage) -> Storage:
        """As it is: other processes are given fences, too, and nothing is made again from a log."""
        return storage

    def _go(self, origin: Origin | None) -> None:
        order, lab = self.order, self.lab
        lab.on_seats = False  # a process that stands still does so as a whole
        self._planned = len(self._left)
        self._recall(order.memory)
        if order.takes_over:
            lab.take_over(order.takes_over)
            if order.stands:
                self._stand_still()
        super()._go(origin)

    def _strike(self, process: Process, injury: Injury) -> None:
        match injury.fault:
            case "crash":
                self._note(process, injury)
                self.report().write(self.order.report)
                _signal_here(signal.SIGKILL)
            case "stop" | "lease":
                self._note(process, injury)
                self.lab.retired = True  # it ends what it is at; the rest is for whoever has taken over
                self._stand_still()
            case _:
                super()._strike(process, injury)

    def _stand_still(self) -> None:
        with self.storage.lock:  # a process that is stopped in the middle of a write keeps all others out
            self.report().write(self.order.report)
            _signal_here(signal.SIGSTOP)
        self._recall(memory_of(json.loads(self.order.go_on.read_text(encoding="utf-8"))))

    def _recall(self, memory: Memory) -> None:
        """Know what was stored and seen by the processes before this one."""
        self.lab.clock.move_to(memory.now_ms)
        self.lab.ledger.read(self.storage.behind, memory.fences)
        self.watch.recall(_counter(memory.begun), _counter(memory.allowed))

    def report(self) -> Report:
        """What has come of it so far."""
        memory = Memory(
            self.order.memory.struck + self._planned - len(self._left),
            self.lab.clock.now_ms(),
            _counted(self.watch.begun),
            _counted(self.watch.allowed),
            self.lab.ledger.fences,
        )
        undoable = sorted(self.watch.undoable)
        return Report(memory, self.seen_wrong(), list(self.timeline()), undoable, self.watch.calls_after_cancel)


def _signal_here(number: signal.Signals) -> None:
    """Strike this process on this thread, which does not come back from here before it has worked.

    A signal to the process may go to another thread, and this one would go on for a while.
    """
    signal.pthread_kill(threading.get_ident(), number)


def _counter(counted: Counted) -> Counter[Attempt]:
    return Counter({(run_id, key, number): times for run_id, key, number, times in counted})


def _counted(counter: Counter[Attempt]) -> Counted:
    return [(run_id, key, number, times) for (run_id, key, number), times in counter.items()]


def find_task(order: Order) -> TaskSpec:
    """Load the module that defines the task, under the name that it had.

    Raises:
        LookupError: it defines none of this id when it is loaded.
    """
    try:
        loaded = importlib.import_module(order.module)
    except ImportError:
        loaded = None
    if loaded is None or loaded.__file__ != order.file:
        found = importlib.util.spec_from_file_location(order.module, order.file)
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        sys.modules[order.module] = module
        found.loader.exec_module(module)
    spec = tasks.find(order.task)
    if spec is None:
        raise LookupError(
            f"{order.file} does not define task {order.task!r} when it is imported: define it at the module's top level"
        )
    return spec


def work(order: Order) -> None:
    """Do as told, and report."""
    signal.alarm(PATIENCE_S)
    try:
        trial = _trial(order)
        trial.run()
        report = trial.report()
        trial.close()
    except BaseException:  # noqa: BLE001  # whoever gave the order is told
        report = Report(order.memory, error=traceback.format_exc())
    report.write(order.report)


def _trial(order: Order) -> RealTrial:
    schedule, codec = schedule_of(order.token), JsonCodec()
    subject = Subject(
        find_task(order),
        tuple(codec.from_json(arg, object) for arg in order.args),
        {name: codec.from_json(arg, object) for name, arg in order.kwargs.items()},
        lambda: open_storage(order.url),
        Injector(by_attempt=True),
        codec,
        events=tuple((name, codec.from_json(payload, object)) for name, payload in order.events),
    )
    scenario = tuple(injury for injury in schedule if is_of_scenario(injury))
    strikes = tuple(injury for injury in schedule if not is_of_scenario(injury))
    ahead = (*scenario, *strikes[order.memory.struck :])
    return RealTrial(in_scenario(subject, scenario), ahead, resubmit=order.submits, order=order)
