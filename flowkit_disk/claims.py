"""Who may advance which run: claims and renewals, within one transaction."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from heapq import heapify, heappop, heapreplace

from flowkit.records import AnyOf, Claimed, Exactly, Grant, Lease, LeaseState
from flowkit_disk import keys
from flowkit_disk.book import Book
from flowkit_disk.changes import Changes
from flowkit_disk.runrow import Place, Run

OFFERED_AT_MOST = 256  # due runs of a lane that one claim puts among the ready; the next claim goes on


def claim_one(book: Book, grant: Grant, want: Exactly, limit: int, owner_is_dead: bool) -> Claimed:  # noqa: FBT001  # one caller
    """Lease this run if it is ready, due, or its owner is gone; the same grant again gets what it still owns."""
    run = book.run(want.run_id)
    if run is None:
        return Claimed((), None, book.now_ms)
    leases: tuple[Lease, ...] = ()
    if run.place is Place.LEASED and run.owner == grant.token:
        leases = (run.lease(),)
    elif limit > 0 and _claimable(run, book.now_ms, owner_is_dead=owner_is_dead) and Changes(book).has_room(run):
        leases = (Changes(book).take(run, grant),)
    return Claimed(leases, run.due_ms, book.now_ms)


def claim_any(book: Book, grant: Grant, want: AnyOf, limit: int) -> Claimed:
    """Lease what is ready, due, or left by its owner; the same grant again gets what it still owns."""
    lanes = _lanes(book, want)
    leases = [run.lease() for run in book.owned_by(grant.token)]
    if not leases:
        for lane in lanes:
            _offer_due(book, lane)
        changes = Changes(book)
        leases = [changes.take(run, grant) for run in _best(book, lanes, limit)]
    return Claimed(tuple(leases), min(_next_due(book, lanes), default=None), book.now_ms)


def renew(book: Book, leases: Iterable[Lease], lease_ms: int) -> list[LeaseState]:
    """Extend what is still held; being late is no loss as long as nobody else has claimed it."""
    return [_renew(book, lease, lease_ms) for lease in leases]


def expire_leases_of(book: Book, dead: Container[str | None]) -> None:
    """End the leases of workers whose process is gone (rule X1): the runs are due now, for whoever has their tasks."""
    changes = Changes(book)
    for run in book.leased():
        if run.worker in dead and run.due_ms is not None and run.due_ms > book.now_ms:
            changes.lease_until(run, book.now_ms)


def _renew(book: Book, lease: Lease, lease_ms: int) -> LeaseState:
    run = book.run(lease.run_id)
    if run is None or run.owner != lease.owner or run.fence != lease.fence:
        return LeaseState(held=False)
    Changes(book).lease_until(run, book.now_ms + lease_ms)
    return LeaseState(held=True, cancel=run.cancel, inbox=run.inbox)


def _claimable(run: Run, now_ms: int, *, owner_is_dead: bool) -> bool:
    if run.place is Place.LEASED and owner_is_dead:
        return True
    if run.place in (Place.LEASED, Place.WAITING):
        return run.due_ms is not None and run.due_ms <= now_ms
    return run.place is Place.READY


def _lanes(book: Book, want: AnyOf) -> list[int]:
    """The lanes that a claim looks at, each once. Others are not even seen (rule X4)."""
    pairs = dict.fromkeys((queue, task) for queue in want.queues for task in want.tasks)
    found = (book.lanes.find(book.rows, queue, task) for queue, task in pairs)
    return [lane for lane in found if lane is not None]


def _offer_due(book: Book, lane: int) -> None:
    """Put timers and leases that have come due among the ready; their runs change only when they are taken."""
    for _ in range(OFFERED_AT_MOST):
        first = book.rows.first(keys.due(lane))
        if first is None or keys.due_time(first[0]) > book.now_ms:
            return
        book.rows.drop(first[0])
        run = book.run(first[1].decode())
        if run is not None and run.due_ms is not None:
            Changes(book).offer(run, run.due_ms)


def _best(book: Book, lanes: Iterable[int], limit: int) -> Iterator[Run]:
    """The first runs over all lanes; whoever iterates takes each out of its lane before asking for the next."""
    book.settle()
    heads = [head for lane in lanes if (head := _head(book, lane)) is not None]
    heapify(heads)
    for _ in range(limit):
        if not heads:
            return
        _, lane, run = heads[0]
        yield run
        book.settle()
        following = _head(book, lane)
        if following is None:
            heappop(heads)
        else:
            heapreplace(heads, following)


def _head(book: Book, lane: int) -> tuple[str, int, Run] | None:
    while (first := book.rows.first(keys.ready(lane))) is not None:
        key, run_id = first
        run = book.run(run_id.decode())
        if run is not None:
            return key[key.index("-") :], lane, run
        book.rows.drop(key)  # cannot be; but if it ever were, it would hide all that lies behind it
    return None


def _next_due(book: Book, lanes: Iterable[int]) -> Iterator[int]:
    for lane in lanes:
        first = book.rows.first(keys.due(lane))
        if first is not None:
            yield keys.due_time(first[0])
