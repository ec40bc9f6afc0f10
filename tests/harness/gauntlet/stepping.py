"""Engines that run, record or try steps wrongly, one fault each; the first two do so without any fault."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import pytest

import flowkit.body
import flowkit.calls
import flowkit.operations
from flowkit.codec import Codec
from flowkit.effects import Operation, Record
from flowkit.entries import Phase
from flowkit.journal import Journal
from flowkit.retry import Retry


def records_another_result(patch: pytest.MonkeyPatch) -> None:
    """A step is recorded with another result than it had (D1)."""
    complete = flowkit.operations._completed

    def miswritten(run: Any, call: Any, value: Any, *times: int) -> tuple[bytes, object]:  # noqa: ANN401  # as called
        return complete(run, call, value + 1 if call.key == "2" else value, *times)

    patch.setattr(flowkit.operations, "_completed", miswritten)


def skips_a_step(patch: pytest.MonkeyPatch) -> None:
    """A step is recorded as done without its body having run (D1)."""
    operation = flowkit.operations.step_operation

    def skipping(run: Any, scope: Any, call: Any) -> Operation[object]:  # noqa: ANN401  # as called
        if call.key != "2":
            return (yield from operation(run, scope, call))
        raw, value = flowkit.operations._completed(run, call, call.args[0], run.clock.now_ms(), 0)
        scope.position = yield Record(call.spec.kind, Phase.DONE, call.spec.name, call.key, (raw,))
        return value

    patch.setattr(flowkit.calls, "step_operation", skipping)


def runs_steps_again(patch: pytest.MonkeyPatch) -> None:
    """A completed step is forgotten (D2)."""
    read = Journal.read

    def forgetful(codec: Codec, entries: Sequence[bytes]) -> Journal:
        journal = read(codec, entries)
        if journal.past.pop("2", None) is not None:
            journal.uncalled -= 1
        return journal

    patch.setattr(Journal, "read", forgetful)


def answers_with_another_result(patch: pytest.MonkeyPatch) -> None:
    """A completed step is answered with the result of another one (D2)."""
    read = Journal.read

    def mixed_up(codec: Codec, entries: Sequence[bytes]) -> Journal:
        journal = read(codec, entries)
        if "1" in journal.past and "2" in journal.past:
            journal.past["2"].payload = journal.past["1"].payload
        return journal

    patch.setattr(Journal, "read", mixed_up)


def resets_attempts(patch: pytest.MonkeyPatch) -> None:
    """Attempts made before a crash are not counted (R2)."""
    patch.setattr(flowkit.operations, "_take_up", _takes_up_nothing)


def _takes_up_nothing(*_args: object) -> Generator[None, None, int]:
    yield from ()
    return 0


def runs_at_most_once_twice(patch: pytest.MonkeyPatch) -> None:
    """A step that must not run twice does, after a crash in it (D3)."""
    patch.setattr(flowkit.operations, "_take_up", _takes_up_nothing)


def records_nothing_of_failures(patch: pytest.MonkeyPatch) -> None:
    """A failed attempt is not recorded (R2)."""

    def forget(*_args: object) -> Generator[None]:
        yield from ()

    patch.setattr(flowkit.operations, "_try_later", forget)


def forgets_back_offs(patch: pytest.MonkeyPatch) -> None:
    """A step that waited to be tried again is tried at once after a crash (R2)."""
    take_up = flowkit.operations._take_up

    def at_once(run: Any, scope: Any, call: Any, past: Any) -> Operation[int]:  # noqa: ANN401  # as called
        past.retry_at_ms = 0
        return (yield from take_up(run, scope, call, past))

    patch.setattr(flowkit.operations, "_take_up", at_once)


def starts_over_after_final_failures(patch: pytest.MonkeyPatch) -> None:
    """A step whose attempts are used up makes its task start over, as if the task's own code had failed (R3)."""
    fail = flowkit.body._failed

    def again(run: Any, call: Any, error: Exception) -> Any:  # noqa: ANN401  # as called
        run.failed_delivered = False
        run.policy = Retry(attempts=3)
        return (yield from fail(run, call, error))

    patch.setattr(flowkit.body, "_failed", again)
