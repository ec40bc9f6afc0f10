"""Calls in flight on an event loop: begun, ended, and those that go on after they were cancelled (rules G1, G6).

asyncio cancels a coroutine, not what it has set off: a step on a thread runs to its end, and a commit that was sent is
made. The call is cancelled at once, as its caller wants; what came of it is then recorded beside the body, as late, so
that it can be undone, and a replay does not do it again.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from flowkit.drivers import drive_async
from flowkit.effects import Operation, Raised, Record
from flowkit.entries import Phase
from flowkit.errors import LeaseLost, StorageError
from flowkit.lines import Scope, UndoScope
from flowkit.reasons import Unwind
from flowkit.run import Parking, Run

log = logging.getLogger(__name__)


def begin(body: Parking, saga: UndoScope) -> asyncio.Task[object] | None:
    """A call's coroutine has begun."""
    saga.in_flight += 1
    return body.begin()


def end(body: Parking, saga: UndoScope, task: asyncio.Task[object] | None) -> None:
    """A call's coroutine has ended."""
    body.end(task)
    saga.in_flight -= 1
    if saga.settled is not None or saga.outer is not None:
        saga.tell()


def go_on_beside(
    run: Run, scope: Scope, saga: UndoScope, operation: Operation[object], answer: asyncio.Future[object]
) -> None:
    """Record beside the body what comes of a call that was cancelled; the run does not end before that."""
    body = run.body
    assert body is not None  # the call was made in it
    saga.in_flight += 1
    body.created += 1
    _ = body.start_branch(scope, partial(_late, run, scope, saga, body, operation, answer))


async def _late(
    run: Run,
    scope: Scope,
    saga: UndoScope,
    body: Parking,
    operation: Operation[object],
    answer: asyncio.Future[object],
) -> None:
    task = body.begin()
    try:
        await drive_async(run, scope, _rest(scope, operation, await answer))
    except (Unwind, LeaseLost, StorageError) as lost:  # the run is let go of, and finds out the same
        log.debug("what came of a cancelled call of run %r was not recorded: %s", run.id, lost)
    finally:
        operation.close()
        end(body, saga, task)


def _rest(scope: Scope, operation: Operation[object], answer: object) -> Operation[None]:
    """Its end, if it had an effect; what has failed is not tried again, since nobody waits for it."""
    if isinstance(answer, Raised):
        return
    seen = scope.position, scope.now_ms
    try:
        effect = operation.send(answer)
        if isinstance(effect, Record) and effect.phase == Phase.DONE:
            operation.send((yield effect))
    except StopIteration:
        pass
    finally:
        scope.position, scope.now_ms = seen  # I6: the line of calls has not seen it, nor will it on a replay
