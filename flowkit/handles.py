"""`RunHandle`: a run seen from outside."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Final, Generic, TypeVar

from flowkit.durations import Duration
from flowkit.engine import Engine
from flowkit.errors import RunNotFound
from flowkit.following import items_of, items_of_async
from flowkit.items import Item
from flowkit.joining import Goal
from flowkit.records import Delivery, Message, MessageKind, RunStatus
from flowkit.waiting import RunResult, task_frame, wait_in_task, wait_later, wait_outside

R = TypeVar("R")
_Wait = Callable[[], Coroutine[Any, Any, list[RunResult[R]]]]
UNKNOWN_TASK: Final = "run"  # the name of a wait for a run of which nothing but its id is known


class RunHandle(Generic[R]):
    """A run, by its id. Making one reads nothing."""

    def __init__(self, engine: Engine, run_id: str, task_id: str = UNKNOWN_TASK) -> None:
        self._engine = engine
        self._task_id = task_id
        self.id = run_id

    def __repr__(self) -> str:
        return f"<RunHandle {self.id}>"

    @property
    def aio(self) -> AioRunHandle[R]:
        """The same handle, awaitable."""
        return AioRunHandle(self)

    def status(self) -> RunStatus:
        """Where the run stands now.

        Raises:
            RunNotFound: there is no such run.
        """
        return self._engine.snapshot(self.id).header.status

    def cancel(self) -> bool:
        """Ask the run to stop; False if it had finished already.

        A step that is running, sync or async, is not interrupted: it runs to its end and is recorded, and the
        cancellation is raised at the task's next durable call (rule E2). A run that waits is cancelled at once.
        """
        message = Message(f"cancel:{uuid.uuid4().hex}", MessageKind.CANCEL)
        delivery = self._engine.tell(self.id, message)
        if delivery is Delivery.MISSING:
            raise RunNotFound(f"there is no run {self.id!r} in this storage")
        return delivery is not Delivery.CLOSED

    def result(self, timeout: Duration | None = None) -> R:
        """The value that the run returned.

        Args:
            timeout: how long to wait for it: seconds, `timedelta` or text; None: as long as it takes.

        Raises:
            ResultTimeout: it is not finished in time; it goes on.
            Exception: what the run raised, as itself; `RunCancelled`, `RunBlocked` if that is how it stands.
        """
        return self.wait_for_completion(timeout).unwrap()

    def wait_for_completion(self, timeout: Duration | None = None) -> RunResult[R]:
        """Wait until the run has ended (or is blocked) and tell how; never raises for a failed run.

        Inside a task the wait is recorded, and the run that waits is let go of meanwhile.

        Raises:
            ResultTimeout: it is not finished in time; it goes on.
        """
        frame = task_frame()
        if frame is None:
            return wait_outside(self._engine, (self.id,), timeout, Goal())[0]
        return wait_in_task(frame, self._engine, self._task_id, (self.id,), timeout, Goal())[0]

    def items(self, after: int = 0, *, follow: bool = False) -> Iterator[Item]:
        """What the run has emitted, its side work's failures and its changes of status, in order.

        Args:
            after: the `seq` of the last item that is known already.
            follow: wait for what is still to come, from whatever process, until the run has ended or is blocked.

        Raises:
            RunNotFound: there is no such run.
        """
        return items_of(self._engine, self.id, after, follow=follow)


class AioRunHandle(Generic[R]):
    """The awaitable form of `RunHandle`."""

    def __init__(self, handle: RunHandle[R]) -> None:
        self._handle = handle
        self.id = handle.id

    async def status(self) -> RunStatus:
        """Where the run stands now."""
        return await asyncio.to_thread(self._handle.status)

    async def cancel(self) -> bool:
        """Ask the run to stop; False if it had finished already."""
        return await asyncio.to_thread(self._handle.cancel)

    def result(self, timeout: Duration | None = None) -> Coroutine[Any, Any, R]:
        """The value that the run returned, or raises what it raised."""
        return _value(self._wait(timeout))

    def wait_for_completion(self, timeout: Duration | None = None) -> Coroutine[Any, Any, RunResult[R]]:
        """Wait until the run has ended and tell how."""
        return _first(self._wait(timeout))

    def _wait(self, timeout: Duration | None) -> _Wait[R]:
        handle = self._handle
        return wait_later(handle._engine, handle._task_id, (self.id,), timeout, Goal())  # noqa: SLF001  # its other half

    def items(self, after: int = 0, *, follow: bool = False) -> AsyncIterator[Item]:
        """What the run has emitted, its side work's failures and its changes of status, in order."""
        return items_of_async(self._handle._engine, self.id, after, follow=follow)  # noqa: SLF001  # its other half


async def _first(wait: _Wait[R]) -> RunResult[R]:
    return (await wait())[0]


async def _value(wait: _Wait[R]) -> R:
    return (await wait())[0].unwrap()
