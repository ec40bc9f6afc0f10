"""Durations as people write them: seconds, `timedelta`, or text such as `"1h30m"`."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from decimal import Decimal

from flowkit.errors import ConfigurationError

Duration = float | timedelta | str
"""Seconds as an `int` or `float`, a `timedelta`, or text (see `seconds`)."""

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_UNITS_S = {  # longest first: the order in which a text may name them
    "w": Decimal(604_800),
    "d": Decimal(86_400),
    "h": Decimal(3_600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
}
_TEXT = re.compile(r"\s*".join(rf"(?:({_NUMBER})\s*{unit}(?![a-z]))?" for unit in _UNITS_S))
_LONGEST_S = 1_000 * 366 * 86_400.0  # keeps every point in time within what a storage's integers and doubles hold
_REMEDY = 'write seconds (90 or 0.5), a timedelta, or text such as "3d", "1h30m", "1.5s" or "250ms"'


def seconds(value: Duration, what: str) -> float:
    """Read a duration.

    Args:
        value: seconds as a number, a `timedelta`, or text: numbers with the units `w`, `d`, `h`, `m`, `s` and `ms`,
            each at most once, longest first. A text that is only a number is seconds.
        what: the place where the value was given, for the error: `"timeout of step 'charge'"`.

    Raises:
        ConfigurationError: if the value is none of these, negative, not a number, or longer than 1,000 years.

    Example:
        >>> seconds("1h30m", "delay"), seconds("250ms", "delay"), seconds(90, "delay")
        (5400.0, 0.25, 90.0)
    """
    found = _read(value)
    if found is None or math.isnan(found):
        raise ConfigurationError(f"{what}: {value!r} is no duration; {_REMEDY}")
    if found < 0:
        raise ConfigurationError(f"{what}: {value!r} is negative; {_REMEDY}")
    if found > _LONGEST_S:
        raise ConfigurationError(f"{what}: {value!r} is longer than 1,000 years; {_REMEDY}")
    return found


def milliseconds(value: Duration, what: str) -> int:
    """Read a duration as whole milliseconds; what is above zero stays above zero. Else like `seconds`.

    Example:
        >>> milliseconds("1.5s", "lease"), milliseconds(0.0001, "lease")
        (1500, 1)
    """
    exact = seconds(value, what)
    return max(round(exact * 1000), 1) if exact > 0 else 0


def _read(value: object) -> float | None:
    match value:
        case bool():  # True is no second, whatever Python says
            return None
        case int() | float():
            return _float(value)
        case timedelta():
            return value.total_seconds()
        case str():
            return _read_text(value.strip())
        case _:
            return None


def _read_text(text: str) -> float | None:
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    if re.fullmatch(_NUMBER, digits):
        return sign * float(digits)
    matched = _TEXT.fullmatch(digits)
    if matched is None or not digits:
        return None
    # decimal, so that "1.1s" and "1100ms" are the same number
    total = sum(
        Decimal(number) * unit for number, unit in zip(matched.groups(), _UNITS_S.values(), strict=True) if number
    )
    return sign * float(total)


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # an int beyond the range of floats
        return math.inf if number > 0 else -math.inf
