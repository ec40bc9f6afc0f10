"""What has happened in a run, by the key of each operation: recall what is recorded, notice what differs.

Pure: it is built once from the stored entries and asked by operations; it reads and writes nothing itself. Only this
module and `entries` deal with the stored form. Replay against a record is the idea of event-sourced workflow engines
(Azure Durable Functions, Temporal); keys by call order follow rule I1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from attrs import define, field

from flowkit.codec import Codec, Json
from flowkit.entries import RUN_KEY, Entry, Kind, Phase, decode
from flowkit.errors import NonDeterminismError

_SHOWN = 5  # recorded operations that an error names


@define
class Past:
    """All that is recorded about one operation."""

    kind: str
    name: str
    args: str
    position: int  # of its latest entry, from 1
    outcome: Entry | None = None  # DONE, FAILED or CANCELLED
    attempts: int = 0  # attempts that failed and were followed by another
    retry_at_ms: int = 0
    begun: Entry | None = None  # BEGUN with nothing after it
    called: bool = False  # this incarnation's body has called it


@define
class Journal:
    """The recorded past of one run, and how much of it the present body has asked for again."""

    past: dict[str, Past] = field(factory=dict)
    length: int = 0  # entries read
    uncalled: int = 0  # recorded operations that this incarnation has not called yet
    due: deque[int] = field(factory=deque)  # positions of outcomes, in the order in which they must be delivered (I4)
    body_attempts: int = 0
    body_retry_at_ms: int = 0
    reopened: set[str] = field(factory=set)  # operations that a retry of the run has made to run again
    items: set[str] = field(factory=set)  # keys of what was emitted
    ends_waiting: bool = False  # its last entry says that the run went to wait
    rollback: Entry | None = None  # of the whole run, once it has begun (rule G3)

    @classmethod
    def read(cls, codec: Codec, entries: Iterable[bytes]) -> Journal:
        """Build it from the stored entries, oldest first."""
        journal = cls()
        for raw in entries:
            journal._add(decode(codec, raw))
        journal.rewind()
        return journal

    def rewind(self) -> None:
        """Forget what has been called: the body is about to run from its start."""
        self.uncalled = len(self.past)
        for past in self.past.values():
            past.called = False
        self.due = deque(sorted(past.position for past in self.past.values() if past.outcome is not None))

    def _add(self, entry: Entry) -> None:
        self.length += 1
        self.ends_waiting = entry.phase == Phase.WAITING
        if entry.key == RUN_KEY:
            self._add_of_run(entry)
            return
        if entry.kind == Kind.ITEM:
            self.items.add(entry.key)
            return
        past = self.past.get(entry.key)
        if past is None:
            past = self.past[entry.key] = Past(entry.kind, entry.name, entry.args, self.length)
        past.position = self.length
        match entry.phase:
            case Phase.DONE | Phase.FAILED | Phase.CANCELLED:
                past.outcome = entry
                past.begun = None
            case Phase.ATTEMPT:
                past.attempts, past.retry_at_ms = attempt_of(entry)
                past.begun = None
            case _:
                past.begun = entry

    def _add_of_run(self, entry: Entry) -> None:
        match entry.phase:
            case Phase.ATTEMPT:
                self.body_attempts, self.body_retry_at_ms = attempt_of(entry)
            case Phase.REOPENED:
                self.reopened.update(reopened_keys(entry))
                self.body_attempts = self.body_retry_at_ms = 0
                for key in self.reopened:
                    past = self.past.get(key)
                    if past is not None and past.outcome is not None and past.outcome.phase == Phase.FAILED:
                        del self.past[key]
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
        if not self.uncalled:
            return
        left = [f"{past.kind} {past.name!r} (operation {key})" for key, past in self.past.items() if not past.called]
        raise NonDeterminismError(
            f"the task ended without calling {len(left)} recorded operation(s): {', '.join(left[:_SHOWN])}"
            f"{', ...' if len(left) > _SHOWN else ''}. Likely cause: the task's code changed while this run was under "
            "way. Restore the calls, then resume with flow.retry(run_id)."
        )


def attempt_entry(
    kind: str, key: str, name: str, at_ms: int, attempt: int, retry_at_ms: int, error: Json, args: str = ""
) -> Entry:
    """An attempt failed; the next one is due at a time (rule R2)."""
    data: Json = {"attempt": attempt, "retry_at": retry_at_ms, "error": error}
    return Entry(kind, Phase.ATTEMPT, key, name, at_ms, args, data)


def attempt_of(entry: Entry) -> tuple[int, int]:
    """How many attempts have failed, and when the next is due."""
    data = entry.data
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
