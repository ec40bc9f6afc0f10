"""When two values are the same."""

from collections import Counter
from datetime import datetime, time
from decimal import Decimal
from typing import Any

import attrs


def twins(one: object, other: object) -> bool:
    """Equal, and of the same types all the way down; NaN equals itself here."""
    if type(one) is not type(other):
        return False
    cls: Any = type(one)
    if attrs.has(cls):
        names = {a.name for a in attrs.fields(cls)} | set(getattr(one, "__dict__", ()))
        return all(twins(getattr(one, name), getattr(other, name)) for name in names if name != "_attrs_cached_hash")
    match one, other:
        case (dict(), dict()):
            ordered = list(one) == list(other) or isinstance(one, Counter)
            return ordered and all(twins(a, b) for a, b in zip(one.items(), other.items(), strict=True))
        case (list() | tuple(), list() | tuple()):
            return len(one) == len(other) and all(twins(a, b) for a, b in zip(one, other, strict=True))
        case (datetime() | time(), datetime() | time()):
            return one == other and one.fold == other.fold and repr(one.tzinfo) == repr(other.tzinfo)
        case (float() | complex() | Decimal(), _):
            return repr(one) == repr(other)
        case _:
            return one == other
