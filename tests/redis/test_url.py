"""What a URL may say, and that nothing shows its secrets."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from flowkit.errors import ConfigurationError
from flowkit.records import Durability, NewRun
from flowkit_redis import redis_storage
from flowkit_redis.url import Tls, parse

SECRET = "hunter2"  # noqa: S105  # it opens nothing


def test_all_that_a_url_says(tmp_path: Path) -> None:
    """User, password, host, port, database and every option."""
    ca_file = tmp_path / "ca.pem"
    ca_file.touch()

    found = parse(
        "rediss://app:p%40ss@cache.example:6380/3?namespace=shop&durability=disk&assume_durability=replicated"
        f"&timeout=2.5&connect_timeout=1&shards=4&tls_ca={ca_file}&tls_verify=ca"
    )

    assert found.hosts == (("cache.example", 6380),)
    assert (found.username, found.password, found.db) == ("app", "p@ss", 3)
    assert (found.namespace, found.shards) == ("shop", 4)
    assert (found.durability, found.assumed) == (Durability.DISK, Durability.REPLICATED)
    assert (found.timeout_s, found.connect_timeout_s) == (2.5, 1.0)
    assert found.tls == Tls(str(ca_file), verify_host=False)


def test_what_a_url_need_not_say() -> None:
    """A host is enough."""
    found = parse("redis://cache")

    assert found.hosts == (("cache", 6379),)
    assert (found.db, found.username, found.password, found.tls) == (0, None, None, None)
    assert (found.namespace, found.shards, found.durability) == ("default", None, None)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis:localhost", "write redis://HOST:PORT/DB"),
        ("redis://", "write redis://HOST:PORT/DB"),
        (f"redis://app:{SECRET}@cache:port/0", "host or port cannot be read"),
        (f"redis://app:{SECRET}@cache:99999/0", "host or port cannot be read"),
        (f"redis://app:{SECRET}@[cache/0", "host or port cannot be read"),
        (f"redis://app:{SECRET}@cache/first", "database 'first' is no number"),
        (f"redis://app:{SECRET}@cache?namespace=a:b", "namespace='a:b' is not letters, digits"),
        (f"redis://app:{SECRET}@cache?namespace=", "namespace='' is not letters, digits"),
        (f"redis://app:{SECRET}@cache?durability=memory", "durability='memory' is not one of process, disk"),
        (f"redis://app:{SECRET}@cache?timeout=0", "timeout='0' is not seconds"),
        (f"redis://app:{SECRET}@cache?shards=33", "shards='33' is not a number from 1 to 32"),
        (f"rediss://app:{SECRET}@cache?tls_ca=/no/such/file", "is not a file that can be read"),
        (f"rediss://app:{SECRET}@cache?tls_verify=maybe", "tls_verify='maybe' is not full, ca or none"),
        (f"redis://app:12#{SECRET}@cache/0", "it holds #; write it %23"),
        (f"redis://app:12?{SECRET}=3@cache/0", "what stands before its @ holds /, ? or #"),
        (f"redis://app:{SECRET}@cache?tls_ca=/some/file", "'tls_ca' without TLS; write rediss://"),
        (f"redis://app:{SECRET}@cache?durabilty=disk", "unknown parameter 'durabilty'; known are namespace"),
    ],
)
def test_a_wrong_url_is_told_what_is_wrong(url: str, says: str) -> None:
    """The error names the value and the remedy, and not the password."""
    with pytest.raises(ConfigurationError) as caught:
        redis_storage(url)

    assert says in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_secrets_are_shown_nowhere(silent_port: int, caplog: pytest.LogCaptureFixture) -> None:
    """Not in reprs, nor in the errors of a server that is not there, nor in logs."""
    url = f"redis://app:{SECRET}@127.0.0.1:{silent_port}/0"
    storage = redis_storage(url)

    with caplog.at_level(logging.DEBUG), pytest.raises(Exception) as caught:  # noqa: PT011  # whatever the client says
        storage.open()

    shown = [repr(storage), repr(parse(url)), str(parse(url)), str(caught.value), repr(caught.value), caplog.text]
    assert not [text for text in shown if SECRET in text]


def test_two_namespaces_never_see_each_other(url: str) -> None:
    """One that begins like the other, too."""
    one, other = redis_storage(url), redis_storage(f"{url}1")
    one.open()
    other.open()
    one.submit([NewRun("run", "task", b"mine")])
    one.compare_and_set("key", 0, b"mine")

    assert other.load("run") is None
    assert other.get("key") is None
    assert sum(other.stats().by_status.values()) == 0
    other.submit([NewRun("run", "other", b"theirs")])
    assert other.purge(10**15) == 0
    snapshot = one.load("run")
    assert snapshot is not None
    assert snapshot.input == b"mine"
    one.close()
    other.close()
