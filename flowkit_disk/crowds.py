"""Crowds: the runs of a lane whose limits have one key. Those that hold a place, and those that wait for one.

Of a crowd only the first run that waits lies among the ready runs of its lane, and only while there is room: so a
claim never sees the others (rule X4). Places are counted by the end of the lease of whoever holds them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256

from flowkit_disk import keys
from flowkit_disk.failures import reads_rows
from flowkit_disk.rows import Rows
from flowkit_disk.runrow import Run


class Crowd:
    """One crowd, within one transaction; `settle` before anybody looks at the ready runs of the lane."""

    def __init__(self, rows: Rows, lane: int, key: str) -> None:
        self._rows = rows
        self._lane = lane
        self._name = f"{lane}|{_digest(key)}"
        self._taken, self._shown = _read(rows, self._name)
        self._settled = True

    def taken(self, now_ms: int) -> int:
        """How many places are held by leases that have not ended."""
        while (first := self._rows.first(keys.holding(self._name))) is not None:
            if keys.due_time(first[0]) > now_ms:
                break
            self._rows.drop(first[0])
            self._taken -= 1
            self._settled = False
        return self._taken

    def offer(self, run: Run, since_ms: int) -> None:
        """The run may be claimed as soon as it is the first and has room."""
        self._rows.put(keys.waiting_at(self._name, _rank(run, since_ms)), run.run_id.encode())
        self._settled = False

    def withdraw(self, run: Run, since_ms: int) -> None:
        """The run is not to be claimed."""
        self._rows.drop(keys.waiting_at(self._name, _rank(run, since_ms)))
        self._settled = False

    def hold(self, run: Run, until_ms: int) -> None:
        """The run is leased until then."""
        self._rows.put(keys.holding_at(self._name, until_ms, run.number), b"")
        self._taken += 1
        self._settled = False

    def release(self, run: Run, until_ms: int) -> None:
        """The run is not leased any more, or not until then."""
        if self._rows.drop(keys.holding_at(self._name, until_ms, run.number)):
            self._taken -= 1
            self._settled = False

    def settle(self, now_ms: int, find: Callable[[str], Run | None]) -> bool:
        """Show claims the first of those that wait, if it has room; whether one is shown that was not."""
        if self._settled:
            return False
        taken = self.taken(now_ms)
        self._settled = True
        first = self._rows.first(keys.waiting(self._name))
        show: str | None = None
        if first is not None:
            run = find(first[1].decode())
            if run is not None and run.limit is not None and taken < run.limit.places:
                show = first[0].partition("-")[2]
        new = show != self._shown
        if new and self._shown is not None:
            self._rows.drop(keys.ready_by(self._lane, self._shown))
        if new and show is not None and first is not None:
            self._rows.put(keys.ready_by(self._lane, show), first[1])
        self._shown = show
        if taken or first is not None:
            self._rows.put(keys.crowd(self._name), json.dumps([taken, show]).encode())
        else:
            self._rows.drop(keys.crowd(self._name))
        return new and show is not None


@reads_rows
def _read(rows: Rows, name: str) -> tuple[int, str | None]:
    data = rows.get(keys.crowd(name))
    if data is None:
        return 0, None
    taken, shown = json.loads(data)
    return int(taken), shown


def _rank(run: Run, since_ms: int) -> str:
    return keys.rank(run.priority, since_ms, run.number)


@lru_cache(maxsize=1024)
def _digest(key: str) -> str:
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
