"""Turns for the threads of a run: one goes at a time, so that every run of a test goes the same way.

A thread has its turn until it is about to call a step, waits for others, or ends. Then it is the turn of whoever has
waited longest; of those that are to come late, when nobody else can go.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import get_ident, get_native_id

from attrs import define, field

_LOOK_S = 0.05
_PATIENCE = 20  # looks at whoever holds the turn: if nothing was done between them, it waits by means of its own


@define(eq=False)
class _Waiting:
    """A thread that waits for its turn."""

    thread: int
    rank: int
    ready: Callable[[], bool]


@define(eq=False)
class Turns:
    """Who goes.

    Args:
        standing: True while the whole process stands still.
    """

    standing: Callable[[], bool]
    _changed: threading.Condition = field(factory=threading.Condition)
    _members: set[int] = field(factory=set)
    _holder: int | None = None
    _native: int = 0  # the system's number of the thread that has, or had, the turn
    _coming: int = 0  # threads that are being started
    _waiting: list[_Waiting] = field(factory=list)  # the longest first
    _over: bool = False

    def beside(self, body: Callable[[], None]) -> Callable[[], None]:
        """What a new thread is to do: the same, in turns."""
        with self._changed:
            if not self._members:
                self._takes()
            self._members.add(get_ident())
            self._coming += 1

        def in_turns() -> None:
            self._comes()
            try:
                body()
            finally:
                self._leaves()

        return in_turns

    def give_way(self, rank: int = 0) -> None:
        """Let others go first; of those that come late, the ones with a lower rank."""
        self._wait(rank, lambda: True)

    def stand_by(self, ready: Callable[[], bool]) -> None:
        """Let others go until that is true."""
        self._wait(0, ready)

    def end(self) -> None:
        """From now on all go as they like: the process has died."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _comes(self) -> None:
        with self._changed:
            self._coming -= 1
            self._members.add(get_ident())
            self._changed.notify_all()
        self.give_way()

    def _leaves(self) -> None:
        with self._changed:
            self._members.discard(get_ident())
            self._gives_up()

    def _gives_up(self) -> None:
        if self._holder == get_ident():
            self._holder = None
        self._changed.notify_all()

    def _wait(self, rank: int, ready: Callable[[], bool]) -> None:
        me = get_ident()
        if me not in self._members:
            return
        with self._changed:
            mine = _Waiting(me, rank, ready)
            self._waiting.append(mine)
            self._gives_up()
            stood, looks = None, 0
            while looks < _PATIENCE and not (self._over or self._is_next(mine)):
                if self._changed.wait(_LOOK_S):
                    continue
                place = self._place()
                stood, looks = place, 0 if self.standing() or place != stood else looks + 1
            self._waiting.remove(mine)
            self._takes()

    def _takes(self) -> None:
        self._holder, self._native = get_ident(), get_native_id()

    def _place(self) -> tuple[int | None, str]:
        """How long whoever has the turn has been at work; a thread that is only slow has done more the next time.

        The system is asked, where it tells. The frames of a thread that runs are no safe answer: CPython 3.11 has died
        of looking at them.
        """
        worked = ""
        with suppress(OSError):  # not on Linux, or that thread has ended
            worked = Path(f"/proc/self/task/{self._native}/schedstat").read_text("ascii").partition(" ")[0]
        return (self._holder, worked)

    def _is_next(self, mine: _Waiting) -> bool:
        if self._holder is not None or self._coming:
            return False
        able = [waiting for waiting in self._waiting if waiting.ready()]
        return bool(able) and min(able, key=lambda waiting: waiting.rank) is mine
