"""What it takes to bring a run to its end, as generators of requests: who performs them blocks, or awaits them.

They are written once for both colours, as operations are; what they ask for is either a call that blocks or an
incarnation to advance.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Generator
from typing import Any, TypeVar, assert_never

from flowkit.body import Ended, Ending
from flowkit.client import Client
from flowkit.documents import ReplyTo, decode_input, describe_error
from flowkit.effects import ChildAnswer, ChildEnded, ChildWaits
from flowkit.errors import LeaseLost, RunBlocked, RunRolledBack
from flowkit.frozen import frozen
from flowkit.incarnations import Start
from flowkit.reasons import Blocked, Detached, Revoked, RollingBack, Suspended
from flowkit.records import Created, Exactly, Exists, NewRun, RunHeader, RunStatus, Snapshot
from flowkit.reopening import keys_to_retry
from flowkit.run import Run

_T = TypeVar("_T")

SOONEST_LOOK_MS, LATEST_LOOK_MS = 2_000, 60_000  # between two looks at a child that waits for a place; not in place
LONGEST_WAIT_S = 1.0  # between two looks at a run that someone else advances
LONGEST_VIRTUAL_WAIT_S = 3600.0  # nobody waits this long: virtual time passes as fast as things happen


@frozen
class Blocking:
    """Ask the storage something, on a thread if we are on an event loop."""

    call: Callable[[], object]


@frozen
class Advance:
    """Advance a claimed run as far as it goes; the answer is how it ended."""

    start: Start


Plan = Generator[Blocking | Advance, Any, _T]  # the answer differs by request


class Plans:
    """The ways of a process's runs to their ends.

    Args:
        client: the storage that they are in.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._unplaced: dict[str, None] = {}  # children that had no place under their limit; see `_take_up_unplaced`

    def to_end(self, new: NewRun) -> Plan[bytes]:
        """Create, join or resume the run, and stay until it has ended; returns its stored result."""
        ending = yield from self._begin(new)
        while True:
            match ending:
                case Ended(result=result):
                    return result
                case Blocked(error=error) | Detached(error=error):
                    raise error
                case Revoked(error=error):
                    if not isinstance(error, LeaseLost):
                        raise error
                case Suspended() | RollingBack() | None:
                    pass
                case _:
                    assert_never(ending)
            snapshot: Snapshot = yield Blocking(lambda: self._client.snapshot(new.run_id))
            if snapshot.result is not None:
                return self._result_or_raise(snapshot)
            ending = yield from self._resume(new.run_id)
            if ending is None and not (yield from self._take_up_unplaced()):
                yield from self._wait(snapshot.header)

    def _take_up_unplaced(self) -> Plan[bool]:
        """Advance a child that had no place under its limit when its parent called it, if it has one now.

        Its parent may have held that place, and without a worker there is nobody else to do it.
        """
        for run_id in reversed(tuple(self._unplaced)):
            if (yield from self._resume(run_id)) is not None:
                return True
            snapshot: Snapshot | None = yield Blocking(functools.partial(self._client.storage.load, run_id, 0, 0))
            if snapshot is None or snapshot.header.status.finished:
                self._unplaced.pop(run_id, None)
        return False

    def _begin(self, new: NewRun) -> Plan[Ending | None]:
        """Create the run and advance it, or see that it is the same one as was started before."""
        [submitted] = yield Blocking(lambda: self._client.storage.submit([new], now_ms=self._client.now_arg()))
        match submitted:
            case Created(lease=lease, now_ms=now_ms):
                if lease is None:
                    return None
                ending: Ending = yield Advance(Start(lease, new.task, new.input, now_ms, new.entries))
                return ending
            case Exists():
                snapshot: Snapshot = yield Blocking(lambda: self._client.snapshot(new.run_id))
                self._client.check_same(new, snapshot)
                return None
            case _:
                assert_never(submitted)

    def _resume(self, run_id: str) -> Plan[Ending | None]:
        """Claim the run if nobody has it, and advance it; None if there is nothing to claim."""
        grant = self._client.grant()
        claimed = yield Blocking(
            lambda: self._client.storage.claim(grant, Exactly(run_id), 1, now_ms=self._client.now_arg())
        )
        if not claimed.leases:
            return None
        start: Start = yield Blocking(lambda: self._client.start_of(claimed.leases[0]))
        ending: Ending = yield Advance(start)
        return ending

    def _wait(self, header: RunHeader) -> Plan[None]:
        """Wait until there may be something to do for the run: messages that are not enough are not looked at."""
        began_ms = self._client.clock.now_ms()
        while True:
            wait_s = self._until_due_s(header)
            if self._client.clock.virtual:
                self._client.clock.sleep(wait_s)
                return
            wait = functools.partial(self._client.storage.wait_for_run, header.run_id, header.revision, wait_s)
            found: RunHeader | None = yield Blocking(wait)
            if found is None or found.revision == header.revision or not _is_away(found):
                return
            if self._client.clock.now_ms() - began_ms >= LONGEST_WAIT_S * 1000:  # whoever has it may have died
                return
            header = found

    def _until_due_s(self, header: RunHeader) -> float:
        if header.wake_at_ms is None:
            return LONGEST_WAIT_S
        until_due_s = max(0.0, (header.wake_at_ms - self._client.clock.now_ms()) / 1000)
        return until_due_s if self._client.clock.virtual else min(until_due_s, LONGEST_WAIT_S)

    def child(self, parent: Run, new: NewRun, *, reopen: bool) -> Plan[ChildAnswer]:
        """Run a child in its parent's place (rule E3)."""
        reply = decode_input(self._client.codec, new.input).reply
        assert reply is not None  # a child always has a parent to tell
        ending = yield from self._begin(new)
        while True:
            answer = _child_answer(parent, new.run_id, reply, ending)
            if answer is not None:
                return answer
            snapshot: Snapshot = yield Blocking(lambda: self._client.snapshot(new.run_id))
            header = snapshot.header
            if header.status is RunStatus.BLOCKED or (reopen and header.status is RunStatus.FAILED):
                reopen = yield Blocking(functools.partial(self._reopen_child, new.run_id))
            elif header.status.finished and snapshot.result is not None:
                return ChildEnded(snapshot.result)
            ending = yield from self._resume(new.run_id)
            if ending is None:
                if header.parent == parent.id:
                    if header.status is RunStatus.PENDING and header.limit is not None:
                        self._unplaced[new.run_id] = None
                    return ChildWaits(reply.message_id, self._look_again_ms(header))
                yield from self._wait(header)

    def _look_again_ms(self, child: RunHeader) -> int | None:
        """When to look at a child that cannot be advanced now; None if whoever has it, or what wakes it, will tell.

        One that is ready, and was not to be had, waits for a place under its limit.
        """
        if child.status is not RunStatus.PENDING or child.wake_at_ms is not None:
            return child.wake_at_ms
        now_ms = self._client.clock.now_ms()
        return now_ms + min(max(now_ms - child.created_at_ms, SOONEST_LOOK_MS), LATEST_LOOK_MS)

    def _reopen_child(self, run_id: str) -> bool:
        """Reopen a child whose parent is being retried; one that cannot be reopened stays as it ended."""
        snapshot = self._client.load(run_id)
        with contextlib.suppress(RunRolledBack):
            self._client.reopen(snapshot, keys_to_retry(self._client.codec, snapshot))
        return False

    def _result_or_raise(self, snapshot: Snapshot) -> bytes:
        assert snapshot.result is not None  # callers have looked
        if snapshot.header.status is RunStatus.BLOCKED:
            raise describe_error(self._client.codec, snapshot.result)
        return snapshot.result


def _is_away(header: RunHeader) -> bool:
    """Whether the run waits, or is being advanced: neither is there anything to claim nor has it ended."""
    return header.status is RunStatus.WAITING or header.worker is not None


def _child_answer(parent: Run, run_id: str, reply: ReplyTo, ending: Ending | None) -> ChildAnswer | None:
    """What a child's ending means for its parent; None: look at what is stored."""
    match ending:
        case Ended(result=result):
            return ChildEnded(result)
        case Blocked(error=error):
            parent.stop(Blocked(RunBlocked(f"its child run {run_id!r} is blocked: {error}")))
            raise asyncio.CancelledError from error
        case Suspended(wake_at_ms=wake_at_ms):
            return ChildWaits(reply.message_id, wake_at_ms)
        case Detached(error=error):
            if isinstance(error, Exception):  # X5: handed back, so it goes on elsewhere
                return ChildWaits(reply.message_id)
            parent.stop(Detached(error))
            raise asyncio.CancelledError from error
        case Revoked(error=error) if not isinstance(error, LeaseLost):
            raise error
        case _:
            return None
