"""An async body on an event loop: outcomes delivered in journal order, parking, and letting go when nothing moves."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from typing import Any

from attrs import field

from flowkit.effects import Outcome, Raised, Returned
from flowkit.frozen import frozen
from flowkit.lines import Scope, UndoScope
from flowkit.quiescence import Outlook, look
from flowkit.reasons import Detached, Reason, Suspended, Unwind
from flowkit.replayed_limits import ReplayedLimits
from flowkit.run import Frame, Run, current

SETTLE_TURNS = 20  # turns of the loop after which a delivery's consequences count as done, however busy the loop is
LINGER_S = 30.0  # how long a body may wait for something of its own (raw I/O) beside parked operations
LOOK_AGAIN_S = 0.05
LOOK_AT_LEAST_S = 1.0  # however long nothing has moved; not in virtual time, where only the loop moves anything


@frozen
class _Wait:
    """What a parked call waits for, and the line of calls that it stands in."""

    scope: Scope = field(eq=False)
    wake_at_ms: int | None
    arrivals: int | None  # how many messages must have come, counted as the mailbox does


class AsyncBody:
    """One execution of an async task's function, and the state of the durable calls in it.

    Two rules keep a replay on the path of the first time (rule I4). Outcomes are released one at a time, in the order
    of the journal, each only after the loop has run whatever the one before set in motion. And nothing new starts
    until all that is recorded has been delivered.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.loop = asyncio.get_running_loop()
        self._due = run.journal.due  # of what this body replays
        self.root: asyncio.Task[object] | None = None
        self.created = 0  # calls made whose coroutine has not ended
        self.active = 0  # of those, the ones whose coroutine has begun
        self._tasks: set[asyncio.Task[object]] = set()  # that run a call, apart from the root
        self._branches: dict[asyncio.Task[object], str] = {}  # lines beside the root: of gather, each, work; prefixes
        self._thread = threading.get_ident()
        self._parked: dict[asyncio.Future[None], _Wait] = {}
        self._turns: dict[int, asyncio.Future[None]] = {}  # replayed calls by the position of their outcome
        self._live: deque[asyncio.Future[None]] = deque()  # new outcomes, in the order of their recording
        self._gated: list[asyncio.Future[None]] = []  # new calls that wait for the replay to be over
        self._joins: set[asyncio.Future[None]] = set()  # of lines that wait for calls and work in flight
        self._settling = False
        self._checking = False
        self._linger_until: float | None = None
        self._limits = ReplayedLimits(self.loop, run.journal)

    # ---- running the body -------------------------------------------------------------------------------------

    async def execute(
        self, fn: Callable[..., object], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> Outcome:
        """Run the function as a task of its own until it ends or has been taken off the stack."""
        frame = Frame(self.run, Scope("", self.run.started_at_ms, self.run.undos), None, self._thread)
        context = contextvars.copy_context()
        context.run(current.set, frame)
        self.run.unwind = self.unwind
        self.root = self.loop.create_task(self._body(fn, args, kwargs), context=context)
        frame.task = self.root
        await self._wait_for_root(self.root)
        let_go_before = self.run.reason is not None
        while self._branches or self._tasks:
            await self._wait_for_branches()
            await self._settle_calls()
        if self.run.reason is not None and not let_go_before:
            return Raised(Unwind(self.run.reason))
        fatal = next((work.fatal for work in self.run.works if work.fatal is not None), None)
        if fatal is not None and self.run.reason is None:
            return Raised(fatal)  # a process that ends, or (G2) a loser of a race that could not be undone
        outcome, left = _outcome_of(self.root), frame.scope.reason
        return outcome if left is None or self.run.reason is not None else Raised(Unwind(left))

    async def _body(self, fn: Callable[..., object], args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
        self.run.ambient = sys.exc_info()[1]  # what is being handled below the event loop, by whoever runs it
        return await fn(*args, **kwargs)  # type: ignore[misc]  # an async function

    async def _wait_for_root(self, root: asyncio.Task[object]) -> None:
        while not root.done():
            try:
                await asyncio.wait({root})
            except asyncio.CancelledError as error:  # our caller was cancelled: hand the run back (rule X5)
                self.run.stop(Detached(error))

    async def _settle_calls(self) -> None:
        """Calls that the body left behind in tasks of its own: what has begun settles, what waits for long goes.

        A call that a replay has held back had begun the first time, so it is begun again (rule D3).
        """
        wait_s = LOOK_AGAIN_S
        while self._tasks:
            if self.run.reason is not None:
                self._cancel_all()
            for future in [*self._turns.values(), *self._gated]:
                _resolve(future)
            for future in self._parked:
                future.cancel()
            wait_s = await self._wait_for(self._tasks, wait_s)

    def unwind(self, _reason: Reason) -> None:
        """Take the body off the stack by cancelling its root; safe from any thread."""
        if threading.get_ident() == self._thread:
            self._cancel_all()
        else:
            self.loop.call_soon_threadsafe(self._cancel_all)

    def _cancel_all(self) -> None:
        for task in (self.root, *self._tasks, *self._branches):
            if task is not None and not task.done():
                task.cancel()

    # ---- branches -----------------------------------------------------------------------------------------------

    def start_branch(self, scope: Scope, make: Callable[[], Coroutine[Any, Any, object]]) -> asyncio.Task[object]:
        """Run a line of calls beside the others, in a scope and an asyncio task of its own (rule I1)."""
        frame = Frame(self.run, scope, None, self._thread)
        context = contextvars.copy_context()
        context.run(current.set, frame)
        task = self.loop.create_task(_later(make), context=context)
        frame.task = task
        self._branches[task] = scope.prefix
        task.add_done_callback(self._branch_done)
        return task

    def _branch_done(self, task: asyncio.Task[object]) -> None:
        self._branches.pop(task, None)
        if not task.cancelled():
            task.exception()  # whoever joins the branch reads it; nobody else needs to be told
        self._check_soon()

    async def _wait_for_branches(self) -> None:
        """Side work settles before the run may end (rule W4)."""
        wait_s = LOOK_AGAIN_S
        while self._branches:
            self._check_soon()
            wait_s = await self._wait_for(self._branches, wait_s)

    async def _wait_for(self, tasks: Iterable[asyncio.Task[object]], wait_s: float) -> float:
        """Wait until they have ended, or for so long; returns for how long to wait the next time."""
        try:
            await asyncio.wait(set(tasks), timeout=wait_s)
        except asyncio.CancelledError as error:
            self.run.stop(Detached(error))
        return wait_s * 2 if self.run.clock.virtual else min(wait_s * 2, LOOK_AT_LEAST_S)

    async def settle(self, saga: UndoScope) -> None:
        """Wait until nothing that was begun in a scope is in flight (rule G1)."""
        while saga.busy:
            future = saga.settled = self.loop.create_future()
            self._joins.add(future)
            self._check_soon()
            try:
                await future
            finally:
                self._joins.discard(future)

    # ---- calls ------------------------------------------------------------------------------------------------

    def begin(self) -> asyncio.Task[object] | None:
        """A call's coroutine has begun; returns the task to hand to `end`, if it is not the root."""
        self.active += 1
        task = asyncio.current_task(self.loop)
        if task is self.root or task is None or task in self._tasks:
            return None
        self._tasks.add(task)
        return task

    def end(self, task: asyncio.Task[object] | None) -> None:
        """A call's coroutine has ended."""
        self.active -= 1
        self.created -= 1
        if task is not None:
            self._tasks.discard(task)
        if self._parked:
            self._check_soon()

    def alone(self) -> bool:
        """Whether a call has no other beside it, so that its outcome needs no turn."""
        return self.created <= 1 and not self._branches and not self._settling and not self._turns and not self._live

    def answer(self, position: int) -> bool:
        """End a call with the outcome recorded at this position, if it is the next and nothing runs beside it.

        The call has not begun then, and needs not to: nothing can come between.
        """
        due = self._due
        if self.created > 1 or not due or due[0] != position:
            return False
        if self._branches or self._settling or self._turns or self._live:  # as `alone`
            return False
        due.popleft()
        self.created -= 1
        if self._gated:
            self._open_gate()
        if self._parked:
            self._check_soon()
        return True

    async def turn(self, position: int) -> None:
        """Wait until the recorded outcome at this position is the next to be delivered (rule I4)."""
        future = self._turns[position] = self.loop.create_future()
        self._pump()
        self._check_soon()
        try:
            await future
        except asyncio.CancelledError:
            self._turns.pop(position, None)
            self.skip(position)
            raise

    def skip(self, position: int) -> None:
        """A recorded outcome was delivered out of turn, as sync calls in an async body are."""
        due = self._due
        if due and due[0] == position:
            due.popleft()
        elif position in due:
            due.remove(position)
        self._open_gate()
        self._pump()

    async def caught_up(self) -> None:
        """Wait until everything recorded has been delivered: nothing new starts before."""
        if not self._due:
            return
        future = self.loop.create_future()
        self._gated.append(future)
        self._check_soon()
        try:
            await future
        finally:
            if future in self._gated:
                self._gated.remove(future)

    async def live_turn(self) -> None:
        """Deliver a new outcome: at once if nothing runs beside it, else one at a time, as a replay will."""
        if self.alone():
            return
        future = self.loop.create_future()
        self._live.append(future)
        self._pump()
        await future

    def _open_gate(self) -> None:
        if self._due or not self._gated:
            return
        self._after_settling(self._release_gated)

    def _release_gated(self) -> None:
        gated, self._gated = self._gated, []
        for future in gated:
            _resolve(future)

    def _pump(self) -> None:
        """Release the next outcome, then let its consequences run before the one after."""
        if self._settling:
            return
        due = self._due
        if due:
            if due[0] in self._turns:
                self._release(due[0])
        elif self._live:
            self._let_settle(self._live.popleft())

    def _release(self, position: int) -> None:
        """Deliver the recorded outcome at a position to the call that waits for it."""
        self._due.remove(position)
        self._let_settle(self._turns.pop(position))

    def _let_settle(self, future: asyncio.Future[None]) -> None:
        _resolve(future)
        self._begin_settling()

    def _begin_settling(self) -> None:
        self._settling = True
        self._after_settling(self._settled)

    def _settled(self) -> None:
        self._settling = False
        self._open_gate()
        self._pump()
        self._check_soon()

    def _after_settling(self, then: Callable[[], None], turns: int = SETTLE_TURNS) -> None:
        self.loop.call_soon(self._settle, then, turns)

    def _settle(self, then: Callable[[], None], turns: int) -> None:
        ready = getattr(self.loop, "_ready", True)  # other loops do not tell: wait all the turns
        if turns and ready:
            self.loop.call_soon(self._settle, then, turns - 1)
        else:
            then()

    async def hold(self) -> None:
        """Start nothing new: the run is being handed back as soon as what is in flight has settled (rule X5)."""
        while self.run.closing is not None:
            await self.park(Scope("", 0, self.run.undos), None, None)

    # ---- waiting ----------------------------------------------------------------------------------------------

    async def park(self, scope: Scope, wake_at_ms: int | None, arrivals: int | None) -> None:
        """Wait for a time or so many messages; lets go of the run when everything else waits too (rule E1)."""
        if self.run.reason is not None:  # a child advanced in this line may have taken the cancellation for its own
            raise asyncio.CancelledError
        future = self.loop.create_future()
        self._parked[future] = _Wait(scope, wake_at_ms, arrivals)
        timer = None
        if wake_at_ms is not None and not self.run.clock.virtual:
            delay_s = max(0.0, (wake_at_ms - self.run.clock.now_ms()) / 1000)
            timer = self.loop.call_later(delay_s, _resolve, future)
        self._check_soon()
        try:
            await future
        finally:
            self._parked.pop(future, None)
            if timer is not None:
                timer.cancel()

    def news(self) -> None:
        """Messages or a cancellation have come in: whoever is parked looks again; safe from any thread."""
        self.loop.call_soon_threadsafe(self._wake_parked)

    def _wake_parked(self) -> None:
        for future in list(self._parked):
            _resolve(future)
        self._check_soon()

    def _check_soon(self) -> None:
        if not self._checking:
            self._checking = True
            self._after_settling(self._check)

    def _check(self) -> None:
        """If nothing moves, see what can: a recorded outcome, a call that waits for the replay's end, or letting go."""
        self._checking = False
        still = len(self._parked) + len(self._gated) + len(self._turns)
        if self.run.reason is not None or self._settling or not still or still < self.active:
            return
        lines = {task: prefix for task, prefix in self._branches.items() if not task.done()}
        if self.root is not None and not self.root.done():
            lines[self.root] = ""
        if not lines:
            return
        if self._gated and not self._due:  # the replay is over: they are about to start
            self._open_gate()
            return
        ours = {*self._parked, *self._gated, *self._turns.values(), *self._joins}
        outlook = look(self.loop, lines, ours, self._gated)
        if outlook.elsewhere and not self._lingered():
            return
        if self.run.closing is not None:
            self.run.stop(Detached(self.run.closing))
        elif not self._go_on_with_replay(lines, ours):
            self._wake_or_let_go(outlook)

    def _go_on_with_replay(
        self, lines: Mapping[asyncio.Task[object], str], ours: Collection[asyncio.Future[Any]]
    ) -> bool:
        if self._gated and (limit := self._limits.passed(self._due[0], lines, ours, self._gated)) is not None:
            limit.pass_now()
            self._begin_settling()
        elif self._turns:  # calls with keys of their own may come in another order: the earliest of those that came
            self._release(min(self._turns))
        elif self._gated:
            self._release_gated()
        else:
            return False
        return True

    def _wake_or_let_go(self, outlook: Outlook) -> None:
        if any(self.run.cancel_wanted(wait.scope) for wait in self._parked.values()):
            self._wake_parked()  # E2: it came with the answer to a commit of a line beside them
        elif not outlook.limited_until(self.loop.time() + LINGER_S) or self._lingered():
            self.run.stop(self._suspension())

    def _lingered(self) -> bool:
        """True once a body that waits for something of its own has had its time."""
        now = self.loop.time()
        if self._linger_until is None:
            self._linger_until = now + LINGER_S
        if now >= self._linger_until:
            return True
        self._checking = True
        self.loop.call_later(LOOK_AGAIN_S, self._check)
        return False

    def _suspension(self) -> Suspended:
        waits = self._parked.values()
        wakes = [wait.wake_at_ms for wait in waits if wait.wake_at_ms is not None]
        arrivals = [wait.arrivals for wait in waits if wait.arrivals is not None]
        heard = all(self.run.cancel_heard(wait.scope) for wait in waits)
        return Suspended(min(wakes, default=None), min(arrivals, default=None), heard)


async def _later(make: Callable[[], Coroutine[Any, Any, object]]) -> object:
    """Make the coroutine inside its own task, so that the keys it takes are those of its branch."""
    return await make()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _outcome_of(task: asyncio.Task[object]) -> Outcome:
    if task.cancelled():
        return Raised(asyncio.CancelledError())
    error = task.exception()
    return Returned(task.result()) if error is None else Raised(error)
