"""What SQLite, the file system and diskcache raise, said once and clearly as a `StorageError`."""

from __future__ import annotations

import errno
import sqlite3
import struct
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import diskcache

from flowkit.errors import StorageError

P = ParamSpec("P")
T = TypeVar("T")

_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full; make room and go on, nothing was half-written",
    sqlite3.SQLITE_READONLY: "it is read-only; make the directory and its files writable for this user",
    sqlite3.SQLITE_PERM: "this user may not use its files",
    sqlite3.SQLITE_CANTOPEN: "its files cannot be opened; check that the directory exists and is writable",
    sqlite3.SQLITE_CORRUPT: "its file is damaged; nothing was overwritten, restore it from a backup",
    sqlite3.SQLITE_NOTADB: "cache.db is no SQLite database; nothing was overwritten",
    sqlite3.SQLITE_BUSY: "it is locked by another program",
    sqlite3.SQLITE_IOERR: "the file system failed to read or write (full, over quota, or broken)",
}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class LockedError(StorageError):
    """Someone else holds the storage; nothing was tried, so nothing was applied."""


def locked(path: Path, waited_s: float) -> LockedError:
    """The error for a storage that stayed locked for the whole busy timeout."""
    return LockedError(
        f"disk storage {path}: locked by another process for more than {waited_s:g} s; nothing was changed. "
        "Look for a process that is stopped, or a backup or database tool that keeps the file open"
    )


def translate(error: BaseException, path: Path, waited_s: float) -> BaseException:
    """Say what went wrong as a `StorageError`; what is no failure of the storage stays as it is."""
    if isinstance(error, diskcache.Timeout):
        cause = error.__context__  # diskcache says Timeout for whatever keeps a transaction from beginning
        if not isinstance(cause, sqlite3.Error) or _code(cause) == sqlite3.SQLITE_BUSY:
            return locked(path, waited_s)
        return translate(cause, path, waited_s)
    if isinstance(error, sqlite3.Error):
        first = error.__context__ if isinstance(error.__context__, sqlite3.Error) else error  # before a failed ROLLBACK
        reason = _REASONS.get(_code(first), "SQLite failed")
        return StorageError(f"disk storage {path}: {reason} ({first})")
    if isinstance(error, OSError):
        reason = _REASONS[sqlite3.SQLITE_FULL] if error.errno in _FULL else "the file system refused"
        return StorageError(f"disk storage {path}: {reason} ({error.strerror or error})")
    return error


def reads_rows(function: Callable[P, T]) -> Callable[P, T]:
    """For a function that unpacks what a row holds: whatever it stumbles over, the row is damaged."""

    @wraps(function)
    def careful(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except (ValueError, TypeError, LookupError, struct.error) as error:
            raise StorageError(
                f"the disk storage holds a row that is damaged or was changed by another program ({error})"
            ) from None

    return careful


def damaged(path: Path, what: str) -> StorageError:
    """The error for a row or file that does not hold what was written."""
    return StorageError(f"disk storage {path}: {what} is damaged or was changed by another program")


def _code(error: BaseException) -> int:
    extended = getattr(error, "sqlite_errorcode", None)
    return extended & 0xFF if isinstance(extended, int) else 0
