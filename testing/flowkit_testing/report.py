"""`RunReport`: how a run went, as a test asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, cast

from flowkit.documents import decode_result, describe_error
from flowkit.effects import Raised
from flowkit.entries import RUN_KEY, Entry, Kind, Phase, decode
from flowkit.records import RunStatus, Snapshot
from flowkit.registry import tasks
from flowkit.rollback import undo_key
from flowkit_testing.lab import Lab
from flowkit_testing.trace import Call, What
from flowkit_testing.which import StepRef, which

R = TypeVar("R")


class RunReport(Generic[R]):
    """A run of a test, as it stands when it is asked; asking never raises for a failed run."""

    def __init__(self, lab: Lab, run_id: str) -> None:
        self._lab = lab
        self.run_id = run_id

    def __repr__(self) -> str:
        why = "" if self.error is None else f": {self.error!r}"
        return f"<RunReport {self.run_id} {self.status}{why}>"

    # ---- how it ended -----------------------------------------------------------------------------------------

    @property
    def status(self) -> RunStatus:
        """Where it stands."""
        return self._snapshot().header.status

    @property
    def ok(self) -> bool:
        """True if it succeeded."""
        return self.status is RunStatus.SUCCEEDED

    @property
    def output(self) -> R | None:
        """What it returned; None if it did not."""
        snapshot = self._snapshot()
        if snapshot.result is None or snapshot.header.status is not RunStatus.SUCCEEDED:
            return None
        spec = tasks.find(snapshot.header.task)
        outcome = decode_result(self._lab.codec, snapshot.result, object if spec is None else spec.hint)
        return None if isinstance(outcome, Raised) else cast("R", outcome.value)

    @property
    def error(self) -> BaseException | None:
        """What it raised, or why it is blocked; None if neither."""
        snapshot = self._snapshot()
        if snapshot.result is None or snapshot.header.status is RunStatus.SUCCEEDED:
            return None
        return describe_error(self._lab.codec, snapshot.result)

    @property
    def journal(self) -> tuple[Entry, ...]:
        """What is recorded of it, oldest first."""
        return tuple(decode(self._lab.codec, raw) for raw in self._snapshot().entries)

    @property
    def compensated(self) -> list[str]:
        """The steps that were undone, in the order of their undoing."""
        names = {entry.key: entry.name for entry in self.journal}
        return [
            names.get(entry.key.removesuffix(undo_key("")), entry.name)
            for entry in self.journal
            if entry.kind == Kind.UNDO and entry.phase == Phase.DONE
        ]

    # ---- what ran ---------------------------------------------------------------------------------------------

    def calls(self, step: StepRef) -> int:
        """Attempts of a step that were begun, injected ones included; of a child task, how often its body was begun."""
        return self._lab.trace.count(What.BEGUN, self._in_this_run(step)) + self._lab.trace.count(
            What.BODY, self._in_this_run(step)
        )

    def skips(self, step: StepRef) -> int:
        """How often the journal answered a call of a step instead of its body.

        Replays that only `--flowkit-always-replay` has caused do not count.
        """
        return self._lab.trace.count(What.RECALLED, self._in_this_run(step))

    def assert_calls(self, *counts: tuple[StepRef, int], **named: int) -> None:
        """Check how often steps ran.

        Example: `run.assert_calls(charge=3, ship=1)`, or `run.assert_calls((charge, 3), ("ship#2", 1))`.
        """
        wanted = (*counts, *named.items())
        wrong = [
            f"{which(step)}: {self.calls(step)} attempt(s), not {count}"
            for step, count in wanted
            if self.calls(step) != count
        ]
        assert not wrong, self._explain("; ".join(wrong))

    def assert_skipped(self, *steps: StepRef) -> None:
        """Check that each of these steps ran once and was answered by the journal after that."""
        wrong = [
            f"{which(step)} ran {self.calls(step)} time(s) and was answered by the journal {self.skips(step)} time(s)"
            for step in steps
            if self.calls(step) != 1 or not self.skips(step)
        ]
        assert not wrong, self._explain("; ".join(wrong))

    def assert_compensated(self, steps: Sequence[StepRef]) -> None:
        """Check which steps were undone, in the order of their undoing."""
        names = [which(step).name for step in steps]
        assert self.compensated == names, self._explain(f"undone were {self.compensated}, not {names}")

    # ---- for people -------------------------------------------------------------------------------------------

    def describe(self) -> str:
        """The journal, what ran and what was answered by it."""
        lines = [f"run {self.run_id} is {self.status}"]
        if self.error is not None:
            lines.append(f"  error: {self.error!r}")
        lines.append("  journal:")
        lines += [
            f"    {number:3} {entry.kind} {entry.phase:9} {entry.name if entry.key != RUN_KEY else ''} ({entry.key})"
            for number, entry in enumerate(self.journal, 1)
            if entry.kind != Kind.RUN or entry.key == RUN_KEY
        ]
        lines.append("  what happened:")
        lines += [
            f"    {seen.call} {seen.what}{f' ({seen.note})' if seen.note else ''}"
            for seen in self._lab.trace.seen
            if self._mine(seen.call)
        ]
        return "\n".join(lines)

    def _explain(self, wrong: str) -> str:
        return f"{wrong}\n{self.describe()}"

    def _in_this_run(self, step: StepRef) -> Callable[[Call], bool]:
        meant = which(step)
        return lambda call: self._mine(call) and meant(call)

    def _mine(self, call: Call) -> bool:
        """True for the calls of this run and of its children."""
        return call.run_id == self.run_id or call.run_id.startswith(f"{self.run_id}/")

    def _snapshot(self) -> Snapshot:
        snapshot = self._lab.storage.load(self.run_id)
        assert snapshot is not None, f"there is no run {self.run_id!r} in the storage"
        return snapshot
