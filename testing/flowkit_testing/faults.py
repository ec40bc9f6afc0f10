"""What a test makes go wrong: in steps, at the points where a process may die, and in the storage."""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, Protocol, cast

from attrs import define, evolve, field

from flowkit.documents import decode_input
from flowkit.effects import Advance, Effect, End, Invoke, Listen, Pause, Record, RunBody
from flowkit.entries import Phase
from flowkit.errors import StepTimeout
from flowkit.records import Finish
from flowkit.registry import hint_for, tasks
from flowkit_testing.fake_clock import FakeClock
from flowkit_testing.process import Moment
from flowkit_testing.which import Which

At = Literal["before_effect", "after_effect", "before_commit", "after_commit"]
AT: tuple[At, ...] = ("before_effect", "after_effect", "before_commit", "after_commit")
Outcome = Literal["not_applied", "applied_ack_lost"]
OUTCOMES: tuple[Outcome, ...] = ("not_applied", "applied_ack_lost")
_OUTCOMES = frozenset({Phase.DONE, Phase.FAILED, Phase.CANCELLED})


class InjectedFault(ConnectionError):
    """A storage did not answer because the test wanted it so."""


class PredicateFailed(BaseException):
    """A `when=` could not say whether a call is meant: a mistake of the test, not of the workflow."""


When = Callable[..., bool]
"""Says of the arguments of a call whether it is meant."""


@define(eq=False)
class StepFault:
    """Something that happens to attempts of a step."""

    which: Which
    times: int | None = None  # attempts that it happens to; None: every one
    when: When | None = None
    fired: int = 0

    def applies(self, moment: Moment, effect: Invoke) -> bool:
        """True if it happens to this attempt."""
        if self.times is not None and self.fired >= self.times:
            return False
        if not self.which(moment.call):
            return False
        return self.when is None or _says(self, self.when, effect.args, effect.kwargs)

    def plan(self, moment: Moment, effect: Invoke) -> Invoke:
        """The attempt as it will be."""
        raise NotImplementedError  # each kind of fault says it; nothing makes a bare one

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()}({str(self.which)!r}{_told(self.when)})"


@define(eq=False)
class Fail(StepFault):
    """The attempt raises instead of running the body."""

    error: BaseException | type[BaseException] = Exception

    def plan(self, moment: Moment, effect: Invoke) -> Invoke:
        """The attempt as it will be."""
        error = self.error

        def fail(*_args: object, **_kwargs: object) -> object:
            raise error if isinstance(error, type) else _fresh(error)

        del moment
        return _instead(effect, fail)


@define(eq=False)
class Mock(StepFault):
    """The attempt returns a result instead of running the body."""

    result: object = None

    def plan(self, moment: Moment, effect: Invoke) -> Invoke:
        """The attempt as it will be."""
        del moment
        return _instead(effect, lambda *_args, **_kwargs: self.result)


@define(eq=False)
class Timeout(StepFault):
    """The attempt takes longer than it may."""

    def plan(self, moment: Moment, effect: Invoke) -> Invoke:
        """The attempt as it will be."""
        return _delayed(moment, effect, None)


@define(eq=False)
class Delay(StepFault):
    """The attempt takes so much longer, in virtual time."""

    delay_s: float = 0.0

    def plan(self, moment: Moment, effect: Invoke) -> Invoke:
        """The attempt as it will be."""
        return _delayed(moment, effect, self.delay_s)


@define(eq=False)
class Strike:
    """Something that happens to the process at a point of a step, once."""

    which: Which
    at: At
    act: Callable[[Moment, Strike], None]
    name: str = "crash"
    when: When | None = None
    fired: int = 0
    _meant: dict[tuple[str, str], bool] = field(factory=dict)  # what `when` has said, by run and key

    def strike(self, moment: Moment, *, after: bool) -> None:
        """Do it, if this is the point; may raise."""
        if self.fired or not self.which(moment.call):
            return
        if self.when is not None and not self._is_meant(moment, self.when):
            return
        if after is not self.at.startswith("after"):
            return
        if is_outcome(moment.effect) if self.at.endswith("commit") else _is_effect(moment.effect):
            self.fired += 1
            self.act(moment, self)

    def _is_meant(self, moment: Moment, when: When) -> bool:
        """What the predicate says of the arguments, which are known as soon as the call begins."""
        call = (moment.run.id, moment.effect.key)
        given = arguments_of(moment)
        if given is not None:
            self._meant[call] = _says(self, when, *given)
        return self._meant.get(call, False)

    def __str__(self) -> str:
        return f"{self.name}({str(self.which)!r}, at={self.at!r}{_told(self.when)})"


@define(eq=False)
class StorageFault:
    """A call of the storage is not answered, once."""

    operation: str
    nth: int
    outcome: Outcome
    fired: int = 0
    seen: int = 0

    def due(self, operation: str) -> bool:
        """Count a call; True if it is the one."""
        if operation != self.operation:
            return False
        self.seen += 1
        if self.seen != self.nth:
            return False
        self.fired += 1
        return True

    def __str__(self) -> str:
        return f"storage_fault({self.operation!r}, nth={self.nth}, outcome={self.outcome!r}), of {self.seen} calls"


