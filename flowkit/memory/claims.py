"""Who may advance which run: claims and renewals over the state of a memory storage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heapreplace

from flowkit.memory.order import Rank
from flowkit.memory.run import Lane, Place, Run
from flowkit.memory.state import State
from flowkit.records import AnyOf, Claimed, Exactly, Grant, Lease, LeaseState, Want


def lanes_of(state: State, want: AnyOf) -> list[Lane]:
    """The lanes that a claim looks at, each once. Others are not even seen (rule X4)."""
    pairs = dict.fromkeys((queue, task) for queue in want.queues for task in want.tasks)
    return [state.lanes[pair] for pair in pairs if pair in state.lanes]


def claim(state: State, grant: Grant, want: Want, limit: int, now_ms: int) -> Claimed:
    """Lease what is ready, due, or left by its owner; the same grant again gets what it still owns."""
    owned = state.tokens.get(grant.token, {})
    if isinstance(want, Exactly):
        run = state.runs.get(want.run_id)
        runs = [] if run is None else [run]
        leases = [run.lease(grant.token) for run in runs if run in owned]
        if not leases and limit > 0:
            leases = [
                state.take(run, grant, now_ms)
                for run in runs
                if _claimable(run, now_ms) and run.lane.has_room(run, now_ms)
            ]
        due = [run.due_ms for run in runs if run.due_ms is not None]
    else:
        lanes = lanes_of(state, want)
        leases = [run.lease(grant.token) for run in owned]
        if not leases:
            for lane in lanes:
                _offer_due(lane, now_ms)
            leases = [state.take(run, grant, now_ms) for run in _best(lanes, limit)]
        due = list(_next_due(lanes))
        for lane in lanes:
            lane.timers_told = lane.timers_set
    return Claimed(tuple(leases), min(due, default=None), now_ms)


def renew(state: State, leases: Iterable[Lease], lease_ms: int, now_ms: int) -> list[LeaseState]:
    """Extend what is still held; being late is no loss as long as nobody else has claimed it."""
    return [_renew(state, lease, lease_ms, now_ms) for lease in leases]


def _renew(state: State, lease: Lease, lease_ms: int, now_ms: int) -> LeaseState:
    run = state.runs.get(lease.run_id)
    if run is None or run.owner != lease.owner or run.fence != lease.fence:
        return LeaseState(held=False)
    state.lease_until(run, now_ms + lease_ms, now_ms)
    return LeaseState(held=True, cancel=run.cancel, inbox=len(run.inbox))


def _claimable(run: Run, now_ms: int) -> bool:
    due = run.due_ms is not None and run.due_ms <= now_ms
    on_offer = due if run.place in (Place.LEASED, Place.WAITING) else run.place is Place.READY
    return on_offer and run.lane.has_room(run, now_ms)


def _offer_due(lane: Lane, now_ms: int) -> None:
    """Put timers and leases that have come due among the ready; their runs change only when they are taken."""
    while (first := lane.due.first()) is not None:
        (due_ms, _), run = first
        if due_ms > now_ms:
            return
        lane.due.discard(run)
        lane.offer(run, due_ms, now_ms)


def _best(lanes: Iterable[Lane], limit: int) -> Iterator[Run]:
    """The first runs over all lanes; whoever iterates takes each out of its lane before asking for the next."""
    heads: list[tuple[Rank, Run]] = [first for lane in lanes if (first := lane.ready.first()) is not None]
    heapify(heads)
    for _ in range(limit):
        if not heads:
            return
        run = heads[0][1]
        yield run
        following = run.lane.ready.first()
        if following is None:
            heappop(heads)
        else:
            heapreplace(heads, following)


def _next_due(lanes: Iterable[Lane]) -> Iterator[int]:
    for lane in lanes:
        first = lane.due.first()
        if first is not None:
            yield first[0][0]
