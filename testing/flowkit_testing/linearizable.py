"""Could the calls of several threads have been made one after the other? A search over their possible orders.

After Wing and Gong, "Testing and Verifying Concurrent Objects" (1993): a call may come next if no other call had ended
before it began; it is made to a model, whose answer must be the one that was seen. Two orders that changed the model
by the same calls lead to the same, so only one of them is followed (Lowe, "Testing for Linearizability", 2017). A
history of one run stands for itself: a storage whose runs are each linearizable is linearizable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Generic, Protocol, TypeVar

from attrs import Factory, define, field, frozen

M = TypeVar("M")
_M_contra = TypeVar("_M_contra", contravariant=True)
_M_co = TypeVar("_M_co", covariant=True)


class Ask(Protocol[_M_contra]):
    """A call as it can be made to the subject and to the model."""

    def __call__(self, world: _M_contra) -> object:
        """Make it; the answer must be comparable by `==` between subject and model."""

    def __str__(self) -> str:
        """What it asks, for a person."""


@frozen(eq=False)
class Call(Generic[M]):
    """One call that was made, and what was answered."""

    thread: int
    number: int  # among the calls of its thread
    ask: Ask[M]
    answer: object
    began: int  # moments, in the order of the real time
    ended: int

    def __str__(self) -> str:
        return f"thread {self.thread}, {self.began:3} to {self.ended:3}: {self.ask} -> {self.answer}"


@define
class Recorder(Generic[M]):
    """Writes down the calls that several threads make."""

    calls: list[Call[M]] = field(factory=list)
    _moment: int = 0
    _lock: Lock = Factory(Lock)

    def _now(self) -> int:
        with self._lock:
            self._moment += 1
            return self._moment

    def make(self, thread: int, number: int, ask: Ask[M], world: M) -> object:
        """Make a call and write it down with the moments of its beginning and its end."""
        began = self._now()
        answer = ask(world)
        ended = self._now()
        with self._lock:
            self.calls.append(Call(thread, number, ask, answer, began, ended))
        return answer


class NotLinearizable(AssertionError):
    """No order of the calls explains their answers."""


class Model(Protocol[_M_co]):
    """A world that does one thing at a time."""

    def world(self, thread: int) -> _M_co:
        """What the calls of a thread are made to."""

    def state(self) -> object:
        """Differs whenever a call has changed something."""

    def close(self) -> None:
        """Let go of it."""


def check(calls: Sequence[Call[M]], model: Callable[[], Model[M]]) -> list[Call[M]]:
    """Find an order in which a model gives the answers that were seen.

    Args:
        calls: what was recorded; the calls of one thread one after the other.
        model: makes a model in its first state.

    Returns:
        The calls in such an order.

    Raises:
        NotLinearizable: there is none.
    """
    search = _Search(_by_thread(calls), model)
    order = search.run()
    if order is None:
        raise NotLinearizable(_explain(calls, search.longest))
    return order


def _by_thread(calls: Sequence[Call[M]]) -> Mapping[int, list[Call[M]]]:
    threads: dict[int, list[Call[M]]] = {}
    for call in sorted(calls, key=lambda call: (call.thread, call.began)):
        threads.setdefault(call.thread, []).append(call)
    return threads


@define
class _Search(Generic[M]):
    threads: Mapping[int, list[Call[M]]]
    model: Callable[[], Model[M]]
    longest: list[Call[M]] = field(factory=list)
    _seen: set[tuple[tuple[tuple[int, int], ...], tuple[Call[M], ...]]] = field(factory=set)

    def run(self) -> list[Call[M]] | None:
        """Depth first; a branch is an order so far, and the calls in it that changed something."""
        branches: list[tuple[list[Call[M]], tuple[Call[M], ...]]] = [([], ())]
        while branches:
            order, changes = branches.pop()
            if len(order) > len(self.longest):
                self.longest = order
            following = self._next(order)
            if not following:
                return order
            for call in following:
                changed = self._follows(order, call)
                if changed is None:
                    continue
                branch = [*order, call], (*changes, call) if changed else changes
                key = self._positions(branch[0]), branch[1]
                if key not in self._seen:
                    self._seen.add(key)
                    branches.append(branch)
        return None

    def _positions(self, order: Sequence[Call[M]]) -> tuple[tuple[int, int], ...]:
        made = {call.thread: call.number for call in order}
        return tuple(sorted(made.items()))

    def _next(self, order: Sequence[Call[M]]) -> list[Call[M]]:
        """The calls that may come next: begun before any other that is left had ended. The latest to end first."""
        made = dict.fromkeys(self.threads, 0)
        for call in order:
            made[call.thread] += 1
        left = [calls[made[thread]] for thread, calls in self.threads.items() if made[thread] < len(calls)]
        first_end = min((call.ended for call in left), default=0)
        return sorted((call for call in left if call.began <= first_end), key=lambda call: -call.ended)

    def _follows(self, order: Sequence[Call[M]], call: Call[M]) -> bool | None:
        """Whether the call changed a model to which the others were made before; None: its answer is another one."""
        model = self.model()
        try:
            for made in order:
                made.ask(model.world(made.thread))
            before = model.state()
            if call.ask(model.world(call.thread)) != call.answer:
                return None
            return model.state() != before
        finally:
            model.close()


def _explain(calls: Sequence[Call[M]], longest: Sequence[Call[M]]) -> str:
    made = {(call.thread, call.number) for call in longest}
    left = sorted((call for call in calls if (call.thread, call.number) not in made), key=lambda call: call.began)
    return "\n".join([
        f"no order of these {len(calls)} calls explains their answers; the furthest that one comes:",
        *(f"  {call}" for call in longest),
        "nothing of what is left can follow:",
        *(f"  {call}" for call in left),
    ])  # fmt: skip
