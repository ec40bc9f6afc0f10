"""Scripts that touch runs of any queue and task: their lanes are declared as far as known, else learnt by asking."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from flowkit_redis.failures import NotNow
from flowkit_redis.keys import Shard
from flowkit_redis.opening import Opened
from flowkit_redis.wire import Word

_UNDECLARED = -1  # a script's answer: it needs other lanes, and says which; nothing was written
_TURNS = 5  # a run may be forgotten and made again, of another task, between two of them


class Asker:
    """Runs one script, again with more keys if it asks for them.

    Args:
        opened: the storage.
        shard: where.
        run_ids: existing runs that it may touch.
        keys: what it touches besides those and the common ones.
    """

    def __init__(self, opened: Opened, shard: Shard, run_ids: Sequence[str], keys: Iterable[bytes] = ()) -> None:
        self._opened = opened
        self._shard = shard
        self._run_ids = run_ids
        self._keys = keys

    def ask(self, name: str, words: Sequence[Word], *, again: bool = True) -> Any:  # noqa: ANN401  # the script's answer
        """The answer."""
        for _ in range(_TURNS):
            answer = self._opened.link.run(self._shard.number, name, self._declared(), words, again=again)
            if not (type(answer) is list and answer and answer[0] == _UNDECLARED):
                return answer
            self._opened.lanes.learn_all(answer[1:])
        raise NotNow(f"runs change their queues faster than they can be looked at: {self._run_ids[:3]}")

    def _declared(self) -> list[bytes]:
        shard, lanes = self._shard, self._opened.lanes
        keys = dict.fromkeys((*shard.common, *self._keys))
        for run_id in self._run_ids:
            keys.update(dict.fromkeys(shard.of_run(run_id)))
            lane = lanes.of(run_id)
            if lane is not None:
                keys.update(dict.fromkeys(shard.of_lane(lane)))
        return list(keys)
