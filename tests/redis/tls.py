"""TLS before servers that have none, and certificates of an authority that nobody knows."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import trustme

from flowkit_testing.servers import Server


class TlsFront:
    """Speaks TLS on a port of its own, and plainly with the server behind it.

    Args:
        port: the server's.
        context: the certificate, and whether clients have to show one.
        renamed: ports that the server tells of, and those that are told instead: where their fronts are.
    """

    def __init__(self, port: int, context: ssl.SSLContext, renamed: Mapping[int, int] | None = None) -> None:
        self._port = port
        self._context = context
        self._renamed = {_word(plain): _word(front) for plain, front in (renamed or {}).items()}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._closed = False
        self._threads[0].start()

    def close(self) -> None:
        """Hang up on everyone."""
        with self._lock:
            self._closed = True
            open_ = [self._listener, *self._sockets]
        for each in open_:
            _hang_up(each)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                self._start(self._serve, plain)

    def _start(self, target: object, *args: object) -> threading.Thread:
        assert callable(target)
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _serve(self, plain: socket.socket) -> None:
        """Whoever opens a socket closes it; `close` ends what is said on it."""
        with (
            contextlib.suppress(OSError),  # it was not convinced, or not convincing, or is gone already
            plain,
            self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False) as near,
        ):
            self._open(near)
            near.do_handshake()
            with socket.create_connection(("127.0.0.1", self._port)) as far:
                self._open(far)
                back = self._start(_pass_on, far, near, self._renamed)
                _pass_on(near, far, {})
                back.join()

    def _open(self, socket_: socket.socket) -> None:
        with self._lock:
            self._sockets.append(socket_)
            closed = self._closed
        if closed:
            _hang_up(socket_)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _word(port: int) -> bytes:
    """A port in an answer."""
    text = str(port).encode()
    return b"$%d\r\n%b\r\n" % (len(text), text)


def _pass_on(source: socket.socket, sink: socket.socket, renamed: Mapping[bytes, bytes]) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            for plain, front in renamed.items():
                data = data.replace(plain, front)  # small answers, which come in one piece
            sink.sendall(data)
    for each in (source, sink):
        _hang_up(each)


def _hang_up(socket_: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket_.shutdown(socket.SHUT_RDWR)


class Certificates:
    """An authority that nobody knows, a server's certificate, and a client's, in files."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self.client = folder / "client.pem"
        self.server = folder / "server.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        authority.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(str(self.client))
        self._authority = authority

    def settings(self, server: Server) -> dict[str, str]:
        """For a server that speaks TLS itself, with its peers too; its plain port stays open for the tests."""
        if not self.server.exists():
            self._authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(self.server))
        files = {"tls-cert-file": self.server, "tls-key-file": self.server, "tls-ca-cert-file": self.ca}
        own = {"tls-port": str(server.reserve_port()), "tls-auth-clients": "no", "tls-replication": "yes"}
        return own | {name: str(file) for name, file in files.items()}

    def context(self, host: str = "127.0.0.1", *, mutual: bool = False) -> ssl.SSLContext:
        """What a server at that host has."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(host).configure_cert(context)
        if mutual:
            self._authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context
