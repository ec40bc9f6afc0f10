"""`race`: several lines of calls side by side, of which the first to succeed gives the result (rule G6).

Each line is a scope with undos of its own. The winner is recorded before anyone hears of it, and hands its undos to
the scope around the race. The others begin nothing new from then on, and async steps under way in them are cancelled;
what they have completed by then, or complete all the same, is undone as by a saga that was left by an error. The run
does not end before that.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, NoReturn, TypeVar, cast

from attrs import define, field

from flowkit.binding import Bound
from flowkit.calls import recall, require_async
from flowkit.choices import Choice
from flowkit.drivers import drive, drive_async
from flowkit.effects import Operation, Outcome, Raised, Returned
from flowkit.entries import Kind
from flowkit.errors import AllFailed, ConfigurationError, LeaseLost, RaceLost, StorageError, WrongColour
from flowkit.fan_out import MOST_THREADS, check_calls, make_of, outcome_of, run_line
from flowkit.lines import Entrant, Scope, UndoScope
from flowkit.reasons import Cancelled, Reason, Suspended, Unwind, combined
from flowkit.rollback import rollback_operation
from flowkit.run import Frame, Run
from flowkit.scopes import follow, task_frame
from flowkit.threads import stand_by, start

T = TypeVar("T")


@define(eq=False)
class _Line:
    """One of those that race."""

    index: int
    scope: Scope
    entrant: Entrant
    outcome: Outcome | None = None
    ended: threading.Event = field(factory=threading.Event)
    task: asyncio.Task[object] | None = None  # in async code


@define(eq=False)
class _Loser:
    """A line that has lost, as the run sees it: side work that has to settle before the run ends (rule W4)."""

    run: Run
    line: _Line
    failure: BaseException | None = None
    ended: threading.Event = field(factory=threading.Event)

    @property
    def settled(self) -> bool:
        """True once what it has completed is undone."""
        return self.ended.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until it is settled; False if it is not in time."""
        stand_by(self.run, self.ended.is_set)
        return self.ended.wait(timeout_s)

    @property
    def parked(self) -> Reason | None:
        """It waits for a child that is being cancelled, or to try an undo again."""
        return self.line.scope.reason

    @property
    def fatal(self) -> BaseException | None:
        """What could not be undone ends the run (rule G2)."""
        return self.failure


# ---- in sync tasks --------------------------------------------------------------------------------------------------


def race(*calls: Bound[T], name: str = "race", max_concurrency: int | None = None) -> T:
    """Make calls side by side, on threads; the result of the first that succeeds.

    Args:
        *calls: `x.bind(...)`: calls that are not made yet.
        name: of the race, for the record.
        max_concurrency: how many run at a time; as many as there are (32 at the most) unless given.

    Raises:
        AllFailed: none has succeeded; their errors are in it, in the order of the calls.
    """
    _check("race", calls, max_concurrency)
    frame = task_frame("race")
    if frame is None:
        return _first_plainly(calls, name)
    if frame.run.is_async:
        raise WrongColour("race(...) is in an async task, where its calls must be awaited")
    choice = Choice(frame, name)
    lines = _lines(frame, choice, len(calls))
    try:
        winner = _run_on_threads(frame, choice, lines, [call.call for call in calls], max_concurrency)
        if winner is not None:
            choice.make(winner.index)
    except BaseException:
        for line in lines:
            stand_by(frame.run, line.ended.is_set)
            line.ended.wait()
        _hand_over(frame.scope, lines)
        raise
    if winner is None:
        _none_has_won(frame, choice, lines, name)
    _decided(frame.scope, lines, winner)
    again = choice.recorded is None and any(_listens(line) for line in _others(lines, winner))
    for line in _others(lines, winner):
        _settle_on_thread(frame.run, line, name, replayed=choice.recorded is not None)
    if again:  # a loser that waits for a child is off its stack; a replay cancels the child
        raise frame.run.leave(frame.scope, Suspended(wake_at_ms=frame.run.clock.now_ms()))
    return cast("T", _value_of(winner))


def _run_on_threads(
    frame: Frame, choice: Choice, lines: Sequence[_Line], calls: Sequence[Callable[[], object]], most: int | None
) -> _Line | None:
    run, ended = frame.run, SimpleQueue[_Line]()
    waiting, running = deque(_winner_first(lines, choice)), 0
    limit = len(lines) if choice.recorded is not None else min(len(lines), most or MOST_THREADS)

    def body(line: _Line) -> None:
        try:
            line.outcome = run_line(run, line.scope, calls[line.index])
        finally:
            line.ended.set()
            ended.put(line)

    try:
        while waiting or running:
            while waiting and running < limit:
                line = waiting.popleft()
                start(run, partial(body, line), f"flowkit-race-{run.id}")
                running += 1
            stand_by(run, lambda: not ended.empty())
            line = ended.get()
            running -= 1
            if _has_won(line, choice):
                return line
    finally:
        for line in waiting:
            line.ended.set()  # it has never begun
    return None


