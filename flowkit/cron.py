"""When a scheduled task is due: cron expressions, and the time zone in which they are meant."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo

from attrs import field

from flowkit.errors import ConfigurationError
from flowkit.frozen import frozen

FIELDS = 5
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_SECOND = timedelta(seconds=1)
_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


@frozen
class Cron:
    """A schedule: a cron expression and its time zone.

    The five fields are minute, hour, day of month, month and day of week, as Debian's cron reads them, `L` and `#`
    included (`"0 9 * * MON-FRI"`, `"0 0 L * *"`, `"0 0 * * MON#1"`). `@hourly`, `@daily`, `@weekly`, `@monthly` and
    `@yearly` are short for the obvious. Where clocks change, a time that is skipped comes when they have been put
    forward, and a time that comes twice counts once; schedules with a `*` in the minutes or hours follow real time.

    Args:
        expression: when.
        tz: the name of the time zone in which it is meant, such as `"Europe/Berlin"`.

    Raises:
        ConfigurationError: names what is wrong with the expression or the zone.
    """

    expression: str = field()
    tz: str = field(default="UTC")

    def __attrs_post_init__(self) -> None:
        self.after(datetime(2000, 1, 1, tzinfo=UTC))

    def after(self, moment: datetime) -> datetime | None:
        """The first tick after a moment, in the schedule's zone; None if there is none in the next fifty years."""
        return self._tick(moment, reverse=False)

    def latest(self, moment: datetime) -> datetime | None:
        """The last tick up to a moment and including it; None if there was none in fifty years."""
        return self._tick(moment.replace(microsecond=0) + _SECOND, reverse=True)

    def _tick(self, moment: datetime, *, reverse: bool) -> datetime | None:
        from cronsim import CronSim, CronSimError  # noqa: PLC0415  # only for those who have schedules

        try:
            return next(CronSim(self._plain(), moment.astimezone(self._zone()), reverse=reverse), None)
        except CronSimError as error:
            raise ConfigurationError(
                f"cron={self.expression!r}: {str(error).lower()}; write minute, hour, day of month, month and day of "
                'week, as in "30 4 * * MON-FRI"'
            ) from None

    def _plain(self) -> str:
        expression: object = self.expression
        if not isinstance(expression, str):
            raise ConfigurationError(f'cron={expression!r}: write a text, as in "30 4 * * *"')
        plain = _NAMED.get(expression.strip().lower(), expression)
        if len(plain.split()) != FIELDS:
            raise ConfigurationError(
                f"cron={expression!r}: it has {len(plain.split())} fields; write {FIELDS}: minute, hour, day of month, "
                'month and day of week, as in "30 4 * * MON-FRI"'
            )
        return plain

    def _zone(self) -> tzinfo:
        if self.tz == "UTC":
            return UTC  # which needs no database of zones
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415  # only for those who name zones

        try:
            return ZoneInfo(self.tz)
        except (OSError, TypeError, ValueError, ZoneInfoNotFoundError):
            raise ConfigurationError(
                f"Cron(tz={self.tz!r}): no time zone of that name is known here; write one like 'Europe/Berlin' "
                "(where the system has none, `pip install tzdata`)"
            ) from None


def cron_from(given: str | Cron | None, where: str) -> Cron | None:
    """What `@task(cron=...)` was given.

    Raises:
        ConfigurationError: names the task, and what is wrong.
    """
    if given is None or isinstance(given, Cron):
        return given
    try:
        return Cron(given)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from None


def takes_tick(fn: Callable[..., object]) -> bool | None:
    """Whether a scheduled function wants to be told the tick; None if it wants what nobody can give it."""
    required = [
        parameter
        for parameter in inspect.signature(fn).parameters.values()
        if parameter.default is parameter.empty and parameter.kind not in _VARIADIC
    ]
    if len(required) > 1 or any(parameter.kind is parameter.KEYWORD_ONLY for parameter in required):
        return None
    return bool(required)
