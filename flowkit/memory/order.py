"""The orders in which the memory storage keeps its runs. Nothing here knows what a run is.

`Shelf` is a heap with lazy deletion, after the recipe in the documentation of `heapq`. `NumberSet` keeps numbers
sorted in buckets, so that a page of a listing costs what it shows and not what lies before it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar

Rank = tuple[int, ...]
T = TypeVar("T", bound=Hashable)

_SLACK = 64  # superseded entries that are not worth a rebuild
_BUCKET = 1024


class Shelf(Generic[T]):
    """A priority queue out of which any item can be taken at any time, in O(log n)."""

    __slots__ = ("_alive", "_heap", "_tickets")

    def __init__(self) -> None:
        self._heap: list[tuple[Rank, int, T]] = []
        self._alive: dict[T, int] = {}
        self._tickets = count()

    def __len__(self) -> int:
        return len(self._alive)

    def __contains__(self, item: T) -> bool:
        return item in self._alive

    @property
    def weight(self) -> int:
        """Entries that it holds, superseded ones included."""
        return len(self._heap)

    def put(self, item: T, rank: Rank) -> None:
        """Add an item, or give it a new rank. The lowest rank is first."""
        ticket = next(self._tickets)
        self._alive[item] = ticket
        heappush(self._heap, (rank, ticket, item))
        self._tidy()

    def discard(self, item: T) -> None:
        """Take an item out, if it is there."""
        if self._alive.pop(item, None) is not None:
            self._tidy()

    def first(self) -> tuple[Rank, T] | None:
        """The item with the lowest rank, which stays."""
        heap = self._heap
        while heap:
            rank, ticket, item = heap[0]
            if self._alive.get(item) == ticket:
                return rank, item
            heappop(heap)
        return None

    def _tidy(self) -> None:
        if len(self._heap) > 2 * len(self._alive) + _SLACK:
            self._heap = [entry for entry in self._heap if self._alive.get(entry[2]) == entry[1]]
            heapify(self._heap)


class NumberSet:
    """A sorted set of numbers; adding one that is larger than all others costs least."""

    __slots__ = ("_buckets", "_size")

    def __init__(self) -> None:
        self._buckets: list[list[int]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, number: int) -> None:
        """Put in a number that is not there yet."""
        self._size += 1
        buckets = self._buckets
        if not buckets or number > buckets[-1][-1]:
            if not buckets or len(buckets[-1]) >= _BUCKET:
                buckets.append([])
            buckets[-1].append(number)
            return
        place = self._bucket_of(number)
        bucket = buckets[place]
        insort(bucket, number)
        if len(bucket) > 2 * _BUCKET:
            buckets[place : place + 1] = [bucket[:_BUCKET], bucket[_BUCKET:]]

    def remove(self, number: int) -> None:
        """Take out a number that is there."""
        self._size -= 1
        place = self._bucket_of(number)
        bucket = self._buckets[place]
        del bucket[bisect_left(bucket, number)]
        if not bucket:
            del self._buckets[place]

    def below(self, bound: int) -> Iterator[int]:
        """The numbers less than this one, largest first."""
        place = self._bucket_of(bound)
        if place < len(self._buckets):
            bucket = self._buckets[place]
            yield from reversed(bucket[: bisect_left(bucket, bound)])
        for bucket in reversed(self._buckets[:place]):
            yield from reversed(bucket)

    def _bucket_of(self, number: int) -> int:
        return bisect_left(self._buckets, number, key=_last)


def _last(bucket: list[int]) -> int:
    return bucket[-1]
