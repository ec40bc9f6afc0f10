"""How many runs of a task may be under way at a time: what users say, and what the storage holds them to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from uuid import UUID

from attrs import field

from flowkit.errors import ConfigurationError
from flowkit.frozen import frozen
from flowkit.functions import is_async_function
from flowkit.notes import add_note
from flowkit.records import Limit

LimitKey = str | int | UUID


@frozen
class Concurrency:
    """How many runs of a task may be advanced at a time, on all machines together.

    A run takes a place when a worker takes it up, and gives it back when it ends or waits (for a time, an event, a
    child). What has no place waits in its queue, by priority and age, and holds up no other task and no other key. The
    place of a process that died is free when its lease ends; on disk at once. The limit counts for the runs of the task
    in one queue; runs that exist already keep the limit that they were created with.

    Args:
        limit: how many, 1 or more.
        key: makes the runs' arguments into a text, number or UUID: each of these then has so many places of its own.
            It is called with the arguments of the run, when the run is created, and must follow from them alone.

    Raises:
        ConfigurationError: the limit or the key is wrong.

    Example:
        >>> from flowkit import Concurrency, task
        >>> @task(id="docs-sync", concurrency=Concurrency(1, key=lambda customer: customer))
        ... def sync(customer: str) -> None:
        ...     "One at a time for each customer."
    """

    limit: int = field()
    key: Callable[..., LimitKey] | None = field(default=None)

    def __attrs_post_init__(self) -> None:
        if type(self.limit) is not int or self.limit < 1:
            raise ConfigurationError(f"Concurrency(limit={self.limit!r}): write a whole number, 1 or more")
        if self.key is not None and (not callable(self.key) or is_async_function(self.key)):
            raise ConfigurationError(
                f"Concurrency(key={self.key!r}): write a plain function of the run's arguments that returns a text"
            )


def concurrency_from(given: int | Concurrency | None, where: str) -> Concurrency | None:
    """What `@task(concurrency=...)` was given.

    Raises:
        ConfigurationError: it is neither a number nor a `Concurrency`.
    """
    if given is None or isinstance(given, Concurrency):
        return given
    if type(given) is not int or given < 1:
        raise ConfigurationError(
            f"{where}: concurrency={given!r} must be a whole number, 1 or more, or a Concurrency(limit, key=...)"
        )
    return Concurrency(given)


def limit_of(
    concurrency: Concurrency | None, task_id: str, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> Limit | None:
    """The limit of a run with these arguments.

    Raises:
        ConfigurationError: its key is no text, number or UUID. What the key function raises comes as it is.
    """
    if concurrency is None:
        return None
    if concurrency.key is None:
        return Limit(concurrency.limit)
    try:
        key = concurrency.key(*args, **kwargs)
    except Exception as error:
        add_note(error, f"raised by the key of @task(concurrency=...) of task {task_id!r}: the run was not created")
        raise
    if not isinstance(key, LimitKey):
        raise ConfigurationError(
            f"task {task_id!r}: the key of its Concurrency returned {key!r}; it must return a text, a number or a UUID"
        )
    return Limit(concurrency.limit, str(key))
