"""A TCP proxy that loses, cuts and delays what goes through it, when a test says so."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from enum import Enum, auto
from typing import Self

_CHUNK = 1 << 16
_PATIENCE_S = 60.0


class Fault(Enum):
    """What becomes of a request or its reply."""

    LOSE_REQUEST = auto()  # the connection is cut before the server hears of it
    LOSE_REPLY = auto()  # the server acts, and the connection is closed instead of its reply
    RESET = auto()  # as LOSE_REPLY, with a reset
    HALF_REPLY = auto()  # the connection is closed in the middle of the reply
    HALF_CLOSE = auto()  # as LOSE_REPLY, but only that direction is closed
    HOLD_REPLY = auto()  # the reply comes when `release` is called


class Proxy:
    """Stands between a client and a server on this machine.

    Args:
        port: the server's.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._lock = threading.Lock()
        self._armed: tuple[Fault, bytes] | None = None
        self._held = threading.Event()
        self._happened = threading.Event()
        self._lines: set[_Line] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="flowkit-proxy", daemon=True).start()

    def arm(self, fault: Fault, marker: bytes = b"") -> None:
        """Let this happen to the next request that contains the marker, once."""
        with self._lock:
            self._armed = (fault, marker)
            self._held.clear()
            self._happened.clear()

    @property
    def happened(self) -> bool:
        """True once what was armed has happened."""
        return self._happened.is_set()

    def wait(self) -> None:
        """Return when what was armed has happened."""
        assert self._happened.wait(_PATIENCE_S), "no request came that the fault was for"

    def release(self) -> None:
        """Let held replies go on."""
        self._held.set()

    def cut(self) -> None:
        """Close all connections that there are now."""
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            line.close()

    def close(self) -> None:
        """Close everything."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # a thread that stands in `accept` would let one more in
        self._listener.close()
        self._held.set()
        self.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def fault_for(self, request: bytes) -> Fault | None:
        """What is to happen to this request."""
        with self._lock:
            if self._armed is None or self._armed[1] not in request:
                return None
            fault, self._armed = self._armed[0], None
            return fault

    def done(self, *, held: bool = False) -> None:
        """What was armed happens now; a held reply is waited with until it is released."""
        self._happened.set()
        if held:
            self._held.wait(_PATIENCE_S)

    def forget(self, line: _Line) -> None:
        """A connection has ended."""
        with self._lock:
            self._lines.discard(line)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            line = _Line(self, client, server)
            with self._lock:
                self._lines.add(line)
            line.start()


class _Line:
    """One connection through the proxy, a thread for each direction."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._fault: Fault | None = None

    def start(self) -> None:
        """Begin to carry."""
        for work in (self._requests, self._replies):
            threading.Thread(target=work, name="flowkit-proxy-line", daemon=True).start()

    def close(self) -> None:
        """End it, both ways."""
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._proxy.forget(self)

    def _requests(self) -> None:
        with contextlib.suppress(OSError):
            while request := self._client.recv(_CHUNK):
                fault = self._proxy.fault_for(request)
                if fault is Fault.LOSE_REQUEST:
                    self._proxy.done()
                    break
                if fault is not None:
                    self._fault = fault
                self._server.sendall(request)
        self.close()

    def _replies(self) -> None:
        with contextlib.suppress(OSError):
            while reply := self._server.recv(_CHUNK):
                if self._fault is not None and not self._spoil(self._fault, reply):
                    break
                self._client.sendall(reply)
        self.close()

    def _spoil(self, fault: Fault, reply: bytes) -> bool:
        """Do it to this reply; True if the reply is to go on."""
        self._fault = None
        self._proxy.done(held=fault is Fault.HOLD_REPLY)
        if fault is Fault.HALF_REPLY:
            self._client.sendall(reply[: len(reply) // 2])
        elif fault is Fault.RESET:
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif fault is Fault.HALF_CLOSE:
            self._client.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                while self._client.recv(_CHUNK):  # what is sent now is heard by nobody
                    pass
        return fault is Fault.HOLD_REPLY
