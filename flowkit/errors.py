"""Every error that flowkit raises, in one tree under `FlowkitError`.

The bottom of the house: this module imports nothing of flowkit. Timeouts are `TimeoutError` too, groups are
`ExceptionGroup` too, so that code which knows only the standard library still catches them.
"""

from __future__ import annotations

from typing import Self


class FlowkitError(Exception):
    """The base of all errors that flowkit itself raises."""


class ConfigurationError(FlowkitError):
    """A setting, a URL or a decorator argument is wrong; the message names it and says what to write."""


class UsageError(FlowkitError):
    """A durable operation was called where or how it cannot work; the message names the right form. Never retried."""


class WrongColour(UsageError):
    """A synchronous call was made where only an awaitable one can work, or the other way round."""


class ValueMismatch(UsageError, TypeError):
    """A sequencer got or gave a value that is not of the type it declares; names the place in the value."""


class AmbiguousOrder(UsageError):
    """A durable call was made from an asyncio task or thread that is no branch of the run (rule I2)."""


class OutsideRun(UsageError):
    """A durable operation that only makes sense inside a task was called outside of one."""


class NotAllowedInStep(UsageError):
    """A durable operation was called inside a step, where it cannot be recorded."""


class SerializationError(FlowkitError):
    """A value cannot be stored so that it comes back as itself; names the path in the value. Never retried."""


class NonRetryable(FlowkitError):
    """For users to raise (or subclass): the step or task fails at once, whatever attempts are left."""


class StepError(FlowkitError):
    """Stands for a step's error that cannot be rebuilt from storage; raised live and on replay alike.

    `cause_type` is the original class as `module:QualName`, `cause_message` its text.
    """

    def __init__(self, message: str, cause_type: str = "", cause_message: str = "") -> None:
        super().__init__(message, cause_type, cause_message)
        self.cause_type = cause_type
        self.cause_message = cause_message

    def __str__(self) -> str:
        return str(self.args[0])


class StepInterrupted(FlowkitError):
    """An `at_most_once` step was in flight at a crash: it may or may not have happened (rule D3)."""


class StepTimeout(FlowkitError, TimeoutError):
    """A step or task took longer than its `timeout`."""


class EventTimeout(FlowkitError, TimeoutError):
    """No event of that name arrived in time."""


class ResultTimeout(FlowkitError, TimeoutError):
    """The run is not finished yet; it goes on."""


class RunConflict(FlowkitError):
    """The run id is taken by a run with another task or other arguments."""


class RunCancelled(FlowkitError):
    """The run was cancelled."""


class RunNotFound(FlowkitError):
    """No run has this id (or it has been pruned)."""


class RunFinished(FlowkitError):
    """The run is finished already, so nothing can be sent to it."""


class RunRolledBack(FlowkitError):
    """The run's compensation has run, so it cannot be retried; `flow.fork` starts it afresh."""


class RunBlocked(FlowkitError):
    """The run can go no further until a person mends something; nothing was lost, `flow.retry` resumes it."""


class NonDeterminismError(RunBlocked):
    """What the body called differs from what its journal recorded (rule I3)."""


class NotDurableWarning(UserWarning):
    """A step ran as a plain function although a task was running: its result is not recorded (rule I2)."""


class ReplayWarning(UserWarning):
    """A replay differs from the record in a way that does no harm by itself, as arguments do (rule I3)."""


class LeaseLost(FlowkitError):
    """Another worker has taken the run over: this one may record nothing more (rule D4)."""


class NoBranch(FlowkitError):
    """No condition of a `branch` held."""


class AllFailed(FlowkitError, ExceptionGroup[Exception]):
    """Every block of a `race` or `then_any` failed."""

    def derive(self, excs: list[Exception], /) -> Self:  # type: ignore[override]  # narrower than the base on purpose
        """A group of the same kind with other errors, as `split` and `subgroup` need it."""
        return type(self)(self.message, excs)


class RaceLost(FlowkitError):
    """Why what the loser of a race has completed is undone; it is recorded, and never raised."""


class CompensationFailed(FlowkitError, ExceptionGroup[Exception]):
    """Undos failed for good: first what caused the rollback, then what is left undone."""

    def derive(self, excs: list[Exception], /) -> Self:  # type: ignore[override]  # narrower than the base on purpose
        """A group of the same kind with other errors, as `split` and `subgroup` need it."""
        return type(self)(self.message, excs)


class StorageError(FlowkitError):
    """The storage cannot be used or did not do what was asked; nothing was half-written."""


class StorageNotDurable(StorageError):
    """The storage keeps less than was asked for; the message says what to change."""
