"""Which of several alternatives it was, recorded: a replay takes the same one without looking again."""

from __future__ import annotations

from typing import cast

from flowkit.calls import perform_call, perform_call_async, recall, take_key
from flowkit.codec import Json
from flowkit.effects import Operation, Record
from flowkit.entries import Entry, Kind, Phase, encode
from flowkit.journal import Past
from flowkit.lines import Scope
from flowkit.operations import instead
from flowkit.run import Frame, Run


class Choice:
    """A choice that is to be made in a task, or was made before a replay. Outside of a run nothing is recorded.

    Args:
        frame: where it is made; None outside of a run.
        name: of the choice, for the record.
    """

    def __init__(self, frame: Frame | None, name: str) -> None:
        self._name = name
        self._frame = frame
        self.key = ""
        self._past: Past | None = None
        self.recorded: int | None = None  # what was chosen
        if frame is not None:
            self.key = take_key(frame, None)
            self._past = recall(frame.run, Kind.CHOICE, self.key, name)
            self.recorded = _chosen(frame.run, self._past)

    def make(self, index: int) -> None:
        """Record it, or see that it was recorded (rule D1)."""
        frame = self._frame
        if frame is not None:
            perform_call(frame.run, frame.scope, self._past, int, lambda: self._operation(frame, index))

    async def make_async(self, index: int) -> None:
        """As `make`, awaited; on replay it is delivered in its turn (rule I4)."""
        frame = self._frame
        if frame is None:
            return
        assert frame.run.body is not None  # the calling task is the body's
        frame.run.body.created += 1
        await perform_call_async(frame.run, frame.scope, self._past, int, lambda: self._operation(frame, index))

    def _operation(self, frame: Frame, index: int) -> Operation[object]:
        run, scope = frame.run, frame.scope
        other = instead(run, scope, scope.saga, Kind.CHOICE, self.key, self._name)
        return _record(run, scope, self.key, self._name, index) if other is None else other


def _record(run: Run, scope: Scope, key: str, name: str, index: int) -> Operation[object]:
    entry = Entry(Kind.CHOICE, Phase.DONE, key, name, run.clock.now_ms(), "", cast("Json", index))
    scope.position = yield Record(entry.kind, entry.phase, name, key, (encode(run.codec, entry),))
    scope.now_ms = entry.at_ms
    return index


def _chosen(run: Run, past: Past | None) -> int | None:
    """What the record says, before it is delivered; None if nothing was chosen."""
    if past is None or past.outcome is None or past.outcome.phase != Phase.DONE:
        return None
    index = run.codec.from_json(past.outcome.data, int)
    assert isinstance(index, int)  # as _record writes it
    return index
