"""A scope inside a scope: calls that follow one another, with keys of their own and, if wanted, side work of their own.

A loop gives each turn one, a sequencer gives one to each sequencer in it: so a key that the user chose is unique in
its turn, and side work is waited for by whoever queued it (rules I1, W3).
"""

from __future__ import annotations

from contextvars import Token
from types import TracebackType
from typing import Self

from flowkit.calls import refuse_foreign_task, take_key
from flowkit.lines import Scope
from flowkit.run import Frame, current


class InnerScope:
    """`with InnerScope(name):` calls inside take their keys from a scope of their own. Plain outside of a run.

    Args:
        name: who asks for it, for error messages.
        key: names it within the scope around it, instead of its ordinal.
        branch_of: the key of the operation that this is a branch of, and which branch; it takes no key then.
        own_work: side work that is queued inside is not waited for by the code around it (rule W4), nor the other way
            round (rule W3).
    """

    def __init__(
        self,
        name: str,
        *,
        key: str | None = None,
        branch_of: tuple[str, int] | None = None,
        own_work: bool = False,
    ) -> None:
        self._name = name
        self._key = key
        self._branch_of = branch_of
        self._own_work = own_work
        self._entered: tuple[Scope, Scope, Token[Frame | None]] | None = None

    def __enter__(self) -> Self:
        frame = task_frame(self._name)
        if frame is None:
            return self
        outer = frame.scope
        key, index = self._branch_of or (take_key(frame, self._key), 0)
        inner = outer.branch(key.removeprefix(outer.prefix), index)
        inner.cancel_delivered = outer.cancel_delivered  # E2: it is the same line of calls
        if self._own_work:
            inner.works = []
        self._entered = outer, inner, current.set(Frame(frame.run, inner, frame.task, frame.thread))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._entered is None:
            return
        outer, inner, token = self._entered
        self._entered = None
        current.reset(token)
        follow(outer, inner)
        outer.cancel_delivered = inner.cancel_delivered
        if inner.reason is not None and outer.reason is None:
            outer.reason = inner.reason  # E1: the line is being taken off its stack


def follow(outer: Scope, inner: Scope) -> None:
    """A line of calls has seen what an inner one has seen (rule I6)."""
    outer.now_ms = max(outer.now_ms, inner.now_ms)
    outer.position = max(outer.position, inner.position)


def task_frame(name: str) -> Frame | None:
    """Where the calling code stands in a task; None outside of a run and inside a step, where calls are plain.

    Raises:
        AmbiguousOrder: it stands in an asyncio task that is no branch of the run (rule I2).
    """
    frame = current.get()
    if frame is None or frame.step_key is not None:
        return None
    if not frame.owned_here():
        refuse_foreign_task(name)
    return frame


def handling() -> None:
    """A durable operation is about to be called because of an error: the outcome is final from now on (rule R3)."""
    frame = current.get()
    if frame is not None and frame.step_key is None:
        frame.run.handled = True


def final() -> None:
    """The error that is about to be raised would come again on every replay: the outcome is final (rule R3)."""
    frame = current.get()
    if frame is not None and frame.step_key is None:
        frame.run.failed_delivered = True