def _settle_on_thread(run: Run, line: _Line, name: str, *, replayed: bool) -> None:
    loser = _Loser(run, line)

    def body() -> None:
        try:
            stand_by(run, line.ended.is_set)
            line.ended.wait()
            _look_at_wait(run, line, replayed=replayed)
            operation = _to_undo(run, line, name) if line.scope.reason is None else None
            if operation is not None and run.reason is None:
                loser.failure = _failure(drive(run, line.scope, operation))
        except (Unwind, LeaseLost, StorageError):  # the run is let go of, and finds out the same
            pass
        except BaseException as error:  # noqa: BLE001  # raised where the run is joined
            loser.failure = error
        finally:
            loser.ended.set()

    run.works.append(loser)
    if line.ended.is_set() and _to_undo(run, line, name) is None:
        _look_at_wait(run, line, replayed=replayed)
        loser.ended.set()
        return
    start(run, body, f"flowkit-late-{run.id}")


def _look_at_wait(run: Run, line: _Line, *, replayed: bool) -> None:
    """What a loser waits for does not matter any more, but for a child: a replay cancels it, and waits for that."""
    if not replayed:
        line.scope.reason = Suspended(wake_at_ms=run.clock.now_ms()) if _listens(line) else None


def _listens(line: _Line) -> bool:
    return isinstance(line.scope.reason, Suspended) and line.scope.reason.arrivals is not None


# ---- in async tasks -------------------------------------------------------------------------------------------------


async def race_async(*calls: Bound[T], name: str = "race", max_concurrency: int | None = None) -> T:
    """`race`, awaited: its calls run on the event loop."""
    _check("aio.race", calls, max_concurrency)
    makes = [make_of(call) for call in calls]
    frame = task_frame("aio.race")
    if frame is None:
        value: T = await _first_plainly_async(makes, name)
        return value
    require_async(frame.run, "aio.race")
    choice = Choice(frame, name)
    lines = _lines(frame, choice, len(calls))
    try:
        winner = await _run_on_loop(frame, choice, lines, makes, max_concurrency)
        if winner is not None:
            await choice.make_async(winner.index)
    except BaseException:
        await _cancel([line.task for line in lines if line.task is not None])
        _hand_over(frame.scope, lines)
        raise
    if winner is None:
        _none_has_won(frame, choice, lines, name)
    _decided(frame.scope, lines, winner)
    for line in _others(lines, winner):
        _settle_on_loop(frame.run, line, name)
    frame.run.news()  # losers that wait look up
    return cast("T", _value_of(winner))


async def _run_on_loop(
    frame: Frame,
    choice: Choice,
    lines: Sequence[_Line],
    makes: Sequence[Callable[[], Coroutine[Any, Any, object]]],
    most: int | None,
) -> _Line | None:
    body = frame.run.body
    assert body is not None  # the calling task is the body's
    waiting, running = deque(_winner_first(lines, choice)), dict[asyncio.Task[object], _Line]()
    limit = len(lines) if choice.recorded is not None else min(len(lines), most or len(lines))
    while waiting or running:
        while waiting and len(running) < limit:
            line = waiting.popleft()
            line.task = body.start_branch(line.scope, makes[line.index])
            running[line.task] = line
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        ended = [running.pop(task) for task in done]
        for line in ended:
            assert line.task is not None  # it was started above
            line.outcome = outcome_of(line.task)
        for line in sorted(ended, key=lambda line: (line.scope.position, line.index)):  # I4: the first recorded
            if _has_won(line, choice):
                return line
    return None


def _settle_on_loop(run: Run, line: _Line, name: str) -> None:
    assert run.body is not None  # the calling task is the body's
    loser = _Loser(run, line)

    async def body() -> None:
        try:
            if line.task is not None and not line.task.done():
                await asyncio.wait({line.task})
            operation = _to_undo(run, line, name)
            if operation is not None and run.reason is None and run.body is not None:
                await run.body.caught_up()
                loser.failure = _failure(await drive_async(run, line.scope, operation))
        except (LeaseLost, StorageError):  # the run is let go of, and finds out the same
            pass
        except Exception as error:  # noqa: BLE001  # raised where the run is joined
            loser.failure = error
        finally:
            loser.ended.set()

    run.works.append(loser)
    _ = run.body.start_branch(line.scope, body)


async def _cancel(tasks: Sequence[asyncio.Task[object]]) -> None:
    for task in tasks:
        task.cancel()
    while any(not task.done() for task in tasks):
        await asyncio.wait(tasks)


