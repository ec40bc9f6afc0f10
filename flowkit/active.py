"""Which `Flow` a decorated task runs in: this context's, else the only open one, else a default one (see api.md)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

from flowkit.engine import Engine
from flowkit.errors import ConfigurationError
from flowkit.registry import TaskSpec
from flowkit.spawning import Start


class Runner(Protocol):
    """An open `Flow`, as tasks see it."""

    @property
    def engine(self) -> Engine:
        """What advances its runs."""

    def run_spec(self, spec: TaskSpec, args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
        """Run here, to the end."""

    def run_spec_async(
        self, spec: TaskSpec, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> Coroutine[Any, Any, object]:
        """Run here, to the end, awaited."""

    def submit_spec(self, spec: TaskSpec, args: tuple[object, ...], kwargs: Mapping[str, object]) -> str:
        """Put a run into its queue; returns its id."""

    def submit_batch(self, starts: Sequence[Start]) -> tuple[str, ...]:
        """Put many runs into their queues; returns their ids."""


in_context: ContextVar[Runner | None] = ContextVar("flowkit_flow", default=None)
_lock = threading.Lock()
_open: list[Runner] = []
_make_default: list[Callable[[], Runner]] = []


def opened(flow: Runner) -> None:
    """A flow was opened."""
    with _lock:
        _open.append(flow)


def closed(flow: Runner) -> None:
    """A flow was closed."""
    with _lock:
        if flow in _open:
            _open.remove(flow)


def default_from(make: Callable[[], Runner]) -> None:
    """How to open a flow from the configuration, when none is open."""
    _make_default[:] = [make]


def active_flow() -> Runner:
    """The flow to run in.

    Raises:
        ConfigurationError: several are open and none belongs to this context.
    """
    flow = in_context.get()
    if flow is not None:
        return flow
    with _lock:
        if len(_open) == 1:
            return _open[0]
        count = len(_open)
    if count:
        raise ConfigurationError(
            f"{count} flows are open and none belongs to this context (thread or asyncio task): "
            "say which, with `with flow:` around the call or `flow.run(task, ...)`"
        )
    return _make_default[0]()
