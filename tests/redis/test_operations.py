"""What those who run it rely on: namespaces that are apart, memory that stays bounded, secrets that stay secret."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from click.testing import CliRunner

from flowkit import Flow, step, task
from flowkit.cli.app import cli
from flowkit.cli.exits import Exit
from flowkit.records import AnyOf, Commit, Finish, Grant, Lease, NewRun, RunStatus
from flowkit_redis import RedisStorage, redis_storage
from flowkit_redis.url import parse
from flowkit_testing.clusters import Cluster, until
from flowkit_testing.servers import Server
from tests.redis.conftest import opened

ANY = AnyOf(("task",))
SECRET, ESCAPED = "pa:ss/w@rd", "pa%3Ass%2Fw%40rd"  # they open nothing
FLOWKIT = (sys.executable, "-c", "from flowkit.cli import main; main()")
_numbers = count()


@pytest.mark.parametrize("command", ["doctor", "runs list", "runs show run", "worker flowkit_testing.corpus"])
@pytest.mark.parametrize("scheme", ["redis", "redis+cluster", "redis+sentinel"])
def test_nobody_there(silent_port: int, command: str, scheme: str) -> None:
    """A server that is not there is named, with what to look at, on one line, by an exit code of its own."""
    where = f"{scheme}://127.0.0.1:{silent_port}/{'shop/' if scheme == 'redis+sentinel' else ''}0"
    found = CliRunner().invoke(cli, [*command.split(), "--storage", where])
    assert found.exit_code == Exit.STORAGE, found.output
    assert f"{where} cannot be opened (" in found.output
    assert "is it running, and is the URL right?" in found.output
    assert "Traceback" not in found.output


@step
def hello() -> str:
    """A step."""
    return "hello"


@task(id="operations-greeting", tags=("greeting",))
def greeting() -> str:
    """A run of one step."""
    return hello()


class TestNamespaces:
    """Two on one server never see each other."""

    @pytest.fixture(params=["server", "cluster"])
    def urls(self, request: pytest.FixtureRequest) -> tuple[str, str]:
        """Two namespaces of which one's name begins with the other's."""
        kind = "flowkit_redis_server" if request.param == "server" else "flowkit_redis_cluster"
        place: Server | Cluster = request.getfixturevalue(kind)
        name = f"apart{os.getpid()}-{next(_numbers)}"
        return f"{place.url}?namespace={name}", f"{place.url}?namespace={name}0"

    @staticmethod
    def _told(*words: str) -> dict[str, object]:
        found = CliRunner().invoke(cli, [*words, "--json"])
        told: dict[str, object] = json.loads(found.stdout)
        return told

    def test_nothing_of_the_other(self, urls: tuple[str, str]) -> None:
        """Lists, counts, the doctor, items and retention: each tells of its own, and forgets its own."""
        one, other = urls
        for url, runs in ((one, 3), (other, 2)):
            with Flow(url, worker=True) as flow:
                for number in range(runs):
                    assert flow.start(greeting.options(run_id=f"run-{number}")).result(timeout=60) == "hello"
                flow.engine.create(NewRun(f"waits-{runs}", "unknown-task", b"", queue=f"queue-{runs}"))

        for url, runs in ((one, 3), (other, 2)):
            doctor = self._told("doctor", "--storage", url)
            assert isinstance(doctor["runs"], dict)
            assert {status: number for status, number in doctor["runs"].items() if number} == {
                "succeeded": runs,
                "pending": 1,
            }
            assert [each["queue"] for each in doctor["queues"]] == [f"queue-{runs}"]  # type: ignore[attr-defined]  # JSON
            with Flow(url, worker=False) as flow:
                listed = {header.run_id for header in flow.runs()}
                assert listed == {*(f"run-{number}" for number in range(runs)), f"waits-{runs}"}
        pruned = CliRunner().invoke(cli, ["runs", "prune", "--older-than", "0s", "--storage", one])
        assert pruned.exit_code == 0, pruned.output
        with Flow(other, worker=False) as flow:
            assert len(list(flow.runs(status="succeeded"))) == 2
        with Flow(one, worker=False) as flow:
            assert len(list(flow.runs(status="succeeded"))) == 0

    def test_waiters_and_followers_hear_nothing_of_the_other(self, urls: tuple[str, str]) -> None:
        """A token, or news of a run of the same id, belongs to one namespace."""
        with opened(urls[0]) as one, opened(urls[1]) as other:
            one.submit([NewRun("run", "task", b"")])
            other.submit([NewRun("run", "task", b"")])
            other.wait_for_work(ANY, 60.0)  # its own token
            before = other.wait_for_run("run", 0, 60.0)
            assert before is not None
            one.submit([NewRun("second", "task", b"")])
            assert one.claim(Grant("worker", "token", 60_000), ANY, 2).leases
            other.wait_for_work(ANY, 0.05)
            after = other.wait_for_run("run", before.revision, 0.05)
            assert after == before
            assert other.claim(Grant("worker", "token", 60_000), ANY, 5).leases[0].run_id == "run"


def test_retention_keeps_memory_bounded() -> None:
    """Twenty thousand runs pass through, those that have finished are forgotten: the server's memory does not grow."""
    runs, rounds = 4_000, 5
    used: list[int] = []
    with Server(slowlog_log_slower_than="-1") as server, opened(server.url) as storage:  # which keeps what was slow
        for turn in range(rounds):
            _pass_through(storage, turn, runs)
            full = _memory(server)
            while storage.purge(2**52):
                pass
            _a_minute_later(storage, turn, runs)
            used.append(_memory(server))
            assert used[-1] < full
        keys = int(server.ask("DBSIZE")[1:])
    assert max(used[1:]) < used[0] + 100_000, used  # four thousand runs take seven million
    assert keys <= 3  # the number of the last run, how the namespace is laid out, and a hint


