"""`x.bind(...)`: a call that has its arguments and is not made yet, to hand to `gather`, `each` and batches."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Generic, TypeVar

from attrs import field

from flowkit.frozen import frozen

R_co = TypeVar("R_co", covariant=True)


@frozen
class Bound(Generic[R_co]):
    """A call to be made: of a step, a task, or a function."""

    name: str
    target: object = field(repr=False)  # the step, task or function itself
    is_async: bool
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    plain: Callable[..., Any] = field(repr=False)  # the call in sync code
    awaitable: Callable[..., Coroutine[Any, Any, Any]] | None = field(repr=False)  # the call in async code

    def call(self) -> R_co:
        """Make the call."""
        value: R_co = self.plain(*self.args, **self.kwargs)
        return value
