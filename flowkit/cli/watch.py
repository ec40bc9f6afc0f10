"""See a run's effects as they happen, and keep the few facts that progress is drawn from."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Protocol

from attrs import define, field

from flowkit.cli.events import Happened
from flowkit.cli.tracebacks import has_traceback
from flowkit.effects import Advance, Effect, Invoke, Pause, Raised, Record, RunBody
from flowkit.entries import Kind, Phase
from flowkit.journal import Past
from flowkit.run import Probe, Run

RECENT = 8  # finished steps kept for the screen
UNTOLD = {Kind.SLEEP, Kind.PATCH, Kind.SAGA, Kind.ITEM}  # operations that do no work
WORTH_TELLING_S = 1.0  # shorter waits, as between two attempts, come and go unseen


@define
class Active:
    """A step under way."""

    name: str
    attempt: int
    since_s: float  # by the monotonic clock


@define(eq=False)
class Board:
    """How far the run has come; read by whoever draws it."""

    done: int = 0
    failed: int = 0
    retries: int = 0
    replayed: int = 0  # steps that the journal answered
    waiting: str = ""
    active: dict[tuple[str, str], Active] = field(factory=dict)
    recent: deque[Happened] = field(factory=lambda: deque(maxlen=RECENT))
    errors: dict[str, BaseException] = field(factory=dict)  # what the body of a run raised here, with its traceback
    lock: threading.Lock = field(factory=threading.Lock)


class Listener(Protocol):
    """Draws or prints what happens."""

    def happened(self, board: Board, event: Happened) -> None:
        """Called for each event, on the thread it happens on; must be quick."""


class Watch(Probe):
    """A probe (see `flowkit.run.Probe`) that changes nothing and tells a listener."""

    def __init__(self, board: Board, listener: Listener) -> None:
        self.board = board
        self._listener = listener
        self._begun: set[str] = set()

    def before(self, run: Run, effect: Effect) -> Effect:
        """An effect is about to be performed."""
        board = self.board
        match effect:
            case Invoke(name=name, key=key, attempt=attempt):
                with board.lock:
                    board.waiting = ""
                    board.active[run.id, key] = Active(name, attempt, time.monotonic())
            case Advance(name=name, key=key):
                with board.lock:
                    board.active[run.id, key] = Active(name, 1, time.monotonic())
            case Pause(name=name, until_ms=until_ms):
                self._waits(run, name or run.task_id, until_ms)
            case RunBody():
                self._body_begins(run)
            case _:
                pass
        return effect

    def after(self, run: Run, effect: Effect, answer: object) -> object:
        """An effect was performed."""
        match effect:
            case Record(phase=Phase.DONE | Phase.FAILED | Phase.ATTEMPT, kind=kind) if kind not in UNTOLD:
                self._recorded(run, effect)
            case Record(phase=Phase.ROLLBACK, name=name):
                self._tell(Happened("rollback", name))
            case Invoke() if isinstance(answer, Raised):
                with self.board.lock:
                    self.board.errors[f"{run.id}:{effect.key}"] = answer.error
            case RunBody() if isinstance(answer, Raised) and has_traceback(answer.error):
                with self.board.lock:
                    self.board.errors[run.id] = answer.error
            case Pause():
                with self.board.lock:
                    self.board.waiting = ""
            case _:
                pass
        return answer

    def failed(self, run: Run, effect: Effect, error: BaseException) -> None:
        """An effect could not be performed; whoever asked for it decides what that means."""

    def recalled(self, run: Run, past: Past) -> None:
        """The journal answered a call; how many it will answer was told when the body began."""

    def _body_begins(self, run: Run) -> None:
        with self.board.lock:
            if run.id in self._begun:  # it starts over: what the journal answers now was done here
                return
            self._begun.add(run.id)
            past = run.journal.past.values()
            replayed = sum(1 for each in past if each.settled and each.kind in {Kind.STEP, Kind.CHILD})
            self.board.replayed += replayed
        if replayed:
            self._tell(Happened("replayed", run.task_id, detail=str(replayed)))

    def _waits(self, run: Run, name: str, until_ms: int) -> None:
        wait_s = max(0.0, (until_ms - run.clock.now_ms()) / 1000)
        with self.board.lock:
            self.board.waiting = name
        if wait_s >= WORTH_TELLING_S:
            self._tell(Happened("waits", name, wait_s))

    def _recorded(self, run: Run, record: Record) -> None:
        board, now_s = self.board, time.monotonic()
        name = f"undo {record.name}" if record.kind == Kind.UNDO else record.name
        with board.lock:
            active = board.active.pop((run.id, record.key), None)
            error = board.errors.pop(f"{run.id}:{record.key}" if record.key else run.id, None)
            took_s = 0.0 if active is None else now_s - active.since_s
            detail = "" if error is None else f"{type(error).__name__}: {error}"
            match record.phase, record.kind:
                case Phase.ATTEMPT, Kind.RUN:
                    board.retries += 1
                    event = Happened("again", name, took_s, detail)
                case Phase.ATTEMPT, _:
                    board.retries += 1
                    event = Happened("retry", name, took_s, detail)
                case Phase.FAILED, _:
                    board.failed += 1
                    event = Happened("failed", name, took_s, detail)
                case _:
                    board.done += 1
                    event = Happened("done", name, took_s)
            board.recent.append(event)
        self._tell(event)

    def _tell(self, event: Happened) -> None:
        self._listener.happened(self.board, event)
