"""Lanes: the runs of one task in one queue. Each has a number, so that keys stay short and names stay out of them."""

from __future__ import annotations

import json

from flowkit_disk import keys
from flowkit_disk.rows import Rows

_COUNT = keys.lane_name(0)


class Lanes:
    """The numbers of lanes, remembered.

    A lane keeps its number for ever, so what is remembered stays true; what a transaction that failed had written is
    forgotten with it (`forget_new`).
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}
        self._names: dict[int, tuple[str, str]] = {}
        self._new: list[int] = []

    def find(self, rows: Rows, queue: str, task: str) -> int | None:
        """The number of a lane, if any run was ever in it."""
        known = self._numbers.get((queue, task))
        if known is None:
            data = rows.get(keys.lane_number(queue, task))
            if data is not None:
                known = int(data)
                self._remember(known, queue, task)
        return known

    def number(self, rows: Rows, queue: str, task: str) -> int:
        """The number of a lane, given to it now if need be. In a transaction."""
        known = self.find(rows, queue, task)
        if known is None:
            known = self.count(rows) + 1
            rows.put(_COUNT, str(known).encode())
            rows.put(keys.lane_number(queue, task), str(known).encode())
            rows.put(keys.lane_name(known), json.dumps([queue, task]).encode())
            self._remember(known, queue, task)
            self._new.append(known)
        return known

    def name(self, rows: Rows, number: int) -> tuple[str, str]:
        """The queue and task of a lane that exists."""
        known = self._names.get(number)
        if known is None:
            queue, task = json.loads(rows.get(keys.lane_name(number)) or b'["", ""]')
            known = (queue, task)
            self._remember(number, queue, task)
        return known

    def count(self, rows: Rows) -> int:
        """How many there are; they are numbered from 1."""
        return int(rows.get(_COUNT) or b"0")

    def keep_new(self) -> None:
        """The transaction was kept."""
        self._new.clear()

    def forget_new(self) -> None:
        """The transaction was not kept."""
        for number in self._new:
            self._numbers.pop(self._names.pop(number), None)
        self._new.clear()

    def _remember(self, number: int, queue: str, task: str) -> None:
        self._numbers[queue, task] = number
        self._names[number] = (queue, task)
