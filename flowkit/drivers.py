"""Perform the effects of operations: blocking, or on an event loop. The only place where operations meet the world."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn, TypeVar, assert_never

from flowkit.async_body import AsyncBody
from flowkit.body import tell_if_swallowed
from flowkit.changes import Change
from flowkit.effects import (
    Advance,
    Effect,
    End,
    Inquire,
    Invoke,
    Listen,
    Operation,
    Outcome,
    Pause,
    Post,
    Raised,
    Record,
    Reload,
    Returned,
    RunBody,
    Tell,
)
from flowkit.errors import LeaseLost, StorageError
from flowkit.invoke import call_async, call_plainly
from flowkit.journal import Journal
from flowkit.lines import Scope
from flowkit.reasons import Revoked, Suspended, Unwind, combined
from flowkit.records import Message
from flowkit.run import Frame, Run, current, live
from flowkit.underway import UnderWay

_T = TypeVar("_T")


# ---- synchronous ----------------------------------------------------------------------------------------------------


def drive(run: Run, scope: Scope, operation: Operation[_T]) -> _T:
    """Perform an operation on this thread; returns its value or raises its error."""
    probe = run.probe
    answer: object = None
    try:
        effect = next(operation)
        while True:
            try:
                if probe is not None:
                    effect = probe.before(run, effect)
                    answer = probe.after(run, effect, perform(run, scope, effect))
                elif type(effect) is Invoke:  # the two effects of every step come first
                    answer = call_plainly(run, scope, effect)
                elif type(effect) is Record:
                    answer = _record(run, effect)
                else:
                    answer = perform(run, scope, effect)
            except BaseException as error:  # noqa: BLE001  # the operation decides what an error means
                if probe is not None:
                    probe.failed(run, effect, error)
                effect = operation.throw(error)
            else:
                effect = operation.send(answer)
    except StopIteration as stop:
        value: _T = stop.value
        return value


def perform(run: Run, scope: Scope, effect: Effect) -> object:
    """Perform one effect, blocking."""
    if isinstance(effect, Pause | Listen | Advance | Inquire):
        return _wait(run, scope, effect)
    match effect:
        case Invoke():
            return call_plainly(run, scope, effect)
        case Record():
            return _record(run, effect)
        case Post():
            return _post(run, effect)
        case RunBody():
            return _run_sync_body(run, effect)
        case End():
            return run.write(_end_of(run, effect))
        case Reload():
            return _reload(run)
        case Tell():
            return run.services.tell(effect.run_id, effect.message)
        case _:
            assert_never(effect)


def _wait(run: Run, scope: Scope, effect: Pause | Listen | Advance | Inquire) -> object:
    match effect:
        case Pause():
            return _pause(run, scope, effect)
        case Listen():
            return _listen(run, scope, effect)
        case Advance():
            return run.services.run_child(run, effect.run, reopen=effect.reopen)
        case Inquire():
            return run.services.inquire(run, effect)
        case _:
            assert_never(effect)


def _record(run: Run, effect: Record) -> int:
    if run.reason is not None:
        raise Unwind(run.reason)
    if effect.consume:
        run.mailbox.consume(effect.consume)
    try:
        return run.services.committer.append(
            run.writer, effect.entries, effect.consume, effect.spawn, effect.send, effect.go
        )
    except (LeaseLost, StorageError) as error:
        _go_down(run, error)


def _post(run: Run, effect: Post) -> object:
    if run.reason is None:
        run.services.committer.post(Change(run.writer, effect.entries))
    return None


def _end_of(run: Run, effect: End) -> Change:
    return Change(run.writer, effect.entries, effect.consume, send=effect.send, then=effect.then)


def _go_down(run: Run, error: LeaseLost | StorageError) -> NoReturn:
    """A lost lease or a storage that does not answer takes the body off the stack (rule D4)."""
    run.stop(Revoked(error))
    raise asyncio.CancelledError from error  # an async body is being cancelled: go down with it


def _reload(run: Run) -> Journal:
    return Journal.read(run.codec, run.services.load(run.id).entries)


def _pause(run: Run, scope: Scope, effect: Pause) -> bool:
    wait_s = (effect.until_ms - run.clock.now_ms()) / 1000
    if wait_s <= 0:
        return False
    if run.cancel_wanted(scope):  # E2, G6: it came with the answer to the last commit, or a race is decided
        return True
    if wait_s > run.services.patience_in_place_s and not _blocks_a_loop(run):
        raise run.leave(scope, Suspended(effect.until_ms, cancel_heard=run.cancel_heard(scope)))
    run.clock.sleep(wait_s)
    return run.cancel_wanted(scope)


def _blocks_a_loop(run: Run) -> bool:
    """A sync call in an async body waits where it stands: unwinding it would cut its siblings off in mid-effect."""
    return run.is_async and run.unwind is not None


def _listen(run: Run, scope: Scope, effect: Listen) -> object:
    answer, arrivals = _look(run, effect)
    if answer is None and _has_news(run):
        _take_in(run, run.services.inbox(run.id))
        answer, arrivals = _look(run, effect)
    if answer is not None or _is_over(run, scope, effect):
        return answer
    raise run.leave(scope, Suspended(effect.until_ms, arrivals, run.cancel_heard(scope)))


def _look(run: Run, effect: Listen) -> tuple[object, int]:
    """What was waited for, if it is there; and how many messages must have come before it can be."""
    mailbox = run.mailbox
    with mailbox.lock:
        answer = effect.wanted.take(mailbox)
        return answer, mailbox.arrived + (0 if answer is not None else effect.wanted.missing(mailbox))


def _has_news(run: Run) -> bool:
    """Whether the storage has told of more messages than are known here."""
    return run.writer.inbox > len(run.mailbox)


def _take_in(run: Run, messages: Sequence[Message]) -> None:
    run.mailbox.add(messages)
    run.writer.inbox = len(messages)


def _is_over(run: Run, scope: Scope, effect: Listen) -> bool:
    """Whether nobody waits any longer: the time is up, or the run is cancelled."""
    return (effect.until_ms is not None and effect.until_ms <= run.clock.now_ms()) or run.cancel_wanted(scope)


def _run_sync_body(run: Run, effect: RunBody) -> Outcome:
    scope = Scope("", run.started_at_ms, run.undos)
    run.ambient = sys.exc_info()[1]
    run.unwind = None
    token = current.set(Frame(run, scope, None, threading.get_ident()))
    live.add(run)
    try:
        outcome: Outcome = Returned(effect.fn(*effect.args, **effect.kwargs))
    except BaseException as error:  # noqa: BLE001  # what it means is for the operation to decide
        outcome = Raised(error)
    finally:
        live.discard(run)
        current.reset(token)
    return _with_side_work(run, scope, outcome)


def _with_side_work(run: Run, scope: Scope, outcome: Outcome) -> Outcome:
    """The body's outcome, once its side work has settled; if some of that waits for long, so does the run (W4)."""
    done = 0
    while done < len(run.works):  # work may queue work
        run.works[done].wait()
        done += 1
    if run.reason is not None:
        return Raised(Unwind(run.reason)) if run.works else outcome
    for work in run.works:
        if work.fatal is not None:
            return Raised(work.fatal)
    if scope.reason is not None:
        tell_if_swallowed(run, outcome)
    reasons = [work.parked for work in run.works] + [scope.reason]
    reason = combined([reason for reason in reasons if reason is not None])
    return outcome if reason is None else Raised(Unwind(reason))


