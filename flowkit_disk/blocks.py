"""What is known of many runs at a glance: for 512 runs in a row, the status, place and lane of each.

A listing by status and the counts read these instead of a row for each run, and so does the rare search for the runs
that a dead process has left.
"""

from __future__ import annotations

import sys
from array import array

from flowkit.records import RunStatus
from flowkit_disk.runrow import Place, Run

RUNS = 512
NAMES = 64  # runs whose ids share a row
_STATUSES = (  # their order is part of the format
    RunStatus.PENDING,
    RunStatus.RUNNING,
    RunStatus.WAITING,
    RunStatus.COMPENSATING,
    RunStatus.BLOCKED,
    RunStatus.SUCCEEDED,
    RunStatus.FAILED,
    RunStatus.CANCELLED,
)
_PLACES = len(Place)
_INDEX = {status: index for index, status in enumerate(_STATUSES)}
NOBODY = 0


def code(status: RunStatus, place: Place) -> int:
    """Both in one byte; 0 is for a run that was purged."""
    return 1 + _INDEX[status] * _PLACES + place


def codes_of(statuses: frozenset[RunStatus] | None = None, places: frozenset[Place] | None = None) -> frozenset[int]:
    """All bytes that mean one of these; None does not narrow."""
    return frozenset(
        code(status, place)
        for status in _STATUSES
        for place in Place
        if (statuses is None or status in statuses) and (places is None or place in places)
    )


def status_of(value: int) -> RunStatus:
    """The status in such a byte."""
    return _STATUSES[(value - 1) // _PLACES]


class Block:
    """The runs of one block. `codes` and `lanes` grow together, as runs are created."""

    __slots__ = ("codes", "lanes")

    def __init__(self, data: bytes = b"") -> None:
        count = len(data) // 5
        self.codes = bytearray(data[:count])
        self.lanes = array("I")
        self.lanes.frombytes(data[count:])
        if sys.byteorder == "big":
            self.lanes.byteswap()

    def __len__(self) -> int:
        return len(self.codes)

    def packed(self) -> bytes:
        """As it stands in its row."""
        lanes = self.lanes
        if sys.byteorder == "big":
            lanes = array("I", lanes)
            lanes.byteswap()
        return bytes(self.codes) + lanes.tobytes()

    def add(self, run: Run) -> None:
        """A run was created."""
        self.codes.append(code(run.status, run.place))
        self.lanes.append(run.lane)

    def places(self, wanted: frozenset[int]) -> list[int]:
        """Where in the block one of these bytes stands, last first."""
        if not wanted.intersection(self.codes):
            return []
        return [index for index in range(len(self.codes) - 1, -1, -1) if self.codes[index] in wanted]


def block_of(number: int) -> tuple[int, int]:
    """The block of a run and its place there; runs and blocks are counted from 1."""
    block, place = divmod(number - 1, RUNS)
    return block + 1, place


def number_of(block: int, place: int) -> int:
    """The run at a place of a block."""
    return (block - 1) * RUNS + place + 1
