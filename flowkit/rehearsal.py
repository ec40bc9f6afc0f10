"""Replay a recorded run against the code of today, up to where its record ends, without doing anything.

No step runs, nothing is sent and nothing is stored: each line of calls is held where it does the first thing that is
not recorded. The code between the steps does run, as it does in every replay.
"""

from __future__ import annotations

import threading
import warnings
from contextlib import suppress
from enum import StrEnum

from attrs import define, evolve, field

from flowkit.codec import Codec, error_text
from flowkit.documents import describe_error
from flowkit.effects import Effect, End, Pause, Post, Record, Reload, RunBody
from flowkit.engine import Engine
from flowkit.entries import Kind, Phase, decode
from flowkit.errors import LeaseLost, ReplayWarning
from flowkit.frozen import frozen
from flowkit.incarnations import Start, start_from
from flowkit.journal import Past
from flowkit.memory import MemoryStorage
from flowkit.records import Block, Created, Finish, Grant, NewRun, Snapshot
from flowkit.registry import tasks
from flowkit.run import Probe, Run

_SHOWN = 200
_FAR_MS = 1 << 52  # later than anything that is waited for


class Verdict(StrEnum):
    """What today's code makes of a recorded run."""

    FINE = "fine"
    DIFFERENT = "different"  # it goes on, but computes something else than was recorded
    BLOCKED = "blocked"
    UNKNOWN = "unknown"  # its task is not known here


@frozen
class Rehearsal:
    """How a recorded run fared against today's code."""

    run_id: str
    task: str
    verdict: Verdict
    why: str = ""  # what is wrong, if something is
    next: tuple[str, ...] = ()  # what the run would do first that is not recorded

    @property
    def fine(self) -> bool:
        """True if the run would go on, or has ended, as recorded."""
        return self.verdict is Verdict.FINE

    def assert_fine(self) -> None:
        """Fail if today's code breaks the run.

        Raises:
            AssertionError: says what is different, or why it would be blocked.
        """
        if not self.fine:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        going_on = f", goes on with {', '.join(self.next)}" if self.next else ""
        return (
            f"run {self.run_id!r} of task {self.task!r} is {self.verdict}{going_on}{': ' if self.why else ''}{self.why}"
        )


def rehearse(snapshot: Snapshot, codec: Codec) -> Rehearsal:
    """Replay a run as far as it is recorded.

    Args:
        snapshot: the run, whole.
        codec: what its payloads were written with.

    Returns:
        Fine, different, blocked, or unknown.
    """
    run_id, task = snapshot.header.run_id, snapshot.header.task
    spec = tasks.find(task)
    if spec is None:
        return Rehearsal(run_id, task, Verdict.UNKNOWN, "no module that was imported has this task")
    storage = MemoryStorage()
    engine = Engine(storage, codec, _Still(snapshot.now_ms))
    stage = engine.probe = _Stage()
    try:
        start = _put(storage, snapshot)
        with warnings.catch_warnings(record=True) as caught, suppress(LeaseLost):
            warnings.simplefilter("always", ReplayWarning)
            engine.advance(start)
    finally:
        engine.close()
    differing = [str(warning.message) for warning in caught if issubclass(warning.category, ReplayWarning)]
    verdict, why = _judge(snapshot, stage, codec, differing)
    return Rehearsal(run_id, task, verdict, why, tuple(stage.held))


def _put(storage: MemoryStorage, snapshot: Snapshot) -> Start:
    """A run of the same content in a storage of its own; a cancellation that it has not heard of is left out."""
    header = snapshot.header
    grant = Grant("rehearsal", "rehearsal", _FAR_MS)
    new = NewRun(header.run_id, header.task, snapshot.input, entries=snapshot.entries, grant=grant)
    (created,) = storage.submit([new], now_ms=header.created_at_ms)
    assert isinstance(created, Created)
    assert created.lease is not None  # the storage was empty
    return evolve(start_from(created.lease, snapshot), cancel=False)


def _judge(snapshot: Snapshot, stage: _Stage, codec: Codec, differing: list[str]) -> tuple[Verdict, str]:
    if stage.blocked is not None:
        return Verdict.BLOCKED, str(describe_error(codec, stage.blocked))
    if stage.unlike:
        return Verdict.DIFFERENT, stage.unlike
    if differing:
        return Verdict.DIFFERENT, "; ".join(differing)
    finished = stage.finished
    if finished is None:
        if snapshot.header.status.finished:
            return Verdict.DIFFERENT, f"it had ended as {snapshot.header.status}; now it would go on"
        return Verdict.FINE, ""
    if not snapshot.header.status.finished:
        return Verdict.FINE, ""
    if finished.status is not snapshot.header.status:
        return Verdict.DIFFERENT, f"it had ended as {snapshot.header.status}; now it ends as {finished.status}"
    if finished.result != snapshot.result:
        return Verdict.DIFFERENT, f"its result was {_shown(snapshot.result)}; now it is {_shown(finished.result)}"
    return Verdict.FINE, ""


def _shown(result: bytes | None) -> str:
    text = "nothing" if result is None else result.decode("utf-8", "replace")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


@define(eq=False)
class _Stage(Probe):
    """Watches a replay, and holds each line of calls at the first effect that is not recorded (see `run.Probe`)."""

    held: list[str] = field(factory=list)
    blocked: bytes | None = None
    finished: Finish | None = None
    unlike: str = ""
    _lock: threading.Lock = field(factory=threading.Lock)

    def before(self, run: Run, effect: Effect) -> Effect:
        """Let the body run; hold what would touch the world."""
        match effect:
            case RunBody() | Reload() | Post():
                return effect
            case End():
                self._ends(effect)
                raise LeaseLost("the rehearsal is over")
            case Record(kind=Kind.RUN, phase=Phase.ATTEMPT):
                self._fails(run, effect)
            case _:
                with self._lock:
                    self.held.append(f"{type(effect).__name__.lower()} {effect.name}")
        return Pause(effect.name, effect.key, _FAR_MS)

    def _ends(self, effect: End) -> None:
        if isinstance(effect.then, Block):
            self.blocked = effect.then.reason
        elif isinstance(effect.then, Finish):
            self.finished = effect.then

    def _fails(self, run: Run, effect: Record) -> None:
        """Its own code fails, and would be tried again: is that new?"""
        data = decode(run.codec, effect.entries[0]).data
        why = error_text(data["error"]) if isinstance(data, dict) else "unknown error"
        if run.journal.uncalled:
            self.unlike = str(run.journal.failed_early(why))
        self.held.append(f"another attempt, since its own code fails ({why})")

    def after(self, run: Run, effect: Effect, answer: object) -> object:
        """Nothing to add."""
        del run, effect
        return answer

    def failed(self, run: Run, effect: Effect, error: BaseException) -> None:
        """Nothing to add."""

    def recalled(self, run: Run, past: Past) -> None:
        """Nothing to add."""


class _Held(BaseException):
    """A sync call in an async body cannot wait for ever where it stands: it ends the rehearsal."""


@frozen
class _Still:
    """A clock that stands where it stood when the run was read. Nobody waits by it."""

    reading_ms: int
    virtual: bool = True

    def now_ms(self) -> int:
        """When the run was read."""
        return self.reading_ms

    def sleep(self, seconds: float) -> None:
        """Who would wait here is held."""
        raise _Held(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Who would wait here is held."""
        raise _Held(seconds)
