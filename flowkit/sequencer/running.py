"""A chain that can be run: as a run of its own, inside a task, inside a step."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Self, TypeVar, cast

import attrs

from flowkit.active import active_flow
from flowkit.binding import Bound
from flowkit.calls import require_async
from flowkit.errors import ConfigurationError, WrongColour
from flowkit.registry import TaskSpec
from flowkit.run import current
from flowkit.scopes import InnerScope, task_frame
from flowkit.sequencer.blocks import require_no_run_options
from flowkit.sequencer.chain import Chain
from flowkit.sequencer.forms import Form, caller, first_form, next_form, origin_of
from flowkit.sequencer.perform import perform, perform_async
from flowkit.sequencer.requests import Meaning
from flowkit.tasks import AioTask, Runnable

I = TypeVar("I")  # noqa: E741  # the sequencer's input, as it is written everywhere
V = TypeVar("V")

_OF_THE_CHAIN = frozenset(
    {"id", "fn", "is_async", "digest", "parameters", "hint", "policy", "timeout_s", "outline", "cron"}
)
_OF_A_RUN = tuple(field.name for field in attrs.fields(TaskSpec) if field.name not in _OF_THE_CHAIN)


class RunnableChain(Runnable[[I], V]):
    """What a sequencer has in common with a task."""

    def __init__(self, form: Form, options: TaskSpec | None = None) -> None:
        self._form = form
        self._options = options
        self.__name__ = self.__qualname__ = form.chain.name

    # ---- what it is ---------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name, under which it is a block of others."""
        return self._chain.name

    @property
    def id(self) -> str:
        """The id of the task that it is when it runs by itself: its name, unless that is another's."""
        return self._form.id

    @property
    def pipeline(self) -> Chain:
        """What it does, for a sequencer around it."""
        return self._chain

    @property
    def spec(self) -> TaskSpec:
        """Its definition as a task; whoever looks at it may run it, so it keeps its id from then on."""
        return self._merged(self._form.keep())

    @spec.setter
    def spec(self, spec: TaskSpec) -> None:
        self._options = spec

    @property
    def _chain(self) -> Chain:
        return self._form.chain

    def _definition(self) -> TaskSpec:
        return self._merged(self._form.spec)

    def _merged(self, spec: TaskSpec) -> TaskSpec:
        given = self._options
        if given is None:
            return spec
        return attrs.evolve(spec, **{name: getattr(given, name) for name in _OF_A_RUN})

    # ---- building -----------------------------------------------------------------------------------------------

    def _where(self, method: str) -> str:
        return f"sequencer {self._chain.name!r}.{method}"

    def _with(self, spec: TaskSpec) -> Self:
        chain = self._chain
        before = self._form.spec
        if spec.policy is before.policy and spec.timeout_s == before.timeout_s:
            return type(self)(self._form, spec)
        changed = attrs.evolve(chain, policy=spec.policy, timeout_s=spec.timeout_s)
        return type(self)(next_form(changed), spec)

    def _renamed(self, name: str) -> Self:
        require_name(name, f"sequencer {self._chain.name!r}.named")
        chain = attrs.evolve(self._chain, name=name, origin=origin_of(caller(2)))
        return type(self)(first_form(chain), self._options)

    # ---- running ------------------------------------------------------------------------------------------------

    def __call__(self, value: I, /) -> V:
        """Run it to its end. Inside a task it is a part of that task; inside a step it is plain.

        Raises:
            WrongColour: something in it is async, or it is called in an async task; await `.aio(value)`.
        """
        chain, name = self._chain, self._chain.name
        if chain.is_async:
            raise WrongColour(
                f"sequencer {name!r} is async, as something in it is: write `await {name}.aio(...)`, or flow.run(...)"
            )
        if current.get() is None:
            return cast("V", active_flow().run_spec(self.spec, (value,), {}))
        frame = task_frame(name)
        if frame is not None and frame.run.is_async:
            raise WrongColour(f"sequencer {name!r} is called in an async task: write `await {name}.aio(...)`")
        return cast("V", perform(self._inside(value)))

    @property
    def aio(self) -> AioSequencer[I, V]:
        """The same sequencer, awaitable."""
        return AioSequencer(self)

    def bind(self, value: I, /) -> Bound[V]:
        """The run with this value, not begun yet: for `gather` and `batch_trigger`."""
        return Bound(self.id, self, self._chain.is_async, (value,), {}, self, self.aio)

    def _inside(self, value: object) -> Meaning[object]:
        """As a part of the run around it: a scope of its own, with side work of its own."""
        options = self._options
        if options is not None:
            require_no_run_options(options, self._where("__call__"))
        key = None if options is None else options.key
        with InnerScope(self._chain.name, key=key, own_work=True):
            return (yield from self._chain.run(value))

    async def _run_async(self, value: object) -> object:
        if current.get() is None:
            return await active_flow().run_spec_async(self.spec, (value,), {})
        frame = task_frame(self._chain.name)
        if frame is not None:
            require_async(frame.run, self._chain.name)
        return await perform_async(self._inside(value))


class AioSequencer(AioTask[[I], V]):
    """The awaitable form of a sequencer."""

    def __init__(self, sequencer: RunnableChain[I, V]) -> None:
        super().__init__(sequencer)
        self._sequencer = sequencer

    def __call__(self, value: I, /) -> Coroutine[Any, Any, V]:
        """Run it to its end, awaited. Inside a task it is a part of that task."""
        return cast("Coroutine[Any, Any, V]", self._sequencer._run_async(value))  # noqa: SLF001  # its other half


def require_name(name: object, where: str) -> None:
    """Refuse what is no name.

    Raises:
        ConfigurationError: it is no text, or empty.
    """
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"{where}({name!r}): the name must be a text that is not empty")
