"""What happened in a test: which steps began, which the journal answered, what was injected."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from enum import StrEnum

from attrs import field, frozen

from flowkit.effects import Effect, Invoke, RunBody
from flowkit.functions import function_name
from flowkit.journal import Past
from flowkit.rollback import undo_key
from flowkit.run import Run

_UNDO_MARK = undo_key("")


@frozen
class Call:
    """One call of a step or child task in one run; a retry or a replay is the same call."""

    run_id: str
    key: str
    name: str
    number: int  # which call of that name in its run, from 1
    fn: Callable[..., object] | None = field(default=None, eq=False)  # None: answered by the journal only
    undoes: str | None = None  # the step whose undo this is

    def __str__(self) -> str:
        return self.name if self.number == 1 else f"{self.name}#{self.number}"


class What(StrEnum):
    """What was seen."""

    BEGUN = "began"  # an attempt of a step
    BODY = "body began"
    RECALLED = "answered by the journal"
    REPLAYED = "answered by the journal, in a replay that the test forced"
    RECORDED = "recorded"
    INJECTED = "injected"


@frozen
class Seen:
    """One thing that happened."""

    what: What
    call: Call
    note: str = ""


class Trace:
    """The order in which things happened; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[tuple[str, str], Call] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self.seen: list[Seen] = []
        self.forced: set[str] = set()  # runs whose present incarnation exists only because a test wants replays

    def add(self, what: What, call: Call, note: str = "") -> None:
        """Write down what happened."""
        self.seen.append(Seen(what, call, note))

    def call_of(self, run: Run, effect: Effect) -> Call:
        """The call that an effect belongs to."""
        fn = effect.fn if isinstance(effect, Invoke | RunBody) else None
        return self._call(run.id, effect.key, effect.name, fn)

    def recalled(self, run: Run, past: Past) -> Call:
        """The call that the journal answers."""
        entry = past.outcome
        assert entry is not None  # the journal answers by an outcome
        return self._call(run.id, entry.key, past.name, None)

    def _call(self, run_id: str, key: str, name: str, fn: Callable[..., object] | None) -> Call:
        """A call by its key; numbered when it is first seen. An undo goes by the name of its own function."""
        with self._lock:
            call = self._calls.get((run_id, key))
            if call is not None and (call.fn is not None or fn is None):
                return call
            undoes = name if key.endswith(_UNDO_MARK) else None
            if undoes is not None:
                name = f"undo of {undoes}" if fn is None else function_name(fn)
            number = call.number if call is not None else self._numbers.get((run_id, name), 0) + 1
            self._numbers[run_id, name] = max(number, self._numbers.get((run_id, name), 0))
            call = self._calls[run_id, key] = Call(run_id, key, name, number, fn, undoes)
            return call

    def count(self, what: What, matches: Callable[[Call], bool]) -> int:
        """How often something happened."""
        return sum(1 for seen in self.seen if seen.what is what and matches(seen.call))

    def names(self, what: Iterable[What] = (What.BEGUN, What.RECALLED)) -> list[str]:
        """The steps that ran or were answered, each once, in the order of first sight."""
        wanted = frozenset(what)
        return list(dict.fromkeys(str(seen.call) for seen in self.seen if seen.what in wanted))
