"""How runs have ended otherwise than they should have, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from flowkit.entries import Phase
from flowkit.errors import StepInterrupted
from flowkit_testing.checks import Check
from flowkit_testing.states import Settled

_INTERRUPTED = f"{StepInterrupted.__module__}:{StepInterrupted.__qualname__}"
_BEFORE_THE_DIFFERENCE = 40
_SHOWN = 200
_LETTING_GO = frozenset({Phase.BEGUN, Phase.WAITING})
_Recorded = Sequence[tuple[str, ...]]  # kind, phase, key, name, digest of the arguments, data


def differences(ended: Mapping[str, Settled], wanted: Mapping[str, Settled]) -> Iterator[str]:
    """How runs have ended otherwise than they should have; what has come first is told first."""
    declared = False
    for run_id, found in ended.items():
        without = wanted.get(run_id)
        if without is None:
            yield Check.OTHERS.broken(f"run {run_id!r} exists only because of the fault")
        elif interrupted(found) and not interrupted(without):  # D3: a declared failure, whatever the body makes of it
            declared = True
        else:
            yield from _compare(run_id, found, without)
    if not declared:
        for run_id in wanted.keys() - ended.keys():
            yield Check.NOT_LOST.broken(f"run {run_id!r} is lost (X1)")


def interrupted(found: Settled) -> bool:
    """True if the run was told of a step that may run at most once, and was under way when its process died."""
    _, result, operations = found
    if result is not None and _INTERRUPTED.encode() in result:
        return True
    return any(_INTERRUPTED in data for entries in operations.values() for *_, data in entries)


def _compare(run_id: str, found: Settled, wanted: Settled) -> Iterator[str]:
    if found[0] != wanted[0]:
        yield Check.SAME_OUTCOME.broken(f"run {run_id!r} is {found[0]}, without the fault {wanted[0]}")
    mine, theirs = _without_pauses(found[2]), _without_pauses(wanted[2])
    for key in dict.fromkeys((*theirs, *mine)):
        if mine.get(key) != theirs.get(key):
            yield Check.SAME_OUTCOME.broken(_operation(run_id, key, mine.get(key, ()), theirs.get(key, ())))
    if found[1] != wanted[1]:
        yield Check.SAME_OUTCOME.broken(
            f"run {run_id!r} has another result than without the fault\n"
            + difference(plainly(found[1]), plainly(wanted[1]))
        )


def _operation(run_id: str, key: str, mine: _Recorded, theirs: _Recorded) -> str:
    told = difference(_told(mine), _told(theirs))
    if not key:
        return f"run {run_id!r} itself is recorded otherwise\n{told}"
    if len(mine) == len(theirs) == 1:
        (kind, phase, _, name, args, data), (*same, wanted_args, wanted_data) = mine[0], theirs[0]
        if [kind, phase, key, name] == same and phase == Phase.DONE:
            values = difference(data, wanted_data)
            call = f"{kind} {name!r} ({key}) of run {run_id!r}"
            if args != wanted_args:
                return f"{call} was called with other arguments; its result is\n{values}"
            return f"{call}, called with the same arguments, returned\n{values}"
    return f"operation {key} of run {run_id!r} is recorded otherwise\n{told}"


def _told(recorded: _Recorded) -> str:
    """What is recorded of an operation, on one line."""
    return "; ".join(f"{kind} {name!r} {phase}: {data}" for kind, phase, _, name, _, data in recorded) or "nothing"


def plainly(result: bytes | None) -> str:
    """A stored outcome as a person reads it, if it can be read without the codec."""
    if result is None:
        return "none"
    try:
        document = json.loads(result)
    except ValueError:
        return repr(result)
    match document:
        case {"value": value}:
            return repr(value)
        case {"error": {"error": str(kind), "args": list(args)}}:
            return f"{kind.rpartition(':')[2]}({', '.join(map(repr, args))})"
        case _:
            return json.dumps(document)


def _without_pauses(recorded: dict[str, list[tuple[str, ...]]]) -> dict[str, list[tuple[str, ...]]]:
    """What is recorded, but for the marks of a run that let go of itself."""
    of_run = [entry for entry in recorded.get("", []) if entry[1] not in _LETTING_GO]
    rest = {key: entries for key, entries in recorded.items() if key}
    return {**rest, "": of_run} if of_run else rest


def difference(found: object, wanted: object) -> str:
    """Two values from where they begin to differ; text stands as it is."""
    mine, theirs = (value if isinstance(value, str) else repr(value) for value in (found, wanted))
    same = next((at for at, (one, other) in enumerate(zip(mine, theirs, strict=False)) if one != other), 0)
    start = max(0, same - _BEFORE_THE_DIFFERENCE)
    return f"        now:     {_part(mine, start)}\n        without: {_part(theirs, start)}"


def _part(text: str, start: int) -> str:
    shown = text[start : start + _SHOWN]
    return f"{'...' if start else ''}{shown}{'...' if len(text) > start + _SHOWN else ''}"