def _pass_through(storage: RedisStorage, turn: int, runs: int) -> None:
    ids = [f"run-{turn}-{number}" for number in range(runs)]
    storage.submit([NewRun(run_id, "task", b"x" * 300, tags=("tag",)) for run_id in ids])
    leases: list[Lease] = []
    while len(leases) < runs:
        grant = Grant("worker", _token(turn, len(leases)), 60_000)
        leases += storage.claim(grant, ANY, 100).leases
        ends = [
            Commit(
                each.run_id, each.owner, each.fence, "end", 0, (b"y" * 300,) * 3, then=Finish(RunStatus.SUCCEEDED, b"z")
            )
            for each in leases[-100:]
        ]
        storage.commit(ends)


def _token(turn: int, place: int) -> str:
    return f"token-{turn}-{place}"


def _a_minute_later(storage: RedisStorage, turn: int, runs: int) -> None:
    """The answers of claims have expired, which is all that ever does."""
    (shard,) = storage.opened.layout.shards
    for place in range(0, runs, 100):
        key = shard.key(b"ct:", _token(turn, place))
        assert 0 < storage.opened.link.command(0, b"PTTL", key) <= 60_000
        storage.opened.link.command(0, b"UNLINK", key)


def _memory(server: Server) -> int:
    return int(server.ask("INFO", "memory").split(b"used_memory_dataset:")[1].split(b"\r")[0])


@pytest.fixture(scope="module")
def wary() -> Iterator[Server]:
    """A server that wants another password."""
    with Server(requirepass="another") as server:
        yield server