# ---- what both share ------------------------------------------------------------------------------------------------


def _check(what: str, calls: Sequence[object], max_concurrency: int | None) -> None:
    check_calls(what, calls, max_concurrency)
    if not calls:
        raise ConfigurationError(f"{what}(...) needs at least one call: nobody can win a race of none")


def _lines(frame: Frame, choice: Choice, count: int) -> list[_Line]:
    outer, last = frame.scope, choice.key.removeprefix(frame.scope.prefix)
    lines = []
    for index in range(count):
        scope = outer.branch(last, index)
        entrant = Entrant(outer.entrant, beaten=choice.recorded not in {None, index})
        scope.entrant = entrant
        scope.saga = UndoScope(f"{scope.prefix}late", rolling_back=outer.saga.rolling_back)
        lines.append(_Line(index, scope, entrant))
    return lines


def _winner_first(lines: Sequence[_Line], choice: Choice) -> list[_Line]:
    return sorted(lines, key=lambda line: line.index != choice.recorded)


def _has_won(line: _Line, choice: Choice) -> bool:
    return isinstance(line.outcome, Returned) and choice.recorded in {None, line.index}


def _others(lines: Iterable[_Line], winner: _Line) -> list[_Line]:
    return [line for line in lines if line is not winner]


def _value_of(line: _Line) -> object:
    assert isinstance(line.outcome, Returned)  # it has won
    return line.outcome.value


def _hand_over(scope: Scope, lines: Iterable[_Line]) -> None:
    """What was completed in these lines is undone by the scope around the race, if need be."""
    for line in lines:
        line.scope.saga.hand_over(scope.saga)


def _decided(scope: Scope, lines: Sequence[_Line], winner: _Line) -> None:
    follow(scope, winner.scope)
    _hand_over(scope, [winner])
    for line in _others(lines, winner):
        line.entrant.beat()


def _to_undo(run: Run, line: _Line, name: str) -> Operation[BaseException] | None:
    """How to undo what a loser has completed; None if that is nothing (rule G6)."""
    saga = line.scope.saga
    line.scope.entrant = None  # the line has ended; its undos are not cancelled
    past = recall(run, Kind.SAGA, saga.key, name)
    recorded = None if past is None else past.begun
    if recorded is None and not saga.undos:
        return None
    lost = RaceLost(f"line {line.index + 1} of race {name!r} in run {run.id!r} was not the first to succeed")
    return rollback_operation(run, line.scope, saga, name, lost, recorded)


def _failure(error: BaseException) -> BaseException | None:
    """What a rollback comes to, unless that is only its cause."""
    return None if isinstance(error, RaceLost) else error


def _none_has_won(frame: Frame, choice: Choice, lines: Sequence[_Line], name: str) -> NoReturn:
    run, scope = frame.run, frame.scope
    _hand_over(scope, lines)
    if run.reason is not None:
        raise asyncio.CancelledError if run.is_async else Unwind(run.reason)
    reason = combined([line.scope.reason for line in lines if line.scope.reason is not None])
    if reason is not None:
        raise run.leave(scope, reason)
    for line in lines:
        follow(scope, line.scope)
    raised = {line.index: line.outcome.error for line in lines if isinstance(line.outcome, Raised)}
    for line in lines:
        error = raised.get(line.index)
        if isinstance(error, Cancelled | asyncio.CancelledError) and not line.entrant.lost:
            scope.cancel_delivered = scope.cancel_delivered or line.scope.cancel_delivered
        if error is not None and not isinstance(error, Exception) and not line.entrant.lost:
            raise error
    if choice.recorded is not None:
        raise raised[choice.recorded]
    raise AllFailed(f"none of the {len(lines)} lines of race {name!r} has succeeded", _errors(raised.values()))


def _errors(raised: Iterable[BaseException]) -> list[Exception]:
    return [error for error in raised if isinstance(error, Exception)]


def _first_plainly(calls: Sequence[Bound[T]], name: str) -> T:
    errors = []
    for call in calls:
        try:
            return call.call()
        except Exception as error:  # noqa: BLE001  # the next one may do
            errors.append(error)
    raise AllFailed(f"none of the {len(calls)} lines of race {name!r} has succeeded", errors)


async def _first_plainly_async(makes: Sequence[Callable[[], Coroutine[Any, Any, object]]], name: str) -> Any:  # noqa: ANN401  # as race_async
    errors = []
    for make in makes:
        try:
            return await make()
        except Exception as error:  # noqa: BLE001  # the next one may do
            errors.append(error)
    raise AllFailed(f"none of the {len(makes)} lines of race {name!r} has succeeded", errors)
