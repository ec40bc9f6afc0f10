"""What an exception carries, read past what its class has redefined.

A class may look its attributes up elsewhere, as urllib's `HTTPError` does in the answer that it holds, and fail at any
name when that is not there: also at those that Python's own `add_note` asks for.
"""

from __future__ import annotations

from types import GetSetDescriptorType
from typing import cast

_DICT = cast("GetSetDescriptorType", BaseException.__dict__["__dict__"])


def dict_of(error: BaseException) -> dict[str, object]:
    """Its `__dict__`."""
    return cast("dict[str, object]", _DICT.__get__(error, type(error)))


def notes_of(error: BaseException) -> tuple[str, ...]:
    """Its notes, as far as they are texts."""
    notes = dict_of(error).get("__notes__")
    return tuple(note for note in notes if isinstance(note, str)) if isinstance(notes, list) else ()


def add_note(error: BaseException, note: str) -> None:
    """Add a note, once."""
    notes = notes_of(error)
    if note not in notes:
        dict_of(error)["__notes__"] = [*notes, note]


def attribute_of(error: BaseException, name: str) -> object:
    """One of its attributes; None if it has none of that name, or fails when it is asked."""
    try:
        return cast("object", getattr(error, name, None))
    except Exception:  # noqa: BLE001  # any code at all
        return None


def text_of(error: BaseException) -> str:
    """What an exception says, whatever its `__str__` does."""
    try:
        return str.__str__(str(error))
    except Exception:  # noqa: BLE001  # D6: a broken exception must not break its recording
        return "(it says nothing: its __str__ fails)"


def line_of(error: BaseException) -> str:
    """Its class and what it says, whatever its own code does."""
    return f"{type(error).__name__}({text_of(error)})"