# ---- asynchronous ---------------------------------------------------------------------------------------------------


async def drive_async(run: Run, scope: Scope, operation: Operation[_T], *, kept: bool = False) -> _T:
    """Perform an operation on the running event loop; returns its value or raises its error.

    With `kept`, an operation that is cancelled while an effect of it is under way (see `UnderWay`) is left where it is.
    """
    probe, instant = run.probe, run.services.committer.instant
    answer: object = None
    try:
        effect = next(operation)
        while True:
            try:
                if probe is not None:
                    effect = probe.before(run, effect)
                    answer = probe.after(run, effect, await perform_async(run, scope, effect))
                elif type(effect) is Invoke:  # the two effects of every step come first
                    answer = await call_async(run, scope, effect)
                elif type(effect) is Record:
                    answer = _record(run, effect) if instant else await _record_async(run, effect)
                else:
                    answer = await perform_async(run, scope, effect)
            except BaseException as error:  # the operation decides what an error means
                if probe is not None:
                    probe.failed(run, effect, error)
                if kept and isinstance(error, UnderWay):
                    raise
                effect = operation.throw(asyncio.CancelledError() if isinstance(error, UnderWay) else error)
            else:
                effect = operation.send(answer)
    except StopIteration as stop:
        value: _T = stop.value
        return value


