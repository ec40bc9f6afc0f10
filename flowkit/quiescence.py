"""Does an asyncio task wait for nothing but flowkit's own futures?

asyncio has no public answer, so this reads what CPython keeps: the future a task waits on, and, for the waiting
primitives of asyncio itself, what their frames wait for in turn. Whatever it does not recognise (raw I/O, a thread, a
timer) counts as "waits for something else", which is safe: the run then stays in memory a while longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable
from typing import Any

MAX_DEPTH = 200


def waits_only_on(task: asyncio.Future[Any], ours: Container[asyncio.Future[Any]]) -> bool:
    """True if everything that could wake this task hangs on a future of `ours`."""
    return _blocked(task, ours, set(), 0)


def _blocked(
    future: asyncio.Future[Any] | None, ours: Container[asyncio.Future[Any]], seen: set[int], depth: int
) -> bool:
    if future is None or depth > MAX_DEPTH:
        return False
    if future in ours or id(future) in seen:
        return True
    seen.add(id(future))
    if isinstance(future, asyncio.Task):
        return _task_blocked(future, ours, seen, depth)
    children = getattr(future, "_children", None)  # asyncio.gather
    if isinstance(children, Iterable):
        pending = [child for child in children if not child.done()]
        return bool(pending) and all(_blocked(child, ours, seen, depth + 1) for child in pending)
    return False


def _task_blocked(task: asyncio.Task[Any], ours: Container[asyncio.Future[Any]], seen: set[int], depth: int) -> bool:
    waiter = getattr(task, "_fut_waiter", None)
    if waiter is None or task.done():
        return False
    if _blocked(waiter, ours, seen, depth + 1):
        return True
    awaited = _awaited_by_frame(task)
    return bool(awaited) and all(_blocked(future, ours, seen, depth + 1) for future in awaited)


def _awaited_by_frame(task: asyncio.Task[Any]) -> list[asyncio.Future[Any]]:
    """What asyncio's own innermost waiting coroutine waits for, behind the plain future that it made."""
    coroutine: Any = task.get_coro()
    innermost = None
    while coroutine is not None and getattr(coroutine, "cr_frame", None) is not None:
        innermost = coroutine
        coroutine = getattr(coroutine, "cr_await", None)
    if innermost is None:
        return []
    frame = innermost.cr_frame
    if frame.f_globals.get("__name__") not in {"asyncio.tasks", "asyncio.taskgroups"}:
        return []
    match frame.f_code.co_name:
        case "_wait":  # asyncio.wait, without a timeout of its own
            waiting = frame.f_locals.get("fs", ()) if frame.f_locals.get("timeout") is None else ()
        case "__aexit__":  # TaskGroup
            waiting = getattr(frame.f_locals.get("self"), "_tasks", ())
        case "_wait_for_one" | "_get_one" | "shield":
            waiting = frame.f_locals.get("todo", ())
        case _:
            waiting = ()
    return [future for future in waiting if not future.done()]
