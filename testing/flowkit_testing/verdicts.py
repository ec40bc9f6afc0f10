"""Hold a trial against the run without faults: what must be the same, what may differ, and how to say so."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Sequence

from attrs import frozen

from flowkit.codec import Codec
from flowkit.entries import Phase
from flowkit.records import RunStatus
from flowkit.storage import Storage
from flowkit_testing.checks import Check
from flowkit_testing.differences import difference, differences, interrupted
from flowkit_testing.fake_clock import STARTS_AT_MS
from flowkit_testing.invariants import broken_rules
from flowkit_testing.orders import LONG_S
from flowkit_testing.points import Schedule
from flowkit_testing.states import Settled, settled, time_in_steps_ms
from flowkit_testing.subject import RUN_ID, shown

_MOST_PER_FAULT_MS = 150_000  # five leases
_NOBODY = "nothing would take it up"
_WHY = {
    RunStatus.BLOCKED: "cannot go on until somebody mends what has blocked it",
    RunStatus.WAITING: "what it waits for never comes",
}


@frozen
class Aftermath:
    """What is left when everything has come to its end, by which a trial is judged."""

    storage: Storage
    now_ms: int
    wrong: Sequence[str] = ()  # what was seen to be wrong on the way
    undoable: Collection[tuple[str, str]] = ()  # run and key of the steps that have an undo
    calls_after_cancel: int = 0
    world: Hashable = None


@frozen
class Standard:
    """How everything ends without faults (those of a scenario apart), which all else must equal."""

    took_ms: int
    again_ms: int  # what the steps that are under way at a fault take once more
    ended: dict[str, Settled]
    world: Hashable = None

    @classmethod
    def of(cls, after: Aftermath, codec: Codec) -> Standard:
        """Of what a run without faults has left."""
        took_ms = after.now_ms - STARTS_AT_MS
        return cls(took_ms, time_in_steps_ms(after.storage), settled(after.storage, codec), after.world)


def what_is_wrong(
    after: Aftermath, schedule: Schedule, codec: Codec, standard: Standard | None = None
) -> tuple[str, ...]:
    """All that does not hold after a trial, each thing once."""
    ended = settled(after.storage, codec)
    wrong = [*after.wrong, *broken_rules(after.storage, codec, after.undoable), *_unfinished(ended)]
    if standard is not None:
        wrong += _late(after, schedule, standard)
        if any(injury.fault == "cancel" for injury in schedule):
            wrong += _not_cancelled(after, ended, standard)
        else:
            wrong += _differences(after, ended, standard)
    return tuple(dict.fromkeys(wrong))


def _late(after: Aftermath, schedule: Schedule, standard: Standard) -> Iterator[str]:
    """A fault costs a lease or two and the time of the steps under way: no timer, no back-off starts over (E4, R2)."""
    late_ms = after.now_ms - STARTS_AT_MS - standard.took_ms
    ranks = sum(injury.point.nth for injury in schedule if injury.fault == "late")
    held_back_ms = ranks * LONG_S * 1000 * len(schedule)  # whoever comes late does so after each crash again
    if schedule and late_ms > len(schedule) * (_MOST_PER_FAULT_MS + standard.again_ms) + held_back_ms:
        yield Check.ENDS.broken(
            f"everything took {late_ms / 1000:,.0f} s longer than without the fault: does a timer start over? (E4, R2)"
        )


def _unfinished(ended: dict[str, Settled]) -> Iterator[str]:
    for run_id, (status, _, _) in ended.items():
        if not RunStatus(status).finished:
            yield Check.NOT_LOST.broken(f"run {run_id!r} is {status} and {_WHY.get(RunStatus(status), _NOBODY)} (X1)")


def _not_cancelled(after: Aftermath, ended: dict[str, Settled], standard: Standard) -> Iterator[str]:
    """A cancelled run ends as cancelled, or as it would have if the cancellation has come too late (rule E2)."""
    status, _, operations = ended.get(RUN_ID, ("lost", None, {}))
    wanted = standard.ended.get(RUN_ID, ("lost", None, {}))[0]
    told = status == RunStatus.CANCELLED or any(
        entry[1] == Phase.CANCELLED for entries in operations.values() for entry in entries
    )
    if not told and status not in {RunStatus.FAILED, wanted}:
        yield Check.SAME_OUTCOME.broken(f"E2: run {RUN_ID!r} was cancelled and is {status}")
    if not told and wanted == RunStatus.SUCCEEDED and after.calls_after_cancel:
        yield Check.SAME_OUTCOME.broken(
            f"E2: run {RUN_ID!r} was cancelled, and began {after.calls_after_cancel} more steps as if it were not"
        )


def _differences(after: Aftermath, ended: dict[str, Settled], standard: Standard) -> Iterator[str]:
    yield from differences(ended, standard.ended)
    if any(map(interrupted, ended.values())):
        return
    if after.world != standard.world:
        yield Check.WORLD.broken(
            "the world is not what it is without the fault\n" + difference(shown(after.world), shown(standard.world))
        )
