"""What a command's exit code means, and which error leads to which."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from flowkit.errors import (
    ConfigurationError,
    FlowkitError,
    LeaseLost,
    RunBlocked,
    RunConflict,
    RunFinished,
    RunNotFound,
    RunRolledBack,
    SerializationError,
    StorageError,
    UsageError,
)
from flowkit.records import RunStatus


class Exit(IntEnum):
    """Exit codes; `flowkit --help` lists them, and they do not change their meaning."""

    OK = 0
    FAILED = 1
    USAGE = 2
    BLOCKED = 3
    NOT_FOUND = 4
    STORAGE = 5
    REFUSED = 6
    CANCELLED = 7
    INTERRUPTED = 130  # 128 + SIGINT, as shells count
    TERMINATED = 143  # 128 + SIGTERM


HELP: Final = """\b
Exit codes:
    0  done; the run succeeded
    1  the run failed (doctor: something should be changed)
    2  wrong use: an option, an input, a configuration, a module that cannot be imported
    3  the run is blocked until a person mends something
    4  there is no such run
    5  the storage cannot be used
    6  the run's state does not allow it (finished, rolled back, other arguments)
    7  the run was cancelled
  130  interrupted by Ctrl-C, 143 by SIGTERM; the run can be resumed
"""

_BY_ERROR: Final[tuple[tuple[type[BaseException], Exit], ...]] = (
    (RunNotFound, Exit.NOT_FOUND),
    (RunBlocked, Exit.BLOCKED),
    (RunConflict, Exit.REFUSED),
    (RunFinished, Exit.REFUSED),
    (RunRolledBack, Exit.REFUSED),
    (LeaseLost, Exit.STORAGE),
    (StorageError, Exit.STORAGE),
    (SerializationError, Exit.USAGE),
    (ConfigurationError, Exit.USAGE),
    (UsageError, Exit.USAGE),
    (FlowkitError, Exit.FAILED),
)

_BY_STATUS: Final = {
    RunStatus.SUCCEEDED: Exit.OK,
    RunStatus.FAILED: Exit.FAILED,
    RunStatus.CANCELLED: Exit.CANCELLED,
    RunStatus.BLOCKED: Exit.BLOCKED,
}


def exit_for_error(error: BaseException) -> Exit:
    """The exit code for an error that a command met."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), Exit.FAILED)


def exit_for_status(status: RunStatus) -> Exit:
    """The exit code for how a run stands; one that is under way is no failure."""
    return _BY_STATUS.get(status, Exit.OK)
