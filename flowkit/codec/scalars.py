"""The values without parts that JSON does not know: bytes, times, numbers, ids and paths, each as text or numbers.

Every form is chosen so that a person can read it and the value comes back exactly: equal, and of the same class.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, TypeVar, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from flowkit.codec.base import Json, Unencodable
from flowkit.frozen import frozen

When = TypeVar("When", datetime, time)


@frozen
class Scalar:
    """How one class without parts is written: its name in a tag, and the two ways."""

    cls: type
    tag: str
    encode: Callable[[Any], Json]
    decode: Callable[[Any], object]
    form: type = str  # the JSON type of what `encode` gives


def _bytes_text(value: bytes | bytearray) -> Json:
    return b2a_base64(value, newline=False).decode("ascii")


def _text_bytes(text: str) -> bytes:
    return a2b_base64(text, strict_mode=True)


# ---- dates and times: ISO 8601, then what that leaves out in brackets: [fold=1], [Europe/Berlin] ---------------------


def _when_text(value: datetime | time) -> Json:
    fold = "[fold=1]" if value.fold else ""
    zone = value.tzinfo
    match zone:
        case None:
            return value.isoformat() + fold
        case timezone() if type(zone) is timezone:
            plain = timezone(zone.utcoffset(None))
            name = zone.tzname(None)
            return value.isoformat() + fold + ("" if name == plain.tzname(None) else f"[={name}]")
        case ZoneInfo() if type(zone) is ZoneInfo and zone.key is not None:
            return f"{value.replace(tzinfo=None).isoformat()}{fold}[{zone.key}]"
    raise Unencodable(value, f"its time zone is a {type(zone).__name__}; use datetime.timezone or zoneinfo.ZoneInfo")


def _text_when(cls: type[When]) -> Callable[[str], When]:
    def decode(text: str) -> When:
        if not text.endswith("]"):
            return cls.fromisoformat(text)
        text, _, rest = text.partition("[")
        when = cls.fromisoformat(text)
        if rest.startswith("fold=1]"):
            when, rest = when.replace(fold=1), rest[len("fold=1][") :]
        return when.replace(tzinfo=_zone(rest[:-1], when.tzinfo)) if rest else when

    return decode


def _zone(name: str, offset: tzinfo | None) -> tzinfo:
    if name.startswith("="):
        return timezone(cast("timedelta", cast("tzinfo", offset).utcoffset(None)), name[1:])
    return ZoneInfo(name)


def _path(cls: type[PurePath]) -> Scalar:
    return Scalar(cls, "path" if issubclass(cls, Path) else cls.__name__, str, cls)


SCALARS: tuple[Scalar, ...] = (
    Scalar(bytes, "bytes", _bytes_text, _text_bytes),
    Scalar(bytearray, "bytearray", _bytes_text, lambda text: bytearray(_text_bytes(text))),
    Scalar(datetime, "datetime", _when_text, _text_when(datetime)),
    Scalar(date, "date", date.isoformat, date.fromisoformat),
    Scalar(time, "time", _when_text, _text_when(time)),
    Scalar(timedelta, "timedelta", lambda t: [t.days, t.seconds, t.microseconds], lambda dsu: timedelta(*dsu), list),
    Scalar(Decimal, "decimal", str, Decimal),
    Scalar(UUID, "uuid", str, UUID),
    Scalar(complex, "complex", lambda z: [z.real, z.imag], lambda ri: complex(*ri), list),
    Scalar(range, "range", lambda r: [r.start, r.stop, r.step], lambda sss: range(*sss), list),
    _path(type(Path())),
    _path(PurePosixPath),
    _path(PureWindowsPath),
)

PATH_HINTS: dict[object, type] = {Path: type(Path()), PurePath: type(PurePath())}
"""The abstract path classes, and the class that making one really gives."""
