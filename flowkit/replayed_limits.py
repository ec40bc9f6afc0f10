"""Which time limit of a body's own, such as `asyncio.timeout`, a replay lets pass: one that passed the first time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from attrs import define, field

from flowkit.journal import Journal
from flowkit.quiescence import TimeLimit, look

MOST_LIMITS = 10_000  # in a row, on the way to one recorded outcome


@define(eq=False)
class ReplayedLimits:
    """I4: such a limit is not recorded, but what was called after it has passed is.

    A replay that cannot come to the next recorded call in any other way lets the limit pass at once. It is the soonest
    around what is held back, of the line that is to make that call. What a retry of the run has reopened is held back
    although it did end, but no line calls anything after what failed it.
    """

    _loop: asyncio.AbstractEventLoop
    _journal: Journal
    _keys: dict[int, str] | None = field(init=False, default=None)  # of calls, by the position of their outcome
    _position: int | None = field(init=False, default=None)  # of the outcome that is to be delivered next
    _passed: int = field(init=False, default=0)  # limits, on the way to it

    def passed(
        self,
        position: int,
        lines: Mapping[asyncio.Task[Any], str],
        ours: Collection[asyncio.Future[Any]],
        held: Collection[asyncio.Future[Any]],
    ) -> TimeLimit | None:
        """The limit that led to the outcome recorded at a position, where nothing else can have done so.

        Args:
            position: of the outcome that is to be delivered next.
            lines: what calls, with the prefixes of their keys.
            ours: the futures that flowkit would wake them by.
            held: those of them that the replay holds back.
        """
        if position != self._position:
            self._position, self._passed = position, 0
        limit = look(self._loop, _innermost(lines, self._key_at(position)), ours, held).limit_of_held()
        if limit is None or self._passed >= MOST_LIMITS:  # then it is not on the way there
            return None
        self._passed += 1
        return limit

    def _key_at(self, position: int) -> str:
        if self._keys is None:
            self._keys = {past.position: past.key for past in self._journal.past.values()}
        return self._keys[position]


def _innermost(lines: Mapping[asyncio.Task[Any], str], key: str) -> list[asyncio.Task[Any]]:
    """The innermost line whose call has this key, with those that go on beside it."""
    around = {task: prefix for task, prefix in lines.items() if key.startswith(prefix)}
    innermost = max(around.values(), key=len, default="")
    return [task for task, prefix in around.items() if prefix == innermost]
