"""Advance a run to its end with its progress shown, whatever happens to the process."""

from __future__ import annotations

import shlex
import signal
import time

from attrs import evolve, frozen

from flowkit.cli.inputs import Arguments, checked
from flowkit.cli.interrupts import Stop, stopping
from flowkit.cli.output import say
from flowkit.cli.progress import drawn, listener
from flowkit.cli.watch import Board, Watch
from flowkit.codec import Json
from flowkit.config import redact
from flowkit.documents import describe_error, result_json
from flowkit.engine import Engine
from flowkit.errors import FlowkitError, RunBlocked, RunConflict, RunRolledBack
from flowkit.flow import Flow
from flowkit.inspection import same_run
from flowkit.notes import add_note
from flowkit.records import NewRun, RunStatus, Snapshot
from flowkit.registry import TaskSpec
from flowkit.reopening import keys_to_retry


@frozen
class Order:
    """What `flowkit run` was asked for."""

    target: str
    spec: TaskSpec
    arguments: Arguments | None  # None: those that the run was started with
    run_id: str
    storage: str | None
    again: bool
    silent: bool

    @property
    def resume_command(self) -> str:
        """The command that resumes the run, which knows its input. Secrets of the storage's URL are left out."""
        words = ["flowkit", "run", self.target, "--run-id", self.run_id]
        if self.storage is not None:
            words += ["--storage", redact(self.storage)]
        return shlex.join(words)


@frozen
class Report:
    """How a run stands after `flowkit run`."""

    order: Order
    status: RunStatus
    value: Json = None
    error: BaseException | None = None
    signal: int = 0  # the signal that stopped it here, if one did
    durable: bool = True  # False: nothing is left to resume once this process ends
    steps: int = 0
    replayed: int = 0
    took_s: float = 0.0
    known: bool = False  # it had ended before
    final: bool = False  # it failed and did something about it, so it cannot be reopened


def execute(flow: Flow, order: Order) -> Report:
    """Create the run or find it, and stay until it has ended or a signal stops it.

    Raises:
        FlowkitError: it could not be started, or the storage failed; what a run raised is in the report.
    """
    engine = flow.engine
    before = engine.storage.load(order.run_id, 0, 0)
    new = _new(engine, order) if before is None else _known(flow, order, before)
    if before is not None and before.result is not None and not order.again:
        return evolve(_report(engine, order), known=True)
    began_s = time.monotonic()
    board, stop, left = _advance(engine, order, new)
    report = _report(engine, order, board.errors.get(order.run_id))
    return evolve(
        report,
        error=report.error or left,
        signal=0 if report.status.finished else stop.received,
        steps=board.done,
        replayed=board.replayed,
        took_s=time.monotonic() - began_s,
    )


def _new(engine: Engine, order: Order) -> NewRun:
    given = checked(order.spec, Arguments()) if order.arguments is None else order.arguments
    return engine.new_run(order.spec, given.args, given.kwargs, run_id=order.run_id, grant=engine.grant())


def _known(flow: Flow, order: Order, snapshot: Snapshot) -> NewRun:
    """A run that exists: its task must be this one, and its arguments too, where some are given."""
    engine, header = flow.engine, snapshot.header
    if header.task != order.spec.id:
        raise RunConflict(f"run id {order.run_id!r} is taken by a run of task {header.task!r}, not {order.spec.id!r}")
    if order.arguments is not None:
        engine.check_same(_new(engine, order), snapshot)
    if order.again and header.status in {RunStatus.FAILED, RunStatus.BLOCKED}:
        flow.retry(order.run_id)
    return same_run(snapshot, engine.grant())


def _advance(engine: Engine, order: Order, new: NewRun) -> tuple[Board, Stop, SystemExit | None]:
    durable = not engine.capabilities.ends_with_process
    board, left = Board(), None
    stop = Stop(engine, say, lambda: say(resume_text(order, durable=durable)))
    engine.probe = Watch(board, listener(silent=order.silent))
    title = f"{order.spec.id}  {order.run_id}"
    with stopping(stop), drawn(board, title, silent=order.silent):
        try:
            engine.run_to_end(new)
        except KeyboardInterrupt:
            stop.received = stop.received or signal.SIGINT
        except SystemExit as error:
            left = error
        except RunBlocked:
            pass  # that is stored too, and told from there
        except FlowkitError as error:
            if durable:
                add_note(error, f"What was completed is kept. Resume with:\n  {order.resume_command}")
            raise
    return board, stop, left


def _report(engine: Engine, order: Order, live: BaseException | None = None) -> Report:
    """How the run stands in the storage; `live` is what its body raised here, which still has its traceback."""
    snapshot = engine.snapshot(order.run_id)
    status, raw = snapshot.header.status, snapshot.result
    durable = not engine.capabilities.ends_with_process
    if raw is None:
        return Report(order, status, durable=durable)
    document = result_json(engine.codec, raw)
    if "error" not in document:
        return Report(order, status, document.get("value"), durable=durable)
    stored = describe_error(engine.codec, raw)
    same = live is not None and type(live) is type(stored) and str(live) == str(stored)
    final = status is RunStatus.FAILED and not _can_be_reopened(engine, order.run_id)
    return Report(order, status, error=live if same else stored, durable=durable, final=final)


def _can_be_reopened(engine: Engine, run_id: str) -> bool:
    try:
        keys_to_retry(engine.codec, engine.load(run_id))
    except RunRolledBack:
        return False
    return True


def resume_text(order: Order, *, durable: bool) -> str:
    """How to go on with a run that was stopped."""
    if not durable:
        return "Nothing is left to resume: the memory storage ends with this process. Use --storage disk:PATH."
    return f"Stopped; nothing that was completed is lost. Resume with:\n  {order.resume_command}"
