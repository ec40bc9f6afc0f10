"""Names for the points where a process may die: before and after every effect and every call of the storage."""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Literal, Protocol, TypeVar, assert_never

from attrs import asdict, define, field, frozen

from flowkit.effects import Advance, Effect, End, Inquire, Invoke, Listen, Pause, Post, Record, Reload, RunBody, Tell
from flowkit.journal import Past
from flowkit.records import Finish
from flowkit.run import Run
from flowkit_testing.process import Moment, Process, Watcher

_T = TypeVar("_T")
TOKEN_PREFIX = "fk1-"  # noqa: S105  # a token of ours is no secret
Fault = Literal["crash", "lease", "stop", "not_applied", "lost_ack", "cancel", "fail", "late", "replay"]
_ASKED = frozenset({"submit", "claim", "load", "commit", "send"})


@frozen
class Point:
    """Before or after something that a process does."""

    what: str  # "run-1: invoke charge (2), attempt 1"
    when: Literal["before", "after"]
    nth: int = 1  # which time that this happens since the start or the last fault

    def __str__(self) -> str:
        return f"{self.when} {self.what}" + (f" (time {self.nth})" if self.nth > 1 else "")


@frozen
class Injury:
    """A fault at a point."""

    fault: Fault
    point: Point

    def __str__(self) -> str:
        return f"{self.fault} {self.point}"


Schedule = tuple[Injury, ...]
REPLAYED = Injury("replay", Point("each recorded step", "after"))
"""No fault: the body is taken off the stack after each step and replayed, which must come to the same."""


def token_of(schedule: Schedule) -> str:
    """A schedule as a word that `--flowkit-replay` takes."""
    text = json.dumps([[injury.fault, *asdict(injury.point).values()] for injury in schedule], separators=(",", ":"))
    return TOKEN_PREFIX + base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")


def schedule_of(token: str) -> Schedule:
    """The schedule that a token stands for.

    Raises:
        ValueError: it is no token.
    """
    body = token.removeprefix(TOKEN_PREFIX)
    if body == token:
        raise ValueError(f"{token!r} is no flowkit token: it begins with {TOKEN_PREFIX}")
    try:
        raw = zlib.decompress(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return tuple(Injury(fault, Point(what, when, nth)) for fault, what, when, nth in json.loads(raw))
    except (ValueError, zlib.error) as error:
        raise ValueError(f"{token!r} is damaged: {error}") from error


def describe(moment: Moment) -> str:
    """What an effect is, the same in every schedule."""
    return describe_effect(moment.run.id, moment.effect)


def describe_effect(run_id: str, effect: Effect) -> str:
    """As `describe`, of an effect of a run."""
    return f"{run_id}: {_describe(effect)}"


def _describe(effect: Effect) -> str:
    match effect:
        case Invoke():
            return f"invoke {effect.name} ({effect.key}), attempt {effect.attempt}"
        case Record():
            return f"record {effect.kind} {effect.name} ({effect.key}) {effect.phase}"
        case Post():
            return f"post {effect.kind} {effect.name} ({effect.key})"
        case Pause() | Listen() | Tell() | Inquire():
            return f"{type(effect).__name__.lower()} {effect.name} ({effect.key})"
        case Advance():
            return f"child {effect.name} ({effect.key})"
        case RunBody():
            return "body"
        case Reload():
            return "reload"
        case End():
            then = effect.then
            return f"end {then.status}" if isinstance(then, Finish) else f"end {type(then).__name__.lower()}"
        case _:
            assert_never(effect)


class OnPoint(Protocol):
    """What is done at each point."""

    def __call__(self, process: Process, point: Point) -> None:
        """May raise."""


@define(eq=False)
class Passing:
    """A watcher that names the points as they are passed, in front of another watcher."""

    inner: Watcher
    on_point: OnPoint
    counts: Counter[tuple[str, str]] = field(factory=Counter)

    def pass_by(self, process: Process, what: str, when: Literal["before", "after"]) -> None:
        """A point is passed."""
        self.counts[what, when] += 1
        self.on_point(process, Point(what, when, self.counts[what, when]))

    def before(self, moment: Moment) -> Effect:
        """An effect is about to be performed."""
        self.pass_by(moment.process, describe(moment), "before")
        return self.inner.before(moment)

    def after(self, moment: Moment, answer: object) -> object:
        """An effect was performed."""
        answer = self.inner.after(moment, answer)
        self.pass_by(moment.process, describe(moment), "after")
        return answer

    def over(self, moment: Moment) -> None:
        """An effect has been performed, or has failed."""
        self.inner.over(moment)

    def recalled(self, run: Run, past: Past) -> None:
        """The journal answers a call."""
        self.inner.recalled(run, past)

    def asked(self, process: Process, operation: str, perform: Callable[[], _T]) -> _T:
        """A process calls its storage."""
        if operation not in _ASKED:
            return self.inner.asked(process, operation, perform)
        self.pass_by(process, f"storage: {operation}", "before")
        answer = self.inner.asked(process, operation, perform)
        self.pass_by(process, f"storage: {operation}", "after")
        return answer
