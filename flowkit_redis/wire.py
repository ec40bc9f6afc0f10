"""A connection to a server: redis-py opens it (TCP, TLS, user, database), what goes over it is written and read here.

The serialization protocol is RESP 2 (https://redis.io/docs/latest/develop/reference/protocol-spec/), of which scripts
use little. This takes a fifth of the time that redis-py's own packer and parser take, which is most of a step's price.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from socket import socket
from typing import Any, Protocol

from redis._parsers import BaseParser
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as NoAnswer

Word = bytes | int | str | float
Answer = Any  # numbers, bytes, None, errors, and lists of them

_CHUNK = 1 << 16
_USUAL_BYTES = 1024
_parse_error: Callable[[str], Exception] = BaseParser.parse_error  # redis-py knows which class each error has
_INTEGER, _BULK, _ARRAY, _STATUS, _ERROR = b":$*+-"


class Dialled(Protocol):
    """What is used of a connection of redis-py, which gives these methods no types."""

    def connect(self) -> None:
        """Open it."""

    def disconnect(self) -> None:
        """Close it."""

    def _get_socket(self) -> socket | None: ...


class _Heads(dict[int, bytes]):
    """How a word of so many bytes begins; those of the usual sizes are kept."""

    def __missing__(self, size: int) -> bytes:
        head = b"$%d" % size
        if size < _USUAL_BYTES:
            self[size] = head
        return head


_heads = _Heads()


def packed(words: Sequence[Word]) -> bytes:
    """A command as it goes over the wire."""
    heads, pieces = _heads, [b"*%d" % len(words)]
    add = pieces.append
    for word in words:
        text = word if type(word) is bytes else str(word).encode()
        add(heads[len(text)])
        add(text)
    add(b"")
    return b"\r\n".join(pieces)


class Wire:
    """One connection. It opens itself when first used; after an error it is closed, since an answer may be on its way.

    Args:
        dialled: opens it.
    """

    def __init__(self, dialled: Dialled) -> None:
        self._dialled = dialled
        self._socket: socket | None = None
        self._buffer = b""
        self._at = 0  # what lies before it has been read

    def connect(self) -> None:
        """Open it, if it is not open."""
        if self._socket is None:
            self._dialled.connect()
            self._socket = self._dialled._get_socket()  # noqa: SLF001  # redis-py has no other way to it
            self._buffer, self._at = b"", 0

    def disconnect(self) -> None:
        """Close it."""
        self._socket = None
        self._dialled.disconnect()

    def fileno(self) -> int:
        """What to wait for."""
        if self._socket is None:
            raise LostConnection("the connection is closed")
        return self._socket.fileno()

    def send(self, words: Sequence[Word]) -> None:
        """Send a command."""
        self.connect()
        assert self._socket is not None
        try:
            self._socket.sendall(packed(words))
        except TimeoutError as error:
            self.disconnect()
            raise NoAnswer("the server does not take what is sent to it") from error
        except OSError as error:
            self.disconnect()
            raise LostConnection(f"the connection broke while a command was sent: {error}") from error

    def receive(self) -> Answer:
        """Take the next answer.

        Raises:
            redis.exceptions.ResponseError: the server says no; the connection is as good as before.
            redis.exceptions.ConnectionError, redis.exceptions.TimeoutError: there is no answer.
        """
        try:
            answer = self._read()
        except TimeoutError as error:
            self.disconnect()
            raise NoAnswer("the server did not answer in time") from error
        except OSError as error:
            self.disconnect()
            raise LostConnection(f"the connection broke while an answer was awaited: {error}") from error
        except BaseException:
            self.disconnect()
            raise
        if isinstance(answer, Exception):
            if not isinstance(answer, ResponseError):  # a server that is loading or full closes connections
                self.disconnect()
            raise answer
        return answer

    def _read(self) -> Answer:
        line = self._line()
        kind = line[0]
        if kind == _INTEGER:
            return int(line[1:])
        if kind == _BULK:
            size = int(line[1:])
            return None if size < 0 else self._exactly(size)
        if kind == _ARRAY:
            size = int(line[1:])
            return None if size < 0 else [self._read() for _ in range(size)]
        if kind == _STATUS:
            return line[1:]
        if kind == _ERROR:
            return _parse_error(line[1:].decode("utf-8", "replace"))
        raise LostConnection("the server does not speak RESP 2")

    def _line(self) -> bytes:
        end = self._buffer.find(b"\r\n", self._at)
        while end < 0:
            self._more(1)
            end = self._buffer.find(b"\r\n", self._at)
        line = self._buffer[self._at : end]
        self._at = end + 2
        return line

    def _exactly(self, size: int) -> bytes:
        missing = self._at + size + 2 - len(self._buffer)
        if missing > 0:
            self._more(missing)
        data = self._buffer[self._at : self._at + size]
        self._at += size + 2
        return data

    def _more(self, missing: int) -> None:
        """Read at least so many bytes more."""
        assert self._socket is not None
        pieces = [self._buffer[self._at :]]
        self._at = 0
        while missing > 0:
            piece = self._socket.recv(max(_CHUNK, missing))
            if not piece:
                raise LostConnection("the server has closed the connection")
            pieces.append(piece)
            missing -= len(piece)
        self._buffer = b"".join(pieces)
