"""Why a run stops before its end, and what is raised through a body to take it off the stack."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import field

from flowkit.errors import FlowkitError
from flowkit.frozen import frozen


@frozen
class Suspended:
    """Everything in it waits: for a time, a message, or both (rule E1)."""

    wake_at_ms: int | None = None
    arrivals: int | None = None  # how many messages must have come, counted as its mailbox does
    cancel_heard: bool = False  # whoever waits has heard of a cancellation, or must not hear of one (rule E2)


@frozen
class Blocked:
    """It cannot go on until a person mends something (rule I3)."""

    error: FlowkitError = field(eq=False)


@frozen
class Revoked:
    """Its ports are closed: the lease is lost, or a test has killed it. It writes nothing more (rule D4)."""

    error: BaseException = field(eq=False)


@frozen
class RollingBack:
    """The body was replayed to rebuild its undos, and would go forward again (rule G3)."""


@frozen
class Detached:
    """The caller or the process lets go of it, unfinished; it is handed back at once (rule X5)."""

    error: BaseException = field(eq=False)


Reason = Suspended | Blocked | Revoked | Detached | RollingBack


def combined(reasons: Iterable[Reason]) -> Reason | None:
    """Why several lines of a run have stopped, as one reason: what comes due first wakes them all."""
    found = list(reasons)
    others = [reason for reason in found if not isinstance(reason, Suspended)]
    if others:
        return others[0]
    waits = [reason for reason in found if isinstance(reason, Suspended)]
    if not waits:
        return None
    wakes = [wait.wake_at_ms for wait in waits if wait.wake_at_ms is not None]
    arrivals = [wait.arrivals for wait in waits if wait.arrivals is not None]
    heard = all(wait.cancel_heard for wait in waits)
    return Suspended(min(wakes, default=None), min(arrivals, default=None), heard)


class Unwind(BaseException):
    """Raised through a body to take it off the stack. `except Exception` does not swallow it (rule E1)."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class LeaveScope(BaseException):
    """Raised on replay in a saga scope that is being rolled back, where it would go forward again (rule G3)."""


class Cancelled(BaseException):
    """Raised once in a synchronous body when its run is cancelled (rule E2); async code sees `CancelledError`."""
