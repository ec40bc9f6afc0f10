"""Which queue and task a run is of, as far as this process has heard."""

from __future__ import annotations

from collections.abc import Sequence

from flowkit_redis.keys import decoded

_AT_MOST = 50_000


class Lanes:
    """Remembers the lanes of runs, so that their keys can be declared. Only a hint: scripts know the truth.

    A script that is told the wrong lane, or none, answers with the right one before it writes anything.
    """

    def __init__(self) -> None:
        self._known: dict[str, bytes] = {}

    def learn(self, run_id: str, lane: bytes) -> None:
        """Note the lane of a run."""
        known = self._known
        if len(known) >= _AT_MOST:
            for old in list(known)[: _AT_MOST // 2]:
                known.pop(old, None)
        known[run_id] = lane

    def learn_all(self, told: Sequence[bytes]) -> None:
        """Note what a script has told: ids and lanes by turns."""
        for at in range(0, len(told), 2):
            self.learn(decoded(told[at]), told[at + 1])

    def of(self, run_id: str) -> bytes | None:
        """The lane of a run, if it is known."""
        return self._known.get(run_id)

    def forget(self, run_id: str) -> None:
        """The run has finished."""
        self._known.pop(run_id, None)
