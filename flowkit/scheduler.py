"""Create the runs of scheduled tasks: once for each tick, however many workers there are.

The id of such a run follows from its task and the tick, so that two workers create one run. The storage keeps the last
tick of each schedule, so that workers that start later know what was missed: if ticks were, the latest of them gets one
run. A schedule that is seen for the first time begins then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from flowkit.cron import Cron, takes_tick
from flowkit.engine import Engine
from flowkit.registry import TaskSpec, tasks

log = logging.getLogger(__name__)

LOOK_MS = 60_000  # clocks are set back, and what failed is tried again
NEVER_MS = 2**52
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


class Scheduler:
    """Looks which ticks are due.

    Args:
        engine: creates the runs.
        specs: the tasks that may be scheduled; unless given, all that this process knows.
    """

    def __init__(self, engine: Engine, specs: Callable[[], Iterable[TaskSpec]] = tasks.all) -> None:
        self._engine = engine
        self._specs = specs
        self._known: tuple[TaskSpec, ...] = ()
        self._looked_ms = 0
        self._next_ms = 0

    def look(self) -> int | None:
        """Create the runs that are due; returns when the next tick may be, None if nothing is scheduled."""
        scheduled = tuple(spec for spec in self._specs() if spec.cron is not None)
        if not scheduled:
            return None
        now_ms = self._engine.clock.now_ms()
        fresh = scheduled == self._known and 0 <= now_ms - self._looked_ms < LOOK_MS
        if not fresh or now_ms >= self._next_ms:
            self._known, self._looked_ms = scheduled, now_ms
            self._next_ms = min(self._look_at(spec, now_ms) for spec in scheduled)
        return self._next_ms

    def _look_at(self, spec: TaskSpec, now_ms: int) -> int:
        assert spec.cron is not None  # only scheduled ones are looked at
        storage, key = self._engine.storage, f"cron:{spec.id}:{spec.cron.expression}:{spec.cron.tz}"
        now = _EPOCH + now_ms * _MS
        last, revision = storage.get(key) or (None, 0)
        if last is None:
            storage.compare_and_set(key, 0, str(now_ms).encode())
        else:
            tick = spec.cron.latest(now)
            if tick is not None and _ms(tick) > int(last):
                if not self._create(spec, spec.cron, tick):
                    return now_ms + LOOK_MS
                storage.compare_and_set(key, revision, str(_ms(tick)).encode())
        following = spec.cron.after(now)
        return NEVER_MS if following is None else _ms(following)

    def _create(self, spec: TaskSpec, cron: Cron, tick: datetime) -> bool:
        """Create the run of a tick, unless it is there; whether that went well."""
        run_id = f"{spec.id}@{tick.astimezone(UTC):%Y-%m-%dT%H:%M}Z"
        try:
            new = self._engine.new_run(spec, (tick,) if takes_tick(spec.fn) else (), {}, run_id=run_id)
            self._engine.create(new)
        except Exception:
            log.exception("run %s of task %s, due by its schedule %r, could not be created", run_id, spec.id, cron)
            return False
        log.info("run %s is due by the schedule %r", run_id, cron.expression)
        return True


def _ms(moment: datetime) -> int:
    return (moment - _EPOCH) // _MS
