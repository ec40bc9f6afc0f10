"""Tracebacks as the user wants them: their own code, without the frames of flowkit and of the import system."""

from __future__ import annotations

import importlib
import traceback
from pathlib import Path

import flowkit

_MACHINERY = (str(Path(flowkit.__file__).parent), str(Path(importlib.__file__).parent), "<frozen importlib")


def user_traceback(error: BaseException) -> str:
    """The error with the frames of the user's code, and so its causes; all frames if none is the user's."""
    told = traceback.TracebackException.from_exception(error)
    _trim(told)
    return "".join(told.format()).rstrip()


def has_traceback(error: BaseException) -> bool:
    """True if the error was raised in this process by the user's code, so that there are lines to show."""
    return any(not _is_machinery(frame) for frame in traceback.extract_tb(error.__traceback__))


def _trim(told: traceback.TracebackException) -> None:
    kept = [frame for frame in told.stack if not _is_machinery(frame)]
    if kept:
        told.stack = traceback.StackSummary.from_list(kept)
    for linked in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if linked is not None:
            _trim(linked)


def _is_machinery(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith(_MACHINERY)
