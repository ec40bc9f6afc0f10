"""Renew the leases of the runs that are being advanced, from a thread of its own (rule X1)."""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from flowkit.errors import LeaseLost
from flowkit.patience import PatientStorage
from flowkit.reasons import Revoked
from flowkit.records import Message, MessageKind
from flowkit.run import Run

log = logging.getLogger(__name__)

advancing_for: ContextVar[object] = ContextVar("advancing_for", default=None)  # the worker whose runs these are


class Leases:
    """The runs that this process is advancing, and the heartbeat that keeps them its own.

    Args:
        storage: where the leases are kept.
        worker: under which name they were granted.
        lease_ms: how long each lasts; renewed three times in that.
        beating: False where time is virtual, and nobody else's clock runs.
    """

    def __init__(self, storage: PatientStorage, worker: str, lease_ms: int, *, beating: bool) -> None:
        self._storage = storage
        self._worker = worker
        self._lease_ms = lease_ms
        self._beating = beating
        self._lock = threading.Lock()
        self._beat = threading.Condition(self._lock)
        self._gone = threading.Condition(self._lock)
        self._active: dict[str, Run] = {}
        self._for: dict[str, object] = {}  # for whom each is advanced
        self._threads: dict[str, int] = {}  # where each is advanced
        self._told: weakref.WeakKeyDictionary[object, BaseException] = weakref.WeakKeyDictionary()  # why, for whom
        self._all_told: BaseException | None = None
        self._on_beat: list[Callable[[], None]] = []
        self._heart: threading.Thread | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._active)

    @contextlib.contextmanager
    def watching(self, run: Run) -> Iterator[None]:
        """Renew the run's lease while it is advanced; one that comes after `let_go` is let go of at once."""
        whose = advancing_for.get()
        with self._lock:
            self._active[run.id] = run
            self._for[run.id] = whose
            self._threads[run.id] = threading.get_ident()
            why = self._all_told if whose is None else self._told.get(whose, self._all_told)
            self._start_beating()
        if why is not None:
            run.close(why)
        try:
            yield
        finally:
            with self._lock:
                self._active.pop(run.id, None)
                self._for.pop(run.id, None)
                self._threads.pop(run.id, None)
                self._gone.notify_all()

    def heard(self, run_id: str, message: Message) -> None:
        """A run was sent a message by this process: if it is advanced here, it need not wait for a renewal to tell."""
        run = self._active.get(run_id)
        if run is None:
            return
        if message.kind is MessageKind.CANCEL:
            run.writer.cancel = True
        else:
            run.writer.inbox += 1
        run.news()

    def beat_also(self, call: Callable[[], None]) -> None:
        """Call this with every beat of the heart, from now on."""
        with self._lock:
            self._on_beat.append(call)
            self._start_beating()

    def beat_without(self, call: Callable[[], None]) -> None:
        """Call it no more."""
        with self._lock:
            if call in self._on_beat:  # not after a fork
                self._on_beat.remove(call)

    def _start_beating(self) -> None:
        if self._heart is None and self._beating and not self._closed:
            self._heart = threading.Thread(target=self._keep_beating, name="flowkit-leases", daemon=True)
            self._heart.start()

    def let_go(self, why: BaseException, whose: object = None) -> None:
        """Ask runs to stop after the steps in flight (rule X5), and those yet to begin: of one worker, or all."""
        with self._lock:
            if whose is None:
                self._all_told = why
            else:
                self._told[whose] = why
            runs = [run for run_id, run in self._active.items() if whose is None or self._for[run_id] is whose]
        for run in runs:
            run.close(why)

    def let_go_all(self, why: BaseException, grace_s: float) -> None:
        """Ask all runs to stop after the steps in flight, and wait for those of other threads (rule X5).

        One that this thread advances, on an event loop, cannot go on while it waits here.
        """
        self.let_go(why)
        with self._lock:
            self._gone.wait_for(self._none_elsewhere, max(0.0, grace_s))

    def _none_elsewhere(self) -> bool:
        here = threading.get_ident()
        return all(thread == here for thread in self._threads.values())

    def close(self) -> None:
        """Stop renewing."""
        with self._lock:
            self._closed = True
            self._beat.notify_all()

    def after_fork(self, worker: str) -> None:
        """Start afresh in a forked child: its parent's runs are not its own."""
        self._worker = worker
        self._lock = threading.Lock()
        self._beat = threading.Condition(self._lock)
        self._gone = threading.Condition(self._lock)
        self._heart = None
        for run in self._active.values():
            run.reason = Revoked(LeaseLost(f"run {run.id!r} belongs to the process that this one was forked from"))
        self._active, self._for, self._threads, self._on_beat = {}, {}, {}, []
        self._told, self._all_told = weakref.WeakKeyDictionary(), None

    def _keep_beating(self) -> None:
        pause_s = self._lease_ms / 3000
        while True:
            with self._lock:
                if not self._closed:
                    self._beat.wait(pause_s)
                if self._closed:
                    return
                runs, calls = list(self._active.values()), list(self._on_beat)
            if runs:
                self._renew(runs)
            for call in calls:
                call()

    def _renew(self, runs: list[Run]) -> None:
        try:
            states = self._storage.renew(self._worker, [run.writer.lease for run in runs], self._lease_ms)
        except Exception as error:  # noqa: BLE001  # a storage that is away for a moment must not end the heartbeat
            log.warning("leases could not be renewed (%s: %s); trying again", type(error).__name__, error)
            return
        for run, state in zip(runs, states, strict=True):
            if not state.held:
                if self._active.get(run.id) is run:
                    run.lose(LeaseLost(f"run {run.id!r} was taken over by another worker"))
            elif (state.cancel, state.inbox) != (run.writer.cancel, run.writer.inbox):
                run.writer.cancel, run.writer.inbox = state.cancel, state.inbox
                run.news()
