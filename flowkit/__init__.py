"""flowkit: durable workflows in plain Python, proven against crashes."""

from flowkit import aio
from flowkit.batches import Batch
from flowkit.converging import wait_for_work
from flowkit.cron import Cron
from flowkit.errors import (
    AllFailed,
    AmbiguousOrder,
    CompensationFailed,
    ConfigurationError,
    EventTimeout,
    FlowkitError,
    LeaseLost,
    NoBranch,
    NonDeterminismError,
    NonRetryable,
    NotAllowedInStep,
    NotDurableWarning,
    OutsideRun,
    ReplayWarning,
    ResultTimeout,
    RunBlocked,
    RunCancelled,
    RunConflict,
    RunFinished,
    RunNotFound,
    RunRolledBack,
    SerializationError,
    StepError,
    StepInterrupted,
    StepTimeout,
    StorageError,
    StorageNotDurable,
    UsageError,
    ValueMismatch,
    WrongColour,
)
from flowkit.events import wait_for_event
from flowkit.facts import RunInfo, current_run, now, patched, rng, uuid4
from flowkit.fan_out import each, gather
from flowkit.flow import Flow
from flowkit.handles import RunHandle
from flowkit.items import Item, ItemType, emit
from flowkit.limits import Concurrency
from flowkit.records import RunStatus
from flowkit.retry import Retry
from flowkit.saga import on_rollback, saga
from flowkit.sequencer import Sequencer, sequencer
from flowkit.side_work import WorkHandle, WorkOutcome, work
from flowkit.steps import AsyncStep, Step, step
from flowkit.tasks import AsyncTask, Task, task
from flowkit.timers import sleep, sleep_until
from flowkit.waiting import RunResult

__all__ = [
    "AllFailed",
    "AmbiguousOrder",
    "AsyncStep",
    "AsyncTask",
    "Batch",
    "CompensationFailed",
    "Concurrency",
    "ConfigurationError",
    "Cron",
    "EventTimeout",
    "Flow",
    "FlowkitError",
    "Item",
    "ItemType",
    "LeaseLost",
    "NoBranch",
    "NonDeterminismError",
    "NonRetryable",
    "NotAllowedInStep",
    "NotDurableWarning",
    "OutsideRun",
    "ReplayWarning",
    "ResultTimeout",
    "Retry",
    "RunBlocked",
    "RunCancelled",
    "RunConflict",
    "RunFinished",
    "RunHandle",
    "RunInfo",
    "RunNotFound",
    "RunResult",
    "RunRolledBack",
    "RunStatus",
    "Sequencer",
    "SerializationError",
    "Step",
    "StepError",
    "StepInterrupted",
    "StepTimeout",
    "StorageError",
    "StorageNotDurable",
    "Task",
    "UsageError",
    "ValueMismatch",
    "WorkHandle",
    "WorkOutcome",
    "WrongColour",
    "aio",
    "current_run",
    "each",
    "emit",
    "gather",
    "now",
    "on_rollback",
    "patched",
    "rng",
    "saga",
    "sequencer",
    "sleep",
    "sleep_until",
    "step",
    "task",
    "uuid4",
    "wait_for_event",
    "wait_for_work",
    "work",
]