class TestSecrets:
    """A password of the URL is nowhere to be read: not in what is said, not in what is raised, not in any repr."""

    def _wrong(self, wary: Server, silent_port: int) -> list[str]:
        at, login = f"127.0.0.1:{wary.port}", f"app:{ESCAPED}@"
        nobody = f"127.0.0.1:{silent_port}"
        return [
            f"redis://:{ESCAPED}@{at}/0",
            f"redis://{login}{nobody}/0?connect_timeout=1",
            f"rediss://{login}{at}/0?connect_timeout=0.2&timeout=0.2",
            f"redis+cluster://{login}{at},{nobody}",
            f"redis+sentinel://{login}{at}/shop/0?sentinel_password={ESCAPED}",
            f"redis://{login}{at}/first",
            f"redis://{login}{at}/0?namespace=a/b",
            f"redis://{login}{at}/0?password={ESCAPED}",
            f"redis://app:{SECRET}@{at}/0",  # not escaped
            f"redis://app:12?{SECRET}@{at}/0",
            f"redis://app:12/{SECRET}@{at}/0",
            f"redis://app:{SECRET.replace('/', '#')}@{at}/0",
            f"redis:/:{SECRET}@{at}/0",
            f"redis:{SECRET}",
        ]

    def test_errors_and_reprs(self, wary: Server, silent_port: int, caplog: pytest.LogCaptureFixture) -> None:
        """Whatever is wrong with the URL or the server, the whole chain of errors does not tell."""
        with caplog.at_level(logging.DEBUG):
            for url in self._wrong(wary, silent_port):
                with pytest.raises(Exception) as caught, Flow(url):  # noqa: PT011  # each is another one
                    pass
                self._keep(url, "".join(traceback.format_exception(caught.value)).replace(url, ""))
        self._keep("the log", caplog.text)

    def test_objects(self, wary: Server) -> None:
        """What a debugger or a log line shows of the parts."""
        address = parse(f"redis://app:{ESCAPED}@127.0.0.1:{wary.port}/0")
        storage = redis_storage(f"redis://:another@127.0.0.1:{wary.port}/0?namespace=shown")
        storage.open()
        flow = Flow(storage)
        for each in (address, storage, storage.opened, storage.opened.link, flow, vars(storage)):
            self._keep(type(each).__name__, repr(each))
            assert "another" not in repr(each)
        storage.close()

    @pytest.mark.parametrize("command", ["doctor", "doctor --json", "runs list --json", "runs show r"])
    def test_commands(self, wary: Server, silent_port: int, command: str) -> None:
        """Nor does what a command prints, as text or as JSON."""
        for url in self._wrong(wary, silent_port):
            found = CliRunner().invoke(cli, [*command.split(), "--storage", url])
            assert found.exit_code != 0
            self._keep(f"{command} {url}", found.output)
        good = CliRunner().invoke(cli, [*command.split(), "--storage", f"redis://:another@127.0.0.1:{wary.port}/0"])
        assert "another" not in good.output

    def test_a_worker_that_is_thrown_out(self, wary: Server, tmp_path: Path) -> None:
        """A process with all its logging, whose server changes its password and goes away."""
        (tmp_path / "shop.py").write_text("from flowkit import task\n\n\n@task\ndef nothing() -> None: ...\n")
        command = [*FLOWKIT, "worker", "shop.py", "--lease", "1s", "--liveness", str(tmp_path / "alive")]
        environment = os.environ | {"FLOWKIT_STORAGE": f"redis://:another@127.0.0.1:{wary.port}/0"}
        log = tmp_path / "said"
        with log.open("wb") as said:
            worker = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=said, stderr=said)
        try:
            until((tmp_path / "alive").exists)
            wary.kill()
            wary.start(requirepass="third")
            until(lambda: b"does not accept the user or password" in log.read_bytes())
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(60) == 0
        finally:
            worker.kill()
            worker.wait()
        assert b"another" not in log.read_bytes()
        wary.kill()
        wary.start(requirepass="another")

    @staticmethod
    def _keep(what: str, text: str) -> None:
        for secret in (SECRET, ESCAPED, "w@rd", "w%40rd", "pa:ss", "pa%3Ass"):
            assert secret not in text, (what, text)
