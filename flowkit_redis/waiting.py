"""Waiting for hints: tokens for workers in capped lists, and news of runs by subscription.

A hint that is lost costs time, never a run: whoever waits looks again by itself after a second or so.
"""

from __future__ import annotations

import os
import select
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

from redis.exceptions import RedisError, ResponseError

from flowkit_redis.failures import NO_ANSWER
from flowkit_redis.keys import Shard
from flowkit_redis.link import Link
from flowkit_redis.wire import Wire

LOOK_AGAIN_S = 1.0
_MARGIN_S = 1.0  # what a server may be late
_T = TypeVar("_T")


class Closing:
    """Wakes everyone who waits, once: from then on there is something to read."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self.said = False
        weakref.finalize(self, os.close, self._read)
        weakref.finalize(self, os.close, self._write)

    def fileno(self) -> int:
        """What to wait for beside an answer."""
        return self._read

    def say(self) -> None:
        """Wake them."""
        self.said = True
        os.write(self._write, b"x")


class Waiting:
    """Waits on connections of its own, so that calls never stand behind a wait.

    Args:
        link: the way to the servers.
        shards: where there may be news.
    """

    def __init__(self, link: Link, shards: Sequence[Shard]) -> None:
        self._link = link
        self._shards = shards
        self.closing = Closing()
        self._idle: deque[Ears] = deque()
        self._pid = os.getpid()

    def close(self) -> None:
        """Wake everyone."""
        self.closing.say()
        self._hang_up()

    def _hang_up(self) -> None:
        with suppress(IndexError):  # there are no more, or another thread was faster
            while True:
                self._idle.pop().close()

    def for_work(self, lanes: Sequence[bytes], timeout_s: float) -> None:
        """Take a token of one of these lanes, or wait until there is one."""
        with self._ears() as ears:
            ears.listen(lanes, timeout_s)

    def for_news(self, channel: bytes, look: Callable[[], _T | None], timeout_s: float) -> _T | None:
        """Look, and again whenever the channel has news, until there is something to see."""
        deadline_s = time.monotonic() + timeout_s
        with self._ears() as ears:
            ears.subscribe(channel)
            while (found := look()) is None:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or self.closing.said:
                    break
                ears.hear(min(left_s, LOOK_AGAIN_S))
            ears.unsubscribe(channel)
            return found

    @contextmanager
    def _ears(self) -> Iterator[Ears]:
        if self._pid != os.getpid():
            self._idle, self._pid, self.closing = deque(), os.getpid(), Closing()
        try:
            ears = self._idle.pop()
        except IndexError:
            ears = Ears(self._link, self._shards, self.closing)
        try:
            yield ears
        except BaseException:
            ears.close()
            raise
        self._idle.append(ears)
        if self.closing.said:  # looked at only now: whoever closes has hung up on this one too, or it is done here
            self._hang_up()


class Ears:
    """A connection to each shard on which one thread waits; what was asked and not answered stays asked."""

    def __init__(self, link: Link, shards: Sequence[Shard], closing: Closing) -> None:
        self._link = link
        self._shards = shards
        self._closing = closing
        self._open: dict[int, Wire] = {}
        self._ids: dict[int, int] = {}  # what the servers call these connections
        self._asked: dict[int, tuple[bytes, ...]] = {}  # BLPOP under way in a shard, for these keys

    def close(self) -> None:
        """Hang up."""
        for connection in self._open.values():
            connection.disconnect()
        self._open.clear()
        self._asked.clear()

    def listen(self, lanes: Sequence[bytes], timeout_s: float) -> None:
        """Wait until a shard has a token for one of the lanes."""
        if not lanes or timeout_s <= 0:
            return
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            for shard in self._shards:
                self._ask_for_token(shard, lanes, left_s)
            heard = self._readable(left_s + _MARGIN_S)
            tokens = [self._answer(number) for number in heard]
            if not heard and not self._closing.said:
                self._give_up()
            taken = [(number, token) for number, token in zip(heard, tokens, strict=True) if token]
            if taken:
                self._leave_to_others(taken[1:])
            if not heard or taken:
                return

    def _ask_for_token(self, shard: Shard, lanes: Sequence[bytes], timeout_s: float) -> None:
        keys = tuple(shard.prefix + b"wake:" + lane for lane in lanes)
        if self._asked.get(shard.number) == keys:
            return
        if shard.number in self._asked:  # for other lanes: nobody wants that answer any more
            self._open.pop(shard.number).disconnect()
        with self._reporting(shard.number):
            self._connection(shard.number).send((b"BLPOP", *keys, f"{timeout_s:.3f}"))
        self._asked[shard.number] = keys

    def _answer(self, number: int) -> Sequence[bytes] | None:
        """The key and the token, or nothing: the time was over."""
        del self._asked[number]
        with self._reporting(number):
            answer: Sequence[bytes] | None = self._open[number].receive()
        return answer

    def _leave_to_others(self, taken: Sequence[tuple[int, Sequence[bytes]]]) -> None:
        """One token wakes one: what comes of other shards meanwhile is for others who wait."""
        called_off = [(number, self._called_off(number)) for number in list(self._asked)]
        for number, found in (*taken, *called_off):
            if found:
                self._link.command(number, b"RPUSH", *found)

    def _called_off(self, number: int) -> Sequence[bytes] | None:
        """End a wait; the token, if one had come already."""
        known = self._ids.get(number)
        try:
            if known is not None:
                self._link.command(number, b"CLIENT", b"UNBLOCK", known)
                if number in self._readable(_MARGIN_S, only=number):
                    return self._answer(number)
        except NO_ANSWER:
            pass
        self._asked.pop(number, None)
        self._open.pop(number).disconnect()
        return None

    def _give_up(self) -> None:
        """Who does not answer when its time is over will not: the server froze, or the way to it is cut."""
        silent = list(self._asked)
        self.close()
        for number in silent:
            self._link.lost(number, TimeoutError("no answer in time"))

    @contextmanager
    def _reporting(self, number: int) -> Iterator[None]:
        """Let the link know that a shard may be elsewhere by now."""
        try:
            yield
        except (RedisError, OSError) as error:
            self._link.lost(number, error)
            raise

    def subscribe(self, channel: bytes) -> None:
        """Hear of what is published there."""
        if self._asked:
            self.close()
        with self._reporting(0):
            connection = self._connection(0)
            connection.send((b"SUBSCRIBE", channel))
            connection.receive()
        self._asked[0] = ()

    def hear(self, timeout_s: float) -> None:
        """Wait for one message."""
        if self._readable(timeout_s):
            with self._reporting(0):
                self._open[0].receive()

    def unsubscribe(self, channel: bytes) -> None:
        """Hear of it no more."""
        if self._closing.said:
            return
        connection = self._open[0]
        connection.send((b"UNSUBSCRIBE", channel))
        while connection.receive()[0] != b"unsubscribe":
            pass
        del self._asked[0]

    def _connection(self, number: int) -> Wire:
        connection = self._open.get(number)
        if connection is None:
            connection = self._open[number] = self._link.connection(number)
            connection.connect()
            if len(self._shards) > 1:
                self._learn_id(number, connection)
        return connection

    def _learn_id(self, number: int, connection: Wire) -> None:
        self._ids.pop(number, None)
        connection.send((b"CLIENT", b"ID"))
        with suppress(ResponseError):  # without the right to it, waits are ended by hanging up
            self._ids[number] = connection.receive()

    def _readable(self, timeout_s: float, *, only: int | None = None) -> list[int]:
        """The shards whose connection has something to read; none after the timeout, or when closing."""
        poll = select.poll()
        poll.register(self._closing, select.POLLIN | select.POLLHUP)
        numbers: dict[int, int] = {}
        for number in self._asked if only is None else (only,):
            handle = self._open[number].fileno()
            poll.register(handle, select.POLLIN | select.POLLHUP)
            numbers[handle] = number
        ready = {handle for handle, _ in poll.poll(max(0, round(timeout_s * 1000)))}
        if self._closing.said:
            return []
        return [number for handle, number in numbers.items() if handle in ready]
