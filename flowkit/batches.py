"""`Batch`: many runs of one task, started together and waited for together."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Generic, TypeVar, cast

from flowkit.durations import Duration
from flowkit.engine import Engine
from flowkit.errors import ConfigurationError
from flowkit.handles import RunHandle
from flowkit.joining import Goal
from flowkit.waiting import (
    RunResult,
    fail_together,
    task_frame,
    wait_in_task,
    wait_later,
    wait_outside,
)

R = TypeVar("R")


class Batch(Generic[R]):
    """Runs of one task that were started together, in the order of their items.

    Example:
        >>> from flowkit import Flow, task
        >>> @task(id="docs-square")
        ... def square(number: int) -> int:
        ...     return number * number
        >>> @task(id="docs-squares")
        ... def squares(numbers: list[int]) -> list[int]:
        ...     return square.batch_trigger(numbers).results()
        >>> with Flow("memory:") as flow:
        ...     flow.run(squares, [1, 2, 3])
        [1, 4, 9]
    """

    def __init__(self, engine: Engine, task_id: str, run_ids: Sequence[str]) -> None:
        self._engine = engine
        self._task_id = task_id
        self._run_ids = tuple(run_ids)

    def __repr__(self) -> str:
        return f"<Batch of {len(self)} {self._task_id}>"

    def __len__(self) -> int:
        return len(self._run_ids)

    def __iter__(self) -> Iterator[RunHandle[R]]:
        return iter(self.handles)

    @property
    def handles(self) -> list[RunHandle[R]]:
        """A handle of each run."""
        return [RunHandle(self._engine, run_id, self._task_id) for run_id in self._run_ids]

    @property
    def aio(self) -> AioBatch[R]:
        """The same batch, awaitable."""
        return AioBatch(self)

    def wait_for_completion(
        self,
        timeout: Duration | None = None,
        *,
        min_successful: int | None = None,
        tolerated_failures: int | None = None,
    ) -> list[RunResult[R]]:
        """Wait until all have ended, and tell how, in order; never raises for a failed run.

        With a threshold it is over sooner: as soon as `min_successful` have succeeded, or more have failed than are
        tolerated. What has not ended by then is told as running, and goes on. Inside a task the decision is recorded,
        so a replay sees the same; the run is let go of meanwhile.

        Args:
            timeout: how long to wait: seconds, `timedelta` or text; None: as long as it takes.
            min_successful: so many are enough.
            tolerated_failures: more failures than this end the wait.

        Raises:
            ResultTimeout: not enough of them are finished in time; they go on.
            ConfigurationError: a threshold that cannot be reached.
        """
        goal = self._goal(min_successful, tolerated_failures)
        if not self._run_ids:  # E3: an empty batch is over at once
            return []
        frame = task_frame()
        if frame is None:
            return wait_outside(self._engine, self._run_ids, timeout, goal)
        return wait_in_task(frame, self._engine, self._task_id, self._run_ids, timeout, goal)

    def results(self, timeout: Duration | None = None) -> list[R]:
        """The values that the runs have returned, in order, once all have ended.

        Raises:
            Exception: the error of the first, in order, that did not succeed.
            ResultTimeout: they are not all finished in time; they go on.
        """
        return _values(self.wait_for_completion(timeout))

    def _goal(self, min_successful: int | None, tolerated_failures: int | None) -> Goal:
        if min_successful is not None and not (_is_count(min_successful) and 0 <= min_successful <= len(self)):
            raise ConfigurationError(
                f"wait_for_completion(min_successful={min_successful!r}): write a number from 0 to {len(self)}: "
                "there are no more runs"
            )
        if tolerated_failures is not None and not (_is_count(tolerated_failures) and tolerated_failures >= 0):
            raise ConfigurationError(
                f"wait_for_completion(tolerated_failures={tolerated_failures!r}): write a number, 0 or more"
            )
        return Goal(min_successful, tolerated_failures)


class AioBatch(Generic[R]):
    """The awaitable form of `Batch`."""

    def __init__(self, batch: Batch[R]) -> None:
        self._batch = batch
        self.handles = batch.handles

    def wait_for_completion(
        self,
        timeout: Duration | None = None,
        *,
        min_successful: int | None = None,
        tolerated_failures: int | None = None,
    ) -> Coroutine[Any, Any, list[RunResult[R]]]:
        """Wait until all have ended (or a threshold is reached), and tell how, in order."""
        return self._wait(timeout, min_successful, tolerated_failures)()

    def results(self, timeout: Duration | None = None) -> Coroutine[Any, Any, list[R]]:
        """The values that the runs have returned, in order, once all have ended."""
        return _values_async(self._wait(timeout))

    def _wait(
        self, timeout: Duration | None, min_successful: int | None = None, tolerated_failures: int | None = None
    ) -> Callable[[], Coroutine[Any, Any, list[RunResult[R]]]]:
        batch = self._batch
        goal = batch._goal(min_successful, tolerated_failures)  # noqa: SLF001  # its other half
        if not len(batch):
            return _nothing
        return wait_later(batch._engine, batch._task_id, batch._run_ids, timeout, goal)  # noqa: SLF001  # as above


async def _nothing() -> list[RunResult[Any]]:
    return []


def _values(results: list[RunResult[R]]) -> list[R]:
    fail_together(results)
    return [cast("R", result.output) for result in results]


async def _values_async(wait: Callable[[], Coroutine[Any, Any, list[RunResult[R]]]]) -> list[R]:
    return _values(await wait())


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
