"""Which tasks this process knows, by id: what a worker needs to find the function of a stored run."""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import CodeType

from attrs import field

from flowkit.codec import Json
from flowkit.cron import Cron
from flowkit.digest import ArgumentDigest
from flowkit.errors import ConfigurationError
from flowkit.frozen import frozen
from flowkit.hints import call_hints
from flowkit.limits import Concurrency
from flowkit.operations import UndoSpec
from flowkit.overrides import NONE, Overrides
from flowkit.retry import Retry, RetryPolicy


@frozen
class TaskSpec:
    """What is known of a task before it is run."""

    id: str
    fn: Callable[..., object]
    is_async: bool
    digest: ArgumentDigest = field(eq=False)
    parameters: Mapping[str, object] = field(eq=False)  # annotations by name
    hint: object = field(eq=False)
    policy: RetryPolicy = field(factory=Retry)
    queue: str = "default"
    timeout_s: float | None = None
    tags: tuple[str, ...] = ()
    priority: int = 0
    run_id: str | None = None
    key: str | None = None
    delay_s: float | None = None
    expires_s: float | None = None
    undo: UndoSpec | None = None  # of a completed child run
    outline: Json = field(default=None, eq=False)  # of a sequencer: what its runs carry, to be drawn
    concurrency: Concurrency | None = None
    cron: Cron | None = None
    overrides: Overrides = NONE  # given with `.options(...)`: they travel with the run

    @property
    def origin(self) -> tuple[str, str]:
        """Module and qualified name: the same function defined again replaces itself."""
        return self.fn.__module__, qualified_name(self.fn) or type(self.fn).__qualname__


def task_spec(fn: Callable[..., object], task_id: str | None, *, is_async: bool) -> TaskSpec:
    """A task around a function, without options."""
    parameters, hint = call_hints(fn)
    return TaskSpec(task_id or _default_id(fn), fn, is_async, ArgumentDigest(fn), parameters, hint)


def qualified_name(fn: Callable[..., object]) -> str | None:
    """A function's qualified name; a partial and an object that can be called have none."""
    name = getattr(fn, "__qualname__", None)
    return name if isinstance(name, str) else None


def _default_id(fn: Callable[..., object]) -> str:
    name = qualified_name(fn)
    if name is None:
        raise ConfigurationError(
            f'{fn!r} has no name that its runs could be stored under; give it one: @task(id="...")'
        )
    return f"{module_name(fn)}:{name}"


def module_name(fn: Callable[..., object]) -> str:
    """The module's real name, also while it runs as `__main__`: a run is resumed by whoever imports it."""
    if fn.__module__ != "__main__":
        return fn.__module__
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else "__main__"


@functools.lru_cache(maxsize=1024)
def signature_of(fn: Callable[..., object]) -> inspect.Signature:
    """What the function can be called with; read once, as every start of a run asks for it."""
    return inspect.signature(fn)


def hint_for(spec: TaskSpec, position: int) -> object:
    """The annotation of a positional argument."""
    names = list(signature_of(spec.fn).parameters)
    if position < len(names):
        return spec.parameters.get(names[position], object)
    return object


class Registry:
    """Tasks by id; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskSpec] = {}
        self._listeners: list[Callable[[], None]] = []

    def add(self, spec: TaskSpec, *, replace: bool = False) -> None:
        """Make a task known.

        Args:
            spec: what is known of it.
            replace: whoever has the id gives it up.

        Raises:
            ConfigurationError: if another function has this id.
        """
        with self._lock:
            known = None if replace else self._tasks.get(spec.id)
            if known is not None and known.origin != spec.origin and not _same_file(known, spec):
                raise ConfigurationError(
                    f"task id {spec.id!r} is taken by {'.'.join(known.origin)}; {'.'.join(spec.origin)} needs another: "
                    '@task(id="...")'
                )
            self._tasks[spec.id] = spec
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def remove(self, task_id: str) -> None:
        """Forget a task that nobody can run any more."""
        with self._lock:
            self._tasks.pop(task_id, None)

    def find(self, task_id: str) -> TaskSpec | None:
        """The task of that id, if this process has it."""
        return self._tasks.get(task_id)

    def ids(self) -> tuple[str, ...]:
        """All task ids that this process has."""
        with self._lock:
            return tuple(self._tasks)

    def all(self) -> tuple[TaskSpec, ...]:
        """All tasks that this process has."""
        with self._lock:
            return tuple(self._tasks.values())

    def listen(self, listener: Callable[[], None]) -> None:
        """Call this whenever a task becomes known."""
        with self._lock:
            self._listeners.append(listener)

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Stop calling it."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)


def _same_file(one: TaskSpec, other: TaskSpec) -> bool:
    """A file that runs as `__main__` and is imported as well defines each of its tasks twice."""
    return (
        one.origin[1] == other.origin[1]
        and _file(one.fn) == _file(other.fn) is not None
        and "__main__" in (one.fn.__module__, other.fn.__module__)
    )


def _file(fn: Callable[..., object]) -> str | None:
    code = getattr(fn, "__code__", None)
    return code.co_filename if isinstance(code, CodeType) else None


tasks = Registry()
