"""Durations and points in time as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

_MS, _MINUTE_S, _HOUR_S, _DAY_S = 0.001, 60, 3600, 86_400


def seconds_text(seconds: float) -> str:
    """A duration in the largest units that matter.

    Example:
        >>> seconds_text(0.0123), seconds_text(75), seconds_text(93_600)
        ('12 ms', '1m 15s', '1d 2h')
    """
    if seconds < _MS:
        return f"{seconds * 1_000_000:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole >= _DAY_S:
        return _two(whole, _DAY_S, "d", _HOUR_S, "h")
    if whole >= _HOUR_S:
        return _two(whole, _HOUR_S, "h", _MINUTE_S, "m")
    return _two(whole, _MINUTE_S, "m", 1, "s")


def _two(whole: int, large_s: int, large: str, small_s: int, small: str) -> str:
    rest = whole % large_s // small_s
    return f"{whole // large_s}{large} {rest}{small}" if rest else f"{whole // large_s}{large}"


def ms_text(milliseconds: int) -> str:
    """As `seconds_text`; what is shorter than the journal's clock tells is `<1 ms`."""
    return "<1 ms" if milliseconds < 1 else seconds_text(milliseconds / 1000)


def local_time(at_ms: int) -> str:
    """A point in time in this machine's zone, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
