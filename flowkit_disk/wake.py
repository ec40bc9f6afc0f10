"""Waking those who wait, in this process and in others: one byte to a socket of each.

Whoever waits binds a datagram socket in `wake/` under a name that says what for. A byte that is lost costs time only:
everyone also looks for themselves, now and then.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self
from zlib import crc32

WORK = "work"
_SHORTEST_S = 0.05
_LONGEST_S = 0.5
_number = count()


def about_run(run_id: str) -> str:
    """The name of what somebody waits for who waits for a run."""
    return f"run-{crc32(run_id.encode('utf-8', 'surrogatepass')):08x}"


class Wake:
    """The sockets in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.start_afresh()

    def start_afresh(self) -> None:
        """Forget the waiting threads of the process that this one was forked from."""
        self._mine: set[Waiter] = set()
        self._lock = threading.Lock()

    def waiter(self, topic: str) -> Waiter:
        """Something to wait with, for use in a `with` statement."""
        return Waiter(self, self._folder, topic)

    def wake(self, topics: set[str]) -> bool:
        """Wake those who wait for one of these. Returns whether anybody waits for a run, of these or not."""
        try:
            names = [path.name for path in self._folder.iterdir()]
        except OSError:
            return False
        if not names:
            return False
        for_runs = False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(0)
            for name in names:
                topic = name.split(".", 1)[0]
                for_runs = for_runs or topic != WORK
                if topic in topics:
                    self._send(sender, self._folder / name)
        return for_runs

    def wake_mine(self) -> None:
        """Wake all who wait in this process."""
        with self._lock:
            for waiter in self._mine:
                waiter.poke()

    def _send(self, sender: socket.socket, path: Path) -> None:
        try:
            with _short(path) as address:
                sender.sendto(b"!", address)
        except BlockingIOError:
            pass  # it has bytes enough to wake up
        except ConnectionRefusedError:  # its process is gone
            path.unlink(missing_ok=True)
        except OSError:
            pass  # gone meanwhile, or no room in the kernel: it looks for itself soon

    def add(self, waiter: Waiter) -> None:
        """Somebody begins to wait."""
        with self._lock:
            self._mine.add(waiter)

    def remove(self, waiter: Waiter) -> None:
        """Somebody waits no more."""
        with self._lock:
            self._mine.discard(waiter)


class Waiter:
    """One waiting thread. Where no socket can be bound it only looks now and then."""

    def __init__(self, wake: Wake, folder: Path, topic: str) -> None:
        self._wake = wake
        self._path = folder / f"{topic}.{os.getpid()}.{next(_number)}"
        self._socket: socket.socket | None = None
        self._poke_read, self._poke_write = -1, -1

    def __enter__(self) -> Self:
        self._poke_read, self._poke_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        bound.settimeout(0)
        try:
            with _short(self._path) as address:
                bound.bind(address)
            self._socket = bound
        except OSError:
            bound.close()
        self._wake.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wake.remove(self)
        if self._socket is not None:
            self._socket.close()
            with suppress(OSError):
                self._path.unlink()
        os.close(self._poke_read)
        os.close(self._poke_write)

    def poke(self) -> None:
        """Wake this one."""
        with suppress(BlockingIOError):
            os.write(self._poke_write, b"!")

    def wait_for(self, done: Callable[[], bool], timeout_s: float, clock: Callable[[], float]) -> None:
        """Wait until something is so, or for so long; asked at first, when woken, and now and then."""
        deadline = clock() + timeout_s
        pause_s = _SHORTEST_S
        while not done():
            left_s = deadline - clock()
            if left_s <= 0:
                return
            self._sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _LONGEST_S)

    def _sleep(self, seconds: float) -> None:
        watched: list[int] = [self._poke_read]
        if self._socket is not None:
            watched.append(self._socket.fileno())
        poll = select.poll()
        for descriptor in watched:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(max(1, int(seconds * 1000))):
            with suppress(BlockingIOError):
                os.read(descriptor, 4096)


class _short:  # noqa: N801  # reads as a function
    """A path as the address of a socket, which has room for about 100 bytes: by way of the folder if it is longer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = -1

    def __enter__(self) -> str:
        address = str(self._path)
        if len(os.fsencode(address)) < 100:  # noqa: PLR2004  # explained above
            return address
        self._folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._folder}/{self._path.name}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder >= 0:
            os.close(self._folder)
