"""Hold a trial against the run without faults: what must be the same, what may differ, and how to say so."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence

from attrs import frozen

from flowkit.codec import Codec
from flowkit.entries import Phase
from flowkit.records import RunStatus
from flowkit.storage import Storage
from flowkit_testing.checks import Check
from flowkit_testing.fake_clock import STARTS_AT_MS
from flowkit_testing.invariants import broken_rules
from flowkit_testing.orders import LONG_S
from flowkit_testing.points import Schedule
from flowkit_testing.states import Settled, settled
from flowkit_testing.subject import RUN_ID

_INTERRUPTED = b"StepInterrupted"
_BEFORE_THE_DIFFERENCE = 40
_SHOWN = 200
_LETTING_GO = frozenset({Phase.BEGUN, Phase.WAITING})
_MOST_PER_FAULT_MS = 150_000  # five leases


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
    ended: dict[str, Settled]
    world: Hashable = None

    @classmethod
    def of(cls, after: Aftermath, codec: Codec) -> Standard:
        """Of what a run without faults has left."""
        return cls(after.now_ms - STARTS_AT_MS, settled(after.storage, codec), after.world)


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
    """A fault costs a lease or two, not more: no timer and no back-off starts over (rules E4, R2)."""
    late_ms = after.now_ms - STARTS_AT_MS - standard.took_ms
    ranks = sum(injury.point.nth for injury in schedule if injury.fault == "late")
    held_back_ms = ranks * LONG_S * 1000 * len(schedule)  # whoever comes late does so after each crash again
    if schedule and late_ms > len(schedule) * _MOST_PER_FAULT_MS + held_back_ms:
        yield Check.ENDS.broken(
            f"everything took {late_ms / 1000:,.0f} s longer than without the fault: does a timer start over? (E4, R2)"
        )


def _unfinished(ended: dict[str, Settled]) -> Iterator[str]:
    for run_id, (status, _, _) in ended.items():
        if not RunStatus(status).finished:
            why = "it is blocked" if status == RunStatus.BLOCKED else "nothing would take it up"
            yield Check.NOT_LOST.broken(f"run {run_id!r} is {status} and {why} (X1)")


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
    if any(_interrupted(result) for _, result, _ in ended.values()):
        return
    if after.world != standard.world:
        yield Check.WORLD.broken(
            "the world is not what it is without the fault\n" + _difference(after.world, standard.world)
        )


def differences(ended: Mapping[str, Settled], wanted: Mapping[str, Settled]) -> Iterator[str]:
    """How runs have ended otherwise than they should have."""
    declared = False
    for run_id, found in ended.items():
        without = wanted.get(run_id)
        if without is None:
            yield Check.OTHERS.broken(f"run {run_id!r} exists only because of the fault")
        elif _interrupted(found[1]):  # D3: a declared failure
            declared = True
        else:
            yield from _compare(run_id, found, without)
    if not declared:
        for run_id in wanted.keys() - ended.keys():
            yield Check.NOT_LOST.broken(f"run {run_id!r} is lost (X1)")


def _interrupted(result: bytes | None) -> bool:
    return result is not None and _INTERRUPTED in result


def _compare(run_id: str, found: Settled, wanted: Settled) -> Iterator[str]:
    if found[0] != wanted[0]:
        yield Check.SAME_OUTCOME.broken(f"run {run_id!r} is {found[0]}, without the fault {wanted[0]}")
    if found[1] != wanted[1]:
        yield Check.SAME_OUTCOME.broken(
            f"run {run_id!r} has another result than without the fault\n{_difference(found[1], wanted[1])}"
        )
    mine, theirs = _without_pauses(found[2]), _without_pauses(wanted[2])
    for key in dict.fromkeys((*theirs, *mine)):
        if mine.get(key) != theirs.get(key):
            operation = f"operation {key} of run {run_id!r}" if key else f"run {run_id!r} itself"
            yield Check.SAME_OUTCOME.broken(
                f"{operation} is recorded otherwise\n{_difference(mine.get(key), theirs.get(key))}"
            )


def _without_pauses(recorded: dict[str, list[tuple[str, ...]]]) -> dict[str, list[tuple[str, ...]]]:
    """What is recorded, but for the marks of a run that let go of itself."""
    of_run = [entry for entry in recorded.get("", []) if entry[1] not in _LETTING_GO]
    rest = {key: entries for key, entries in recorded.items() if key}
    return {**rest, "": of_run} if of_run else rest


def _difference(found: object, wanted: object) -> str:
    """Two values from where they begin to differ."""
    mine, theirs = repr(found), repr(wanted)
    same = next((at for at, (one, other) in enumerate(zip(mine, theirs, strict=False)) if one != other), 0)
    start = max(0, same - _BEFORE_THE_DIFFERENCE)
    return f"        now:     {_part(mine, start)}\n        without: {_part(theirs, start)}"


def _part(text: str, start: int) -> str:
    shown = text[start : start + _SHOWN]
    return f"{'...' if start else ''}{shown}{'...' if len(text) > start + _SHOWN else ''}"