async def perform_async(run: Run, scope: Scope, effect: Effect) -> object:
    """Perform one effect without blocking the event loop."""
    if isinstance(effect, Pause | Listen | Advance | Inquire):
        return await _wait_async(run, scope, effect)
    match effect:
        case Invoke():
            return await call_async(run, scope, effect)
        case Record():
            return _record(run, effect) if run.services.instant else await _record_async(run, effect)
        case Post():
            return _post(run, effect)
        case RunBody():
            return await _run_async_body(run, effect)
        case End():
            return await run.services.committer.write_async(_end_of(run, effect))
        case Reload():
            return await _off_loop(run, partial(_reload, run))
        case Tell():
            return await _off_loop(run, partial(run.services.tell, effect.run_id, effect.message))
        case _:
            assert_never(effect)


async def _wait_async(run: Run, scope: Scope, effect: Pause | Listen | Advance | Inquire) -> object:
    match effect:
        case Pause():
            return await _pause_async(run, scope, effect)
        case Listen():
            return await _listen_async(run, scope, effect)
        case Advance():
            return await run.services.run_child_async(run, effect.run, reopen=effect.reopen)
        case Inquire():
            return await _off_loop(run, partial(run.services.inquire, run, effect))
        case _:
            assert_never(effect)


async def _off_loop(run: Run, call: Callable[[], _T]) -> _T:
    """Ask the storage on a thread, unless it never makes anyone wait."""
    return call() if run.services.instant else await asyncio.to_thread(call)


async def _record_async(run: Run, effect: Record) -> int:
    if run.reason is not None:
        raise Unwind(run.reason)
    if effect.consume:
        run.mailbox.consume(effect.consume)
    try:
        return await run.services.committer.append_async(
            run.writer, effect.entries, effect.consume, effect.spawn, effect.send, effect.go
        )
    except (LeaseLost, StorageError) as error:
        _go_down(run, error)


async def _pause_async(run: Run, scope: Scope, effect: Pause) -> bool:
    body = run.body
    wait_s = (effect.until_ms - run.clock.now_ms()) / 1000
    if wait_s <= 0:
        return False
    if wait_s <= run.services.patience_in_place_s:
        await run.clock.sleep_async(wait_s)
    elif body is None:
        run.stop(Suspended(effect.until_ms, cancel_heard=run.cancel_heard(scope)))
    else:
        while effect.until_ms > run.clock.now_ms() and not run.cancel_wanted(scope):
            await body.hold()
            await body.park(scope, effect.until_ms, None)
    return run.cancel_wanted(scope)


async def _listen_async(run: Run, scope: Scope, effect: Listen) -> object:
    body = run.body
    while True:
        answer, arrivals = _look(run, effect)
        if answer is None and _has_news(run):
            _take_in(run, await _off_loop(run, partial(run.services.inbox, run.id)))
            answer, arrivals = _look(run, effect)
        if answer is not None or _is_over(run, scope, effect):
            return answer
        assert body is not None  # only a body listens
        await body.park(scope, effect.until_ms, arrivals)


async def _run_async_body(run: Run, effect: RunBody) -> Outcome:
    body = AsyncBody(run)
    run.body = body
    live.add(run)
    try:
        return await body.execute(effect.fn, effect.args, effect.kwargs)
    finally:
        live.discard(run)
        run.body = run.unwind = None
