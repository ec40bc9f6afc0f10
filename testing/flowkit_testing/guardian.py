"""A process that ends test servers when the process that has started them is gone, however that has ended.

It reads from a pipe whose other end the starter holds: the kernel closes that even when the starter is killed. Unlike
`PR_SET_PDEATHSIG` it does not depend on the thread that has started a server, nor on Linux. It is run by its path,
without this package.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from threading import Lock


class Guardian:
    """Its end at the starter. The process is started with the first server."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[str] | None = None
        os.register_at_fork(after_in_child=self._after_fork)

    def watch(self, pid: int, folder: object) -> None:
        """End this server and remove its folder when this process is gone."""
        self._tell(f"+ {pid} {folder}")

    def forget(self, pid: int) -> None:
        """The server has ended."""
        self._tell(f"- {pid} ")

    def _tell(self, line: str) -> None:
        with self._lock:
            if self._process is None:
                command = [sys.executable, "-I", "-S", __file__]
                # in a session of its own: what is sent to the starter's group is not for it
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)  # noqa: S603  # ourselves
            assert self._process.stdin is not None
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _after_fork(self) -> None:
        """A forked child is no starter, and must not hold the pipe open; the servers are its parent's."""
        self._lock = Lock()
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            process.returncode = 0  # nobody's business here


def main(lines: Iterable[str]) -> None:
    """Note what is told, and when nobody can tell any more, end what is left."""
    left: dict[int, str] = {}
    for line in lines:
        sign, pid, folder = line.rstrip("\n").split(" ", 2)
        if sign == "+":
            left[int(pid)] = folder
        else:
            left.pop(int(pid), None)
    for server, folder in left.items():
        with suppress(ProcessLookupError):
            os.kill(server, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.stdin)