class Fault(Protocol):
    """What all faults have."""

    fired: int


def arguments_of(moment: Moment) -> tuple[tuple[object, ...], Mapping[str, object]] | None:
    """What a step, a task or a child is being called with; None of other effects."""
    match moment.effect:
        case Invoke(args=args, kwargs=kwargs) | RunBody(args=args, kwargs=kwargs):
            return args, kwargs
        case Advance(run=new):
            spec, codec = tasks.find(new.task), moment.run.codec
            if spec is None:
                return None
            given = decode_input(codec, new.input)
            return (
                tuple(codec.from_json(arg, hint_for(spec, i)) for i, arg in enumerate(given.args)),
                {name: codec.from_json(arg, spec.parameters.get(name, object)) for name, arg in given.kwargs.items()},
            )
        case _:
            return None


def _says(fault: object, when: When, args: tuple[object, ...], kwargs: Mapping[str, object]) -> bool:
    try:
        return bool(when(*args, **kwargs))
    except Exception as error:
        given = ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())])
        raise PredicateFailed(
            f"the predicate of {fault} is called as the step is, here with ({given}), and raised "
            f"{type(error).__name__}: {error}"
        ) from error


def _told(when: When | None) -> str:
    return "" if when is None else f", when={getattr(when, '__name__', when)}"


def _is_effect(effect: Effect) -> bool:
    return isinstance(effect, Invoke | Advance | Pause | Listen)


def is_outcome(effect: Effect) -> bool:
    """True if it makes the outcome of an operation, or of the run, durable."""
    if isinstance(effect, End):
        return isinstance(effect.then, Finish)
    return isinstance(effect, Record) and effect.phase in _OUTCOMES


def _instead(effect: Invoke, fn: Callable[..., object]) -> Invoke:
    """The same attempt with another function, which takes no time."""
    if effect.threaded or not _is_async(effect):
        return evolve(effect, fn=fn, timeout_s=None)

    async def awaited(*args: object, **kwargs: object) -> object:
        return fn(*args, **kwargs)

    return evolve(effect, fn=awaited, timeout_s=None)


def held_back(moment: Moment, effect: Invoke, delay_s: float) -> Invoke:
    """The same attempt, whose outcome comes so much later than it would, its time limit notwithstanding.

    A sync step is not: in an async body it blocks what could overtake it, elsewhere its thread waits for its turn.
    """
    clock = moment.process.world.clock
    if effect.threaded or not _is_async(effect):
        return effect
    fn, limit_s = cast("Callable[..., Awaitable[object]]", effect.fn), effect.timeout_s

    async def late(*args: object, **kwargs: object) -> object:
        limit = asyncio.timeout(limit_s)
        try:
            async with limit:
                return await fn(*args, **kwargs)
        except TimeoutError:
            if limit.expired():
                raise _timed_out(moment, limit_s or 0.0) from None
            raise
        finally:
            await clock.sleep_async(delay_s)

    return evolve(effect, fn=late, timeout_s=None)


def _delayed(moment: Moment, effect: Invoke, delay_s: float | None) -> Invoke:
    """The same attempt so much later (None: longer than it may take), or out of time."""
    clock, limit_s = moment.process.world.clock, effect.timeout_s
    late = delay_s is None or (limit_s is not None and delay_s >= limit_s)
    wait_s = (limit_s or 0.0) if late else (delay_s or 0.0)
    error = _timed_out(moment, limit_s or 0.0) if late else None
    if effect.threaded or not _is_async(effect):
        return evolve(effect, fn=_sync_late(clock, effect, wait_s, error))
    return evolve(effect, fn=_async_late(clock, effect, wait_s, error), timeout_s=None if late else limit_s)


def _sync_late(clock: FakeClock, effect: Invoke, wait_s: float, error: StepTimeout | None) -> Callable[..., object]:
    def late(*args: object, **kwargs: object) -> object:
        clock.sleep(wait_s)
        if error is not None:
            raise error
        return effect.fn(*args, **kwargs)

    return late


def _async_late(clock: FakeClock, effect: Invoke, wait_s: float, error: StepTimeout | None) -> Callable[..., object]:
    fn = cast("Callable[..., Awaitable[object]]", effect.fn)

    async def late(*args: object, **kwargs: object) -> object:
        await clock.sleep_async(wait_s)
        if error is not None:
            raise error
        return await fn(*args, **kwargs)

    return late


def _timed_out(moment: Moment, limit_s: float) -> StepTimeout:
    return StepTimeout(
        f"step {moment.call.name!r} of run {moment.run.id!r} took longer than its timeout of {limit_s:g} s"
    )


def _is_async(effect: Invoke) -> bool:
    return inspect.iscoroutinefunction(effect.fn) or inspect.iscoroutinefunction(getattr(effect.fn, "__call__", None))  # noqa: B004  # an object whose __call__ is async


def _fresh(error: BaseException) -> BaseException:
    """An error like this one, without the notes of the last time it was raised: several may end in one group."""
    try:
        fresh = copy.copy(error)
    except Exception:  # noqa: BLE001  # whatever its class does; then it is raised itself, again and again
        fresh = error
    fresh.__dict__.pop("__notes__", None)
    return fresh.with_traceback(None)
