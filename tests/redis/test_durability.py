"""What a server keeps is looked at when it is opened, and said honestly."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from flowkit.cli.app import cli
from flowkit.cli.exits import Exit
from flowkit.errors import StorageError, StorageNotDurable
from flowkit.records import Capabilities, Durability, NewRun, RunQuery, RunStatus
from flowkit_redis import RedisStorage, redis_storage
from flowkit_redis.failures import NotNow
from flowkit_testing.clusters import until
from flowkit_testing.redis_audit import audit
from flowkit_testing.servers import Server

KEPT = {"appendonly": "yes", "appendfsync": "everysec"}


@contextlib.contextmanager
def running(**settings: str) -> Iterator[Server]:
    """A server with these settings."""
    with Server(**settings) as server:
        yield server


def look(url: str) -> Capabilities:
    """Open a storage and close it."""
    storage = redis_storage(url)
    try:
        return storage.open()
    finally:
        storage.close()


def without_config(server: Server) -> str:
    """The URL of a user who may do everything but ask for the configuration, as managed services have it."""
    assert server.ask("ACL", "SETUSER", "app", "on", ">s3cret", "~*", "&*", "+@all", "-config").startswith(b"+OK")
    return server.url.replace("//", "//app:s3cret@")


@pytest.mark.parametrize(
    ("settings", "level", "says"),
    [
        ({}, Durability.MEMORY, "set appendonly yes"),
        (KEPT, Durability.PROCESS, "set appendfsync always"),
        (KEPT | {"appendfsync": "no"}, Durability.PROCESS, "set appendfsync always"),
        (KEPT | {"appendfsync": "always"}, Durability.DISK, None),
    ],
    ids=["nothing kept", "everysec", "no", "always"],
)
def test_the_level_is_what_the_server_does(
    settings: dict[str, str], level: Durability, says: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """D1: the stated level follows from the append-only file and its syncs; what could be lost is warned of."""
    with running(**settings) as server, caplog.at_level(logging.WARNING, "flowkit_redis"):
        capabilities = look(server.url)

    assert capabilities.durability is level
    assert capabilities.server_time
    assert (says or "") in " ".join(capabilities.advice)
    assert [says in text for text in caplog.messages if says] == [True] * bool(says)


def test_a_level_below_what_was_asked_for_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """D1: no run is accepted that would be kept less well than its user wants; the remedy is named."""
    with running(**KEPT) as server:
        assert look(f"{server.url}?durability=process").durability is Durability.PROCESS
        assert caplog.messages == []  # as asked for
        with pytest.raises(
            StorageNotDurable, match=r"asked for durability=disk and gives process: .*appendfsync always"
        ):
            look(f"{server.url}?durability=disk")
        with pytest.raises(StorageNotDurable, match="asked for durability=replicated"):
            look(f"{server.url}?durability=replicated")


def test_an_evicting_server_is_refused() -> None:
    """X1: a server that deletes what it likes when it is full keeps no run."""
    with running(maxmemory="100mb", maxmemory_policy="allkeys-lru") as server:
        with pytest.raises(StorageNotDurable, match="set maxmemory-policy noeviction"):
            look(server.url)
        server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        assert look(server.url).durability is Durability.MEMORY


def test_a_replica_is_refused() -> None:
    """D4: what is written to a replica is lost, so it is not even tried."""
    with running() as master, running(replicaof=f"127.0.0.1 {master.port}") as replica:
        with pytest.raises(StorageNotDurable, match=r"is a slave: .* name its master"):
            look(replica.url)
        assert any("min-replicas-to-write 1" in text for text in look(master.url).advice)


def test_a_loading_server_is_refused() -> None:
    """A server that has not read what it stored would seem empty."""
    with running(save="3600 1", rdbcompression="no") as server:
        for n in range(300):  # which take six seconds to read
            server.ask("SET", f"key-{n}", "value" * 400)
        server.ask("SAVE")
        server.kill()
        server.start(wait=False, key_load_delay="20000", loading_process_events_interval_bytes="1024")
        while not _listens(server):
            pass
        with pytest.raises(StorageNotDurable, match="try again in a moment"):
            look(server.url)


def _listens(server: Server) -> bool:
    with contextlib.suppress(OSError):
        server.ask("PING")
        return True
    return False


def test_what_a_server_does_not_tell_can_be_assumed(caplog: pytest.LogCaptureFixture) -> None:
    """A service that refuses CONFIG is taken for the weaker level, unless its user knows better."""
    with running(**KEPT) as server:
        url = without_config(server)
        assert look(url).durability is Durability.PROCESS
        assert "assume_durability=" in caplog.text
        assert look(f"{url}?assume_durability=disk&durability=disk").durability is Durability.DISK
        assert look(f"{url}?assume_durability=replicated").durability is Durability.REPLICATED
        with pytest.raises(StorageNotDurable, match="assume_durability=disk"):
            look(f"{url}?durability=disk")
    assert "s3cret" not in caplog.text


def test_what_a_server_tells_is_believed_rather(caplog: pytest.LogCaptureFixture) -> None:
    """An assumption does not make a server better than it says it is."""
    with running(**KEPT) as server:
        assert look(f"{server.url}?assume_durability=disk").durability is Durability.PROCESS
    assert "not what the server says of itself" in caplog.text


def _fill(storage: RedisStorage) -> None:
    for number in range(200):
        storage.submit([NewRun(f"run-{number}", "task", b"x" * 10_000)])


class FullDisk(Server):
    """A server whose files cannot grow beyond some kilobytes, as on a disk that is full."""

    def command(self) -> list[str | Path]:
        """The server, under a limit that it is told of by errors."""
        return ["sh", "-c", 'trap "" XFSZ; ulimit -f 100; exec "$@"', "sh", *super().command()]


def test_a_disk_that_is_full() -> None:
    """A server that cannot write its append-only file takes no writes, by halves neither, and is not opened again."""
    with FullDisk(**KEPT) as server:
        storage = redis_storage(server.url)
        storage.open()
        with pytest.raises(NotNow, match="MISCONF Errors writing to the AOF file"):
            _fill(storage)
        assert len(storage.list_runs(RunQuery()).headers) == storage.stats().by_status[RunStatus.PENDING] > 0
        with pytest.raises(StorageNotDurable, match=r"append-only file: look into its log, and free its disk"):
            look(server.url)
        found = CliRunner().invoke(cli, ["doctor", "--storage", server.url])
        assert found.exit_code == Exit.STORAGE
        assert "append-only file" in found.output
        assert audit(storage) == []
        storage.close()


def test_a_wrong_password_is_said_without_it() -> None:
    """A server that lets nobody in is a plain error, which holds no secret."""
    with running(requirepass="right") as server:
        with pytest.raises(StorageError, match="does not accept the user or password") as caught:
            look(server.url.replace("//", "//:wrong-one@"))
        with pytest.raises(StorageError, match="does not accept the user or password"):
            look(server.url)
        assert look(server.url.replace("//", "//:right@")).server_time
    assert "wrong-one" not in str(caught.value)


def test_a_replica_that_lags_behind() -> None:
    """A failover to it would lose what it lacks: the doctor names it, and what it lacks, as long as it does."""
    with running(repl_diskless_sync_delay="0") as master, running(replicaof=f"127.0.0.1 {master.port}") as replica:
        until(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"))
        until(lambda: not any("its replica" in text for text in look(master.url).advice))
        replica.freeze()
        master.ask("SET", "large", "x" * 3_000_000)
        found = CliRunner().invoke(cli, ["doctor", "--storage", master.url, "--json"])
        replica.thaw()
        advice = " ".join(json.loads(found.stdout)["advice"])
        assert re.search(rf"its replica 127.0.0.1:{replica.port}, which lacks 3,\d\d\d,\d\d\d bytes", advice)
        until(lambda: not any("its replica" in text for text in look(master.url).advice))


@pytest.mark.parametrize(
    ("settings", "code", "says"),
    [
        ({"appendonly": "no"}, Exit.FAILED, "set appendonly yes"),
        (KEPT | {"maxmemory": "100mb", "maxmemory_policy": "allkeys-lru"}, Exit.STORAGE, "maxmemory-policy noeviction"),
        (KEPT | {"appendfsync": "always"}, Exit.OK, "nothing to change"),
    ],
    ids=["no append-only file", "evicting", "all well"],
)
def test_doctor_on_servers_that_are_set_up_so(settings: dict[str, str], code: Exit, says: str) -> None:
    """What is wrong is said with the setting to change, on one line; the exit code tells how bad it is."""
    with running(**settings) as server:
        found = CliRunner().invoke(cli, ["doctor", "--storage", server.url])

    assert found.exit_code == code, found.output
    assert says in found.output
    assert "Traceback" not in found.output


def test_doctor_says_what_to_change() -> None:
    """`flowkit doctor` shows the level, and each thing that would raise it."""
    with running(**KEPT) as server:
        found = CliRunner().invoke(cli, ["doctor", "--storage", server.url])

    assert found.exit_code == 1
    assert "durability  process" in found.stdout
    assert "! it syncs its append-only file once a second" in found.stdout
