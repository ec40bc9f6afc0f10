"""Connections to one server: a pool for calls that answer at once, and others for calls that wait."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import ResponseError

from flowkit.errors import StorageError
from flowkit_redis.wire import Answer, Wire, Word

Connect = Callable[[], Wire]


class Pool:
    """Lends each call a connection of its own. Any thread may use it; a forked child gets connections of its own.

    Args:
        connect: makes a connection.
        where: what the server is called in errors, without secrets.
    """

    def __init__(self, connect: Connect, where: str) -> None:
        self.connect = connect
        self.where = where
        self._idle: deque[Wire] = deque()  # newest last, and taken first
        self._pid = os.getpid()
        self._closed = False
        self._retired = False

    def ask(self, *words: Word, again: bool = True) -> Answer:
        """Send a command and take its answer.

        Args:
            words: the command.
            again: whether it may be sent twice, if a connection that was open before turns out to be dead.

        Raises:
            redis.exceptions.RedisError: as the server or the connection has it.
        """
        return self._exchange(words, again=again)

    def ask_importing(self, *words: Word, again: bool = True) -> Answer:
        """As `ask`, of a node of a Cluster that is just getting the keys (`ASKING`)."""
        return self._exchange(words, again=again, asking=True)

    def _exchange(self, words: tuple[Word, ...], *, again: bool, asking: bool = False) -> Answer:
        while True:
            connection, used = self._take()
            try:
                if asking:
                    connection.send((b"ASKING",))
                    connection.receive()
                connection.send(words)
                answer = connection.receive()
            except ResponseError:
                self._give_back(connection)
                raise
            except LostConnection:
                connection.disconnect()
                self.drop_idle()  # the others are as old
                if not (used and again):
                    raise
                continue
            except BaseException:
                connection.disconnect()  # the answer may still come, and would be taken for another one's
                raise
            self._give_back(connection)
            return answer

    def drop_idle(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            try:
                self._idle.pop().disconnect()
            except IndexError:  # another thread was faster
                return

    def retire(self) -> None:
        """Keep no connection open: another server is used from now on, also while some calls still end here."""
        self._retired = True
        self.drop_idle()

    def close(self) -> None:
        """Close what is idle now, and the others when their calls have been answered."""
        self._closed = True
        self.drop_idle()

    def _take(self) -> tuple[Wire, bool]:
        if self._closed:
            raise closed()
        if self._pid != os.getpid():
            self._idle, self._pid = deque(), os.getpid()
        try:
            return self._idle.pop(), True
        except IndexError:
            return self.connect(), False

    def _give_back(self, connection: Wire) -> None:
        self._idle.append(connection)
        if self._closed or self._retired:
            self.drop_idle()


def closed() -> StorageError:
    """What a storage says that is not open."""
    return StorageError("the redis storage is not open")
