"""The keys of the rows. One letter says the kind; what follows sorts as it must.

`Cache.peek(prefix)` finds the least or greatest key between `prefix-000000000000000` and `prefix-999999999999999`,
so what stands before the dash names a list, and what follows it is digits that sort as numbers. Names that people
choose never stand before a dash: a list is named by the number of a run or of a lane.
"""

from __future__ import annotations

LAST_MS = 10**15 - 1  # times are clamped to 15 digits, some 31,000 years
_MIDDLE = 5 * 10**9  # priorities are clamped to what fits on either side of it
_REACH = 4 * 10**9

BLOCKS = "b"  # what is known of 512 runs at a glance
FINISHED = "f"  # finished runs by the time they finished
GARBAGE = "g"  # purged runs whose rows are still to be removed
FORMAT = "format"


def run(run_id: str) -> str:
    """The row of a run: all that is known of it without its payloads."""
    return f"r|{run_id}"


def log(number: int) -> str:
    """The list of everything that happened to a run."""
    return f"j|{number}"


def entry(number: int, position: int) -> str:
    """One row of that list; positions begin with 1. How many digits there are comes first, so that they sort."""
    digits = str(position)
    return f"j|{number}-{len(digits)}{digits}"


def pack(number: int, position: int) -> str:
    """A copy of the rows that begin with this one, in one row."""
    return f"p|{number}|{position}"


def position(entry_key: str) -> int:
    """The position that such a key says."""
    return int(entry_key[entry_key.index("-") + 2 :])


def ready(lane: int) -> str:
    """The list of runs that a claim may take, first one first."""
    return f"q|{lane}"


def rank(priority: int, since_ms: int, number: int) -> str:
    """A place among ready runs of any lane: highest priority, then longest ready, then oldest."""
    low = _MIDDLE - max(-_REACH, min(_REACH, priority))
    return f"{low:010d}{clamp_ms(since_ms):015d}{number:015d}"


def ready_at(lane: int, priority: int, since_ms: int, number: int) -> str:
    """One row of the ready list."""
    return ready_by(lane, rank(priority, since_ms, number))


def ready_by(lane: int, place: str) -> str:
    """One row of the ready list, by its place."""
    return f"q|{lane}-{place}"


def due(lane: int) -> str:
    """The list of timers and leases of a lane, earliest first."""
    return f"d|{lane}"


def due_at(lane: int, due_ms: int, number: int) -> str:
    """One row of that list."""
    return f"d|{lane}-1{clamp_ms(due_ms):015d}{number:015d}"


def due_time(key: str) -> int:
    """The time that such a key says, in milliseconds."""
    start = key.index("-") + 2
    return int(key[start : start + 15])


def crowd(name: str) -> str:
    """What a crowd adds up to: how many places are taken, and who is among the ready runs of the lane."""
    return f"c|{name}"


def waiting(name: str) -> str:
    """The list of runs of a crowd that could be claimed if they had room, first one first."""
    return f"w|{name}"


def waiting_at(name: str, place: str) -> str:
    """One row of that list."""
    return f"w|{name}-{place}"


def holding(name: str) -> str:
    """The list of runs of a crowd that hold a place, by the end of the lease."""
    return f"h|{name}"


def holding_at(name: str, until_ms: int, number: int) -> str:
    """One row of that list."""
    return f"h|{name}-1{clamp_ms(until_ms):015d}{number:015d}"


def finished_at(finished_ms: int, number: int) -> str:
    """One row of the list of finished runs."""
    return f"{FINISHED}-1{clamp_ms(finished_ms):015d}{number:015d}"


def garbage(number: int) -> str:
    """One row of the list of purged runs."""
    return f"{GARBAGE}-{number:015d}"


def block(number: int) -> str:
    """One row of the list of blocks; they are counted from 1."""
    return f"{BLOCKS}-{number:015d}"


def block_number(key: str) -> int:
    """The number that such a key says."""
    return int(key[-15:])


def names(number: int) -> str:
    """The ids of a few runs in a row."""
    return f"a|{number}"


def lane_number(queue: str, task: str) -> str:
    """The number of a lane. The length keeps one pair of names from looking like another."""
    return f"n|{len(queue)}|{queue}|{task}"


def lane_name(number: int) -> str:
    """The queue and task of a lane."""
    return f"l|{number}"


def message(number: int, message_id: str) -> str:
    """That a run has received a message, and where it lies in the log."""
    return f"m|{number}|{message_id}"


def input_of(number: int) -> str:
    """An input that is too large for the row of its run."""
    return f"i|{number}"


def result_of(number: int) -> str:
    """A result that is too large for the row of its run."""
    return f"o|{number}"


def blob(name: str) -> str:
    """That a file of this name belongs to the storage."""
    return f"x|{name}"


def shared(key: str) -> str:
    """A small shared value."""
    return f"v|{key}"


def clamp_ms(at_ms: int) -> int:
    """A time that fits its 15 digits."""
    return max(0, min(LAST_MS, at_ms))
