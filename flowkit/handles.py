"""`RunHandle`: a run seen from outside."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Generic, TypeVar, cast

from flowkit.documents import describe_error
from flowkit.durations import Duration, seconds
from flowkit.effects import Raised
from flowkit.engine import LONGEST_VIRTUAL_WAIT_S, LONGEST_WAIT_S, Engine
from flowkit.errors import ResultTimeout, RunNotFound
from flowkit.following import items_of, items_of_async
from flowkit.frozen import frozen
from flowkit.items import Item
from flowkit.records import Delivery, Message, MessageKind, RunStatus, Snapshot

R = TypeVar("R")


@frozen
class RunResult(Generic[R]):
    """How a run ended; never raises by itself."""

    run_id: str
    status: RunStatus
    output: R | None = None
    error: BaseException | None = None

    @property
    def ok(self) -> bool:
        """True if the run succeeded."""
        return self.status is RunStatus.SUCCEEDED

    def unwrap(self) -> R:
        """The output, or raises the error."""
        if self.error is not None:
            raise self.error
        return cast("R", self.output)


class RunHandle(Generic[R]):
    """A run, by its id. Making one reads nothing."""

    def __init__(self, engine: Engine, run_id: str) -> None:
        self._engine = engine
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
        """Ask the run to stop; False if it had finished already."""
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

        Raises:
            ResultTimeout: it is not finished in time; it goes on.
        """
        engine = self._engine
        deadline_ms = None
        if timeout is not None:
            deadline_ms = engine.clock.now_ms() + round(seconds(timeout, "timeout") * 1000)
        while True:
            snapshot = engine.snapshot(self.id)
            if snapshot.result is not None:
                return self._result_of(snapshot)
            wait_s = LONGEST_VIRTUAL_WAIT_S if engine.clock.virtual else LONGEST_WAIT_S
            if deadline_ms is not None:
                left_s = (deadline_ms - engine.clock.now_ms()) / 1000
                if left_s <= 0:
                    raise ResultTimeout(f"run {self.id!r} is {snapshot.header.status} after {timeout!s}; it goes on")
                wait_s = min(wait_s, left_s)
            engine.storage.wait_for_run(self.id, snapshot.header.revision, wait_s)

    def items(self, after: int = 0, *, follow: bool = False) -> Iterator[Item]:
        """What the run has emitted, its side work's failures and its changes of status, in order.

        Args:
            after: the `seq` of the last item that is known already.
            follow: wait for what is still to come, from whatever process, until the run has ended or is blocked.

        Raises:
            RunNotFound: there is no such run.
        """
        return items_of(self._engine, self.id, after, follow=follow)

    def _result_of(self, snapshot: Snapshot) -> RunResult[R]:
        header, raw = snapshot.header, snapshot.result
        assert raw is not None  # callers have looked
        if header.status is RunStatus.BLOCKED:
            return RunResult(self.id, header.status, None, describe_error(self._engine.codec, raw))
        outcome = self._engine.outcome_of(header.task, raw)
        if isinstance(outcome, Raised):
            return RunResult(self.id, header.status, None, outcome.error)
        return RunResult(self.id, header.status, cast("R", outcome.value))


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

    async def result(self, timeout: Duration | None = None) -> R:
        """The value that the run returned, or raises what it raised."""
        return (await self.wait_for_completion(timeout)).unwrap()

    async def wait_for_completion(self, timeout: Duration | None = None) -> RunResult[R]:
        """Wait until the run has ended and tell how."""
        return await asyncio.to_thread(self._handle.wait_for_completion, timeout)

    def items(self, after: int = 0, *, follow: bool = False) -> AsyncIterator[Item]:
        """What the run has emitted, its side work's failures and its changes of status, in order."""
        return items_of_async(self._handle._engine, self.id, after, follow=follow)  # noqa: SLF001  # its other half
