"""A pretended cluster on one thread: runs are claimed and advanced in a fixed order, in virtual time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from attrs import evolve

from flowkit import Flow
from flowkit.body import Ending
from flowkit.codec import Codec, JsonCodec
from flowkit.documents import decode_input, encode_input
from flowkit.durations import Duration
from flowkit.errors import LeaseLost, NotDurableWarning, ReplayWarning
from flowkit.reasons import Detached, Revoked
from flowkit.records import AnyOf, Created, Exactly, Lease, Message, MessageKind, NewRun, RunStatus, Want
from flowkit.registry import TaskSpec, tasks
from flowkit.scheduler import Scheduler
from flowkit.storage import Storage
from flowkit_testing.fake_clock import FakeClock
from flowkit_testing.ledger import Ledger
from flowkit_testing.port import Audited, Port
from flowkit_testing.process import Process, ProcessDied, Watcher, World
from flowkit_testing.seat import Seat
from flowkit_testing.states import headers
from flowkit_testing.trace import Trace

MOST_INCARNATIONS = 500
LEASE = "30s"


class Replayed(Exception):
    """A run is unwound after a recorded step, to see that its replay comes to the same."""


class NeverEnds(AssertionError):
    """A run is taken up again and again and does not end."""


class ReplayDiffers(AssertionError):
    """A replay computed other arguments than the first time (rules D8, I3)."""

    rule = "D8"


class NotDurable(ReplayDiffers):
    """A step ran as a plain function beside its task, so that nothing is proven of it (rule I2)."""

    rule = "I2"


class Lab:
    """One storage, one clock, and processes that come and go.

    Args:
        storage: what the processes share; it is opened here, and closed by whoever made it.
        watcher: sees every effect of every process.
        codec: how values become bytes.
        lease: how long a dead process keeps its runs.
    """

    def __init__(
        self, storage: Storage, watcher: Watcher, *, codec: Codec | None = None, lease: Duration = LEASE
    ) -> None:
        self.storage = storage
        self.codec = codec or JsonCodec()
        self.clock = FakeClock()
        self.trace = Trace()
        self.ledger = Ledger(self.codec)
        self.queues: tuple[str, ...] = ("default",)
        self.scheduled: tuple[TaskSpec, ...] = ()  # those whose ticks come as time passes
        self._lease = lease
        self.swallowed: dict[str, None] = {}  # what was told of bodies that let nothing out
        self._world = World(self.clock, self.trace, self.ledger, watcher, self._flow, self.swallowed)
        self._processes: list[Process] = []
        self._held: list[tuple[Process, Lease]] = []
        self._stopped: list[Seat] = []
        self.on_seats = False  # advance each run on a thread of its own, so that its process can stand still
        self.retired = False  # nothing more is taken up here
        self.all_durable = False  # a step that runs in a bare thread is an error
        self._runs_started = 0
        self.incarnations = 0
        storage.open()

    def _flow(self, port: Port) -> Flow:
        return Flow(port, clock=self.clock, codec=self.codec, lease=self._lease, worker=False)

    def restore(self, changes: Iterable[Callable[[Storage], object]], now_ms: int) -> None:
        """Bring the storage, which is empty, to a former state, and the clock to its time."""
        audited = Audited(self.storage, self.ledger)
        for change in changes:
            change(audited)
        self.clock.move_to(now_ms)

    # ---- processes --------------------------------------------------------------------------------------------

    def start_process(self, name: str = "") -> Process:
        """Another process on the same storage."""
        process = Process(
            self._world,
            lambda process: Port(self.storage, self.clock, self.ledger, process),
            name or f"process {len(self._processes) + 1}",
        )
        self._processes.append(process)
        return process

    def process(self) -> Process:
        """The process that works now: the newest, or a new one if that has died."""
        newest = self._processes[-1] if self._processes else None
        return self.start_process() if newest is None or newest.died is not None or newest.stopped else newest

    def let_stopped_go_on(self) -> bool:
        """Processes that stand still, and were not killed, go on; False if there are none.

        The one that stopped last comes first, since `_strict` is left in the reverse order in which it was entered.
        """
        stopped = [seat for seat in self._stopped if not seat.process.killed]
        self._stopped = [seat for seat in self._stopped if seat.process.killed]
        for seat in reversed(stopped):
            seat.process.go_on()
            if seat.wait():
                self._stopped.append(seat)
        return bool(stopped)

    def close(self) -> None:
        """Stop all processes."""
        for seat in reversed(self._stopped):
            seat.process.die("the test is over")
            seat.process.go_on()
            with suppress(ReplayDiffers):  # nobody asks any more
                seat.wait()
        self._stopped.clear()
        for process in self._processes:
            process.close()
        self._processes.clear()

    # ---- runs -------------------------------------------------------------------------------------------------

    def new_run(
        self, process: Process, spec: TaskSpec, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> NewRun:
        """A run whose id and seed are the same whenever the test is run."""
        self._runs_started += 1
        new = process.flow.engine.new_run(
            spec, args, kwargs, run_id=spec.run_id or f"run-{self._runs_started}", grant=process.flow.engine.grant()
        )
        given = decode_input(self.codec, new.input)
        return evolve(new, input=encode_input(self.codec, evolve(given, seed=new.run_id)))

    def submit(self, spec: TaskSpec, args: tuple[object, ...], kwargs: Mapping[str, object]) -> str:
        """Create a run and advance it as far as it goes; it survives that its client dies. Returns its id."""
        process = self.process()
        new = self.new_run(process, spec, args, kwargs)
        while True:
            try:
                return self._submit(process, new)
            except ProcessDied:
                process = self.process()
                new = evolve(new, grant=process.flow.engine.grant())

    def _submit(self, process: Process, new: NewRun) -> str:
        engine = process.flow.engine
        [submitted] = engine.storage.submit([new], now_ms=engine.now_arg())
        if isinstance(submitted, Created) and submitted.lease is not None:
            self.advance(process, submitted.lease)
        else:
            engine.check_same(new, engine.snapshot(new.run_id))
        return new.run_id

    def run_to_end(self, run_id: str) -> None:
        """Advance whatever can be advanced, and let time pass, until this run has ended or nothing can happen."""
        incarnations = self.incarnations
        while not self.has_ended(run_id) and self.step(None):
            if self.incarnations - incarnations > MOST_INCARNATIONS:
                raise NeverEnds(f"run {run_id!r} was taken up {MOST_INCARNATIONS:,} times and has not ended")

    def has_ended(self, run_id: str) -> bool:
        """True if the run is finished or blocked."""
        snapshot = self.storage.load(run_id, 0, 0)
        return snapshot is not None and snapshot.result is not None

    def drain(self) -> None:
        """Advance whatever can be advanced, and let time pass, until nothing can happen any more."""
        incarnations = self.incarnations
        while self.step(None):
            if self.incarnations - incarnations > MOST_INCARNATIONS:
                raise NeverEnds(f"runs were taken up {MOST_INCARNATIONS:,} times and do not end")

    def settle(self, until_ms: int) -> None:
        """Do everything that is due until a time, and set the clock to it."""
        while self.step(until_ms):
            pass
        self._pass_time(until_ms)

    def step(self, until_ms: int | None) -> bool:
        """Take up one run, or let time pass until one is due; False if nothing is due by `until_ms` (None: ever)."""
        if self.retired:
            return False
        if self._held:
            self.advance(*self._held.pop(0))
            return True
        try:
            process = self.process()
            engine = process.flow.engine
            tick_ms = Scheduler(engine, lambda: self.scheduled).look()
            want = AnyOf(tasks.ids(), self.queues)
            claimed = engine.storage.claim(engine.grant(), want, 1, now_ms=engine.now_arg())
        except ProcessDied:
            return True
        if claimed.leases:
            self.advance(process, claimed.leases[0])
            return True
        due_ms = claimed.next_due_ms
        if tick_ms is not None and (until_ms is not None or due_ms is not None):  # ticks alone would never end
            due_ms = tick_ms if due_ms is None else min(due_ms, tick_ms)
        if due_ms is None or (until_ms is not None and due_ms > until_ms):
            return False
        self._pass_time(due_ms)
        return True

    def _pass_time(self, until_ms: int) -> None:
        """Set the clock. Processes that live renew the leases of what they are advancing."""
        self.clock.move_to(until_ms)
        self._heartbeats()

    def _heartbeats(self) -> None:
        for process in self._processes:
            if process.died is None and not process.stopped:
                process.renew()

    def cancel(self, run_id: str) -> None:
        """Ask a run to stop, from elsewhere: whoever advances it hears of it by the storage."""
        self.storage.send(run_id, Message("cancel:the test", MessageKind.CANCEL), now_ms=self.clock.now_ms())

    def take_over(self, run_id: str) -> None:
        """Let the lease of a run end and another process claim it; the one that had it does not know."""
        rival = self.start_process()
        self._processes.insert(0, self._processes.pop())
        engine = rival.flow.engine
        want: Want = Exactly(run_id)
        snapshot = engine.snapshot(run_id)
        for _ in range(2):
            claimed = engine.storage.claim(engine.grant(), want, 1, now_ms=engine.now_arg())
            if claimed.leases:
                self._held.append((rival, claimed.leases[0]))
                self._heartbeats()  # D4: the one that does not know can renew nothing
                return
            assert claimed.next_due_ms is not None, f"run {run_id!r} ({snapshot.header.status}) has no lease to lose"
            self.clock.move_to(claimed.next_due_ms)

    def orphans(self) -> Iterator[str]:
        """Runs, leases and timers that nobody would come back to (rule X1)."""
        living = {process.flow.engine.worker_id for process in self._processes if process.died is None}
        known, now_ms = frozenset(tasks.ids()), self.clock.now_ms()
        for header in headers(self.storage):
            if header.status.finished or header.status is RunStatus.BLOCKED or header.task not in known:
                continue
            if header.queue not in self.queues:
                continue
            if header.worker in living and (header.run_id not in {lease.run_id for _, lease in self._held}):
                yield f"run {header.run_id!r} is leased by a process that lives and does not advance it"
            elif header.wake_at_ms is not None and header.wake_at_ms <= now_ms:
                yield f"the timer of run {header.run_id!r} rang and woke nobody"
            elif header.worker is None and header.status in {RunStatus.PENDING, RunStatus.RUNNING}:
                yield f"run {header.run_id!r} is {header.status} and nobody takes it up"

    # ---- one incarnation --------------------------------------------------------------------------------------

    def advance(self, process: Process, lease: Lease) -> None:
        """Advance a claimed run as far as it goes, until its process dies or stands still at the latest."""
        self.incarnations += 1
        if not self.on_seats:
            self._advance(process, lease)
            return
        seat = Seat(process, lambda: self._advance(process, lease))
        seat.start()
        if seat.wait():
            self._stopped.append(seat)

    def _advance(self, process: Process, lease: Lease) -> None:
        with _strict(durable=self.all_durable):
            try:
                self._ended(lease.run_id, process.advance(process.flow.engine.start_of(lease)))
            except ProcessDied:
                if process.died is None:
                    raise

    def _ended(self, run_id: str, ending: Ending) -> None:
        self.trace.forced.discard(run_id)
        match ending:
            case Detached(error=Replayed()):
                self.trace.forced.add(run_id)
            case Detached(error=error) if not isinstance(error, Exception):
                raise error
            case Revoked(error=error) if not isinstance(error, LeaseLost | ProcessDied):
                raise error
            case _:
                pass


@contextmanager
def _strict(*, durable: bool) -> Iterator[None]:
    """Fail if a replay computes other arguments than were recorded, or if a step is not durable though it must be.

    Raises:
        ReplayDiffers: it did.
        NotDurable: it was not.
    """
    refused = (ReplayWarning, NotDurableWarning) if durable else (ReplayWarning,)
    with warnings.catch_warnings(record=True) as caught:
        for category in refused:
            warnings.simplefilter("always", category)
        yield
    found = [warning for warning in caught if issubclass(warning.category, refused)]
    for warning in caught:
        if warning not in found:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if found:
        error = ReplayDiffers if issubclass(found[0].category, ReplayWarning) else NotDurable
        raise error("\n".join(dict.fromkeys(str(warning.message) for warning in found)))
