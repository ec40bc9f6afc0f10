"""What has happened in a run, by the key of each operation: recall what is recorded, notice what differs.

Pure: it is built once from the stored entries and asked by operations; it reads and writes nothing itself. Only this
module and `entries` deal with the stored form. Replay against a record is the idea of event-sourced workflow engines
(Azure Durable Functions, Temporal); keys by call order follow rule I1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from attrs import define, field

from flowkit.codec import Codec, Json
from flowkit.entries import RUN_KEY, Entry, Kind, Line, Phase, RunEnd, split_all
from flowkit.errors import NonDeterminismError

_DONE, _ITEM, _END = Phase.DONE.value, Kind.ITEM.value, Kind.END.value
_ASIDE = frozenset({_ITEM, _END})  # entries that belong to no operation
END_OF = "end:"  # before the id of a run whose end a retry forgets
_SETTLED = frozenset({Phase.DONE, Phase.FAILED, Phase.CANCELLED})
_SHOWN = 5  # recorded operations that an error names


@define(eq=False, repr=False)
class Past:
    """All that is recorded about one operation. Data is decoded only when it is asked for."""

    kind: str
    name: str
    args: str
    position: int  # of its latest entry, from 1
    key: str
    phase: str  # of its latest entry, as what follows
    at_ms: int
    took_ms: int
    payload: bytes
    codec: Codec
    settled: bool  # the latest entry is its outcome: DONE, FAILED or CANCELLED
    attempts: int = 0  # attempts that failed and were followed by another
    retry_at_ms: int = 0
    called: bool = False  # this incarnation's body has called it

    @property
    def outcome(self) -> Entry | None:
        """DONE, FAILED or CANCELLED, if it has ended.

        Raises:
            SerializationError: its data cannot be read by this codec.
        """
        return self._entry() if self.settled else None

    @property
    def begun(self) -> Entry | None:
        """BEGUN, if nothing came after it."""
        return None if self.settled or self.phase == Phase.ATTEMPT else self._entry()

    def _entry(self) -> Entry:
        data = self.codec.loads(self.payload)
        return Entry(self.kind, self.phase, self.key, self.name, self.at_ms, self.args, data, self.took_ms)


@define(eq=False, repr=False)
class Journal:
    """The recorded past of one run, and how much of it the present body has asked for again."""

    past: dict[str, Past] = field(factory=dict)
    length: int = 0  # entries read
    uncalled: int = 0  # recorded operations that this incarnation has not called yet
    due: deque[int] = field(factory=deque)  # positions of outcomes, in the order in which they must be delivered (I4)
    body_attempts: int = 0
    body_retry_at_ms: int = 0
    reopenings: int = 0
    reopened: set[str] = field(factory=set)  # operations that a retry of the run has made to run again
    items: set[str] = field(factory=set)  # keys of what was emitted
    ends: dict[str, RunEnd] = field(factory=dict)  # how runs that were waited for have ended, by their ids
    ends_waiting: bool = False  # its last entry says that the run went to wait
    rollback: Entry | None = None  # of the whole run, once it has begun (rule G3)

    @classmethod
    def read(cls, codec: Codec, entries: Sequence[bytes]) -> Journal:
        """Build it from the stored entries, oldest first.

        Raises:
            SerializationError: one of them is none, or says something that cannot be read.
        """
        journal = cls()
        journal._add_all(codec, entries)
        journal._start()
        return journal

    def rewind(self) -> None:
        """Forget what has been called: the body is about to run from its start."""
        for past in self.past.values():
            past.called = False
        self._start()

    def _start(self) -> None:
        self.uncalled = len(self.past)
        self.due = deque(sorted([past.position for past in self.past.values() if past.settled]))

    def _add_all(self, codec: Codec, entries: Sequence[bytes]) -> None:
        """Add entries; those of completed operations, nearly all of a long journal, without detours."""
        found = self.past
        position, phase = 0, ""
        for line, payload in split_all(entries):
            position += 1  # measured: enumerate makes a tuple of each pair
            _, kind, phase, key, name, at_ms, args, took_ms = line
            if phase == _DONE and kind not in _ASIDE and key not in found:
                found[key] = Past(kind, name, args, position, key, phase, at_ms, took_ms, payload, codec, True)  # noqa: FBT003  # settled
            else:
                self._add(codec, line, payload, position)
        self.length = position
        self.ends_waiting = phase == Phase.WAITING

    def _add(self, codec: Codec, line: Line, payload: bytes, position: int) -> None:
        _, kind, phase, key, name, at_ms, args, took_ms = line
        if key == RUN_KEY:
            self._add_of_run(Entry(kind, phase, key, name, at_ms, args, codec.loads(payload), took_ms))
            return
        if kind == _ITEM:
            self.items.add(key)
            return
        if kind == _END:
            self.ends[key] = RunEnd(phase, key, name, at_ms, payload)
            return
        before = self.past.get(key)
        past = Past(kind, name, args, position, key, phase, at_ms, took_ms, payload, codec, phase in _SETTLED)
        if before is not None:
            past.kind, past.name, past.args = before.kind, before.name, before.args
            past.attempts, past.retry_at_ms = before.attempts, before.retry_at_ms
        if phase == Phase.ATTEMPT:
            past.attempts, past.retry_at_ms = attempt_of(codec.loads(payload))
        elif phase != _DONE:
            codec.loads(payload)  # what is decided by it later is known to be readable
        self.past[key] = past

    def _add_of_run(self, entry: Entry) -> None:
        match entry.phase:
            case Phase.ATTEMPT:
                self.body_attempts, self.body_retry_at_ms = attempt_of(entry.data)
            case Phase.REOPENED:
                self.reopenings += 1
                self.reopened.update(reopened_keys(entry))
                self.body_attempts = self.body_retry_at_ms = 0
                for key in self.reopened:
                    past = self.past.get(key)
                    if past is not None and (past.phase == Phase.FAILED or past.kind == Kind.WAIT):
                        del self.past[key]
                    self.ends.pop(key.removeprefix(END_OF), None)
            case Phase.ROLLBACK:
                self.rollback = entry
            case _:  # how a former failure ended; a reopening follows
                pass

    def recall(self, kind: str, key: str, name: str) -> Past | None:
        """What is recorded under a key that the body has just called.

        Raises:
            NonDeterminismError: if the record is of another kind or name (rule I3).
        """
        past = self.past.get(key)
        if past is None:
            return None
        if past.name != name or past.kind != kind:
            raise NonDeterminismError(
                f"operation {key} was recorded as {past.kind} {past.name!r}, but the task now calls {kind} {name!r} "
                "there. Likely cause: the task's code changed while this run was under way, or it decides by something "
                "that differs between runs (time, random numbers, the order of a set). Restore the old order, or guard "
                "the change with flowkit.patched(...), then resume with flow.retry(run_id)."
            )
        if not past.called:
            past.called = True
            self.uncalled -= 1
        return past

    def check_all_called(self) -> None:
        """Hold a body that has returned against the record.

        Raises:
            NonDeterminismError: if recorded operations were not called (rule I3).
        """
        if self.uncalled:
            raise NonDeterminismError(
                f"the task ended without calling {self._left()}. Likely cause: the task's code changed while this run "
                "was under way. Restore the calls, then resume with flow.retry(run_id)."
            )

    def failed_early(self, why: str) -> NonDeterminismError:
        """What blocks a run whose code failed, for good, before it came to what is recorded (rule I3)."""
        return NonDeterminismError(
            f"the task's own code failed ({why}) before it had called {self._left()}, so these can neither be "
            "gone on from nor undone. Likely cause: the code or its surroundings changed while this run was under way. "
            "Mend that, then resume with flow.retry(run_id)."
        )

    def _left(self) -> str:
        left = [f"{past.kind} {past.name!r} (operation {key})" for key, past in self.past.items() if not past.called]
        more = ", ..." if len(left) > _SHOWN else ""
        return f"{len(left)} recorded operation(s): {', '.join(left[:_SHOWN])}{more}"


def attempt_entry(
    kind: str, key: str, name: str, at_ms: int, attempt: int, retry_at_ms: int, error: Json, args: str = ""
) -> Entry:
    """An attempt failed; the next one is due at a time (rule R2)."""
    data: Json = {"attempt": attempt, "retry_at": retry_at_ms, "error": error}
    return Entry(kind, Phase.ATTEMPT, key, name, at_ms, args, data)


def attempt_of(data: Json) -> tuple[int, int]:
    """How many attempts have failed, and when the next is due, from the data of an ATTEMPT."""
    assert isinstance(data, dict)  # written by attempt_entry
    attempt, retry_at_ms = data["attempt"], data["retry_at"]
    assert isinstance(attempt, int)
    assert isinstance(retry_at_ms, int)
    return attempt, retry_at_ms


def reopened_entry(at_ms: int, keys: Sequence[str]) -> Entry:
    """The run goes on after a failure; the operations named are forgotten, so that they run again."""
    return Entry(Kind.RUN, Phase.REOPENED, RUN_KEY, "run", at_ms, "", {"keys": list(keys)})


def reopened_keys(entry: Entry) -> list[str]:
    """Which operations a reopening forgets."""
    data = entry.data
    assert isinstance(data, dict)
    keys = data["keys"]
    assert isinstance(keys, list)
    return [str(key) for key in keys]
