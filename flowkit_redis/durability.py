"""What a server really keeps, as far as it tells: whether to use it, and what to say about it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping

from attrs import frozen
from redis.exceptions import BusyLoadingError

from flowkit.errors import StorageError, StorageNotDurable
from flowkit.records import Durability
from flowkit_redis.failures import NotNow
from flowkit_redis.link import Link
from flowkit_redis.url import Address

log = logging.getLogger(__name__)

_SETTINGS = (b"appendfsync", b"min-replicas-to-write")
_REPLICA = re.compile(r"slave\d+")
_LATE_BYTES, _LATE_S = 1_000_000, 10  # replicas tell of themselves once a second


@frozen
class Health:
    """What a server says of itself."""

    role: str
    loading: bool
    aof: bool
    aof_written: bool  # its last write of the AOF went well
    maxmemory: int
    policy: str
    fsync: str | None  # None: it does not say, as managed services do not
    replicas: int
    replicas_required: int | None
    behind: tuple[str, ...]  # replicas that lack much of what was acknowledged, and how much


@frozen
class Promise:
    """How durable a server is, and what would make it more so."""

    level: Durability
    advice: tuple[str, ...]


def promise_of(link: Link, address: Address, shard: int = 0) -> Promise:
    """Look at the server that has a shard.

    Raises:
        StorageNotDurable: it loses data, or keeps less than was asked for; the message says what to change.
    """
    health = _examined(link, address, shard)
    _refuse_what_loses_data(health, address)
    level, advice = _level(health, address)
    if address.durability is not None and level.rank < address.durability.rank:
        raise StorageNotDurable(
            f"{address.where} is asked for durability={address.durability} and gives {level}: "
            f"{'; '.join(advice) or 'choose a lower level'}"
        )
    if address.durability is None:
        for text in advice:
            log.warning("%s: %s", address.where, text)
    return Promise(level, (*advice, *_hints(health)))


def _examined(link: Link, address: Address, shard: int) -> Health:
    try:
        info = _fields(link.command(shard, b"INFO"))
    except BusyLoadingError as error:
        raise _loading(address) from error
    settings: dict[bytes, bytes] | None
    try:
        words = [word for name in _SETTINGS for word in link.command(shard, b"CONFIG", b"GET", name)]
        settings = dict(zip(words[::2], words[1::2], strict=True))
    except (StorageError, NotNow):  # no permission, or no such command
        settings = None
    return Health(
        role=info.get("role", ""),
        loading=info.get("loading") == "1" and info.get("async_loading") != "1",
        aof=info.get("aof_enabled") == "1",
        aof_written=info.get("aof_last_write_status", "ok") == "ok",
        maxmemory=int(info.get("maxmemory", "0")),
        policy=info.get("maxmemory_policy", "noeviction"),
        fsync=None if settings is None else settings.get(b"appendfsync", b"").decode(),
        replicas=int(info.get("connected_slaves", "0")),
        replicas_required=None if settings is None else int(settings.get(b"min-replicas-to-write", b"0")),
        behind=tuple(_behind(info)),
    )


def _behind(info: Mapping[str, str]) -> Iterator[str]:
    """Replicas that are late: a failover to one loses what it lacks."""
    written = int(info.get("master_repl_offset", "0"))
    for name, value in info.items():
        if _REPLICA.fullmatch(name) is None:
            continue
        said = dict(field.partition("=")[::2] for field in value.split(","))
        where = f"{said.get('ip')}:{said.get('port')}"
        lacks, silent_s = written - int(said.get("offset", "0")), int(said.get("lag", "0"))
        if said.get("state") != "online":
            yield f"{where}, which is only being given a copy ({said.get('state')})"
        elif lacks > _LATE_BYTES or silent_s > _LATE_S:
            yield f"{where}, which lacks {lacks:,} bytes and was heard of {silent_s} s ago"


def _fields(info: bytes) -> Mapping[str, str]:
    lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _refuse_what_loses_data(health: Health, address: Address) -> None:
    if health.loading:
        raise _loading(address)
    if health.role not in {"master", ""}:
        raise StorageNotDurable(
            f"{address.where} is a {health.role}: what is written to it is not kept; name its master in the URL, or "
            "let redis+sentinel:// find it"
        )
    if health.maxmemory and health.policy != "noeviction":
        raise StorageNotDurable(
            f"{address.where} deletes data when its memory is full (maxmemory-policy {health.policy}): "
            "set maxmemory-policy noeviction"
        )
    if health.aof and not health.aof_written:
        raise StorageNotDurable(
            f"{address.where} could not write its append-only file: look into its log, and free its disk"
        )


def _loading(address: Address) -> StorageNotDurable:
    return StorageNotDurable(f"{address.where} is still reading what it had stored: try again in a moment")


def _level(health: Health, address: Address) -> tuple[Durability, tuple[str, ...]]:
    """The level, and what keeps it from being higher."""
    told, advice = _told(health)
    assumed = address.assumed
    if assumed is None or assumed.rank <= told.rank:
        return told, advice
    if health.fsync is None or assumed is Durability.REPLICATED:
        return assumed, ()
    return told, (f"assume_durability={assumed} is not what the server says of itself", *advice)


def _told(health: Health) -> tuple[Durability, tuple[str, ...]]:
    if not health.aof:
        return Durability.MEMORY, (_NO_AOF,)
    if health.fsync is None:
        return Durability.PROCESS, (_UNKNOWN_FSYNC,)
    if health.fsync == "always":
        return Durability.DISK, ()
    return Durability.PROCESS, (_SELDOM_SYNCED.format(_OFTEN.get(health.fsync, health.fsync)),)


_NO_AOF = "it keeps no append-only file, so a restart loses runs: set appendonly yes"
_UNKNOWN_FSYNC = (
    "it does not say how often it syncs its append-only file (CONFIG GET is refused): if you know, write "
    "assume_durability=disk (appendfsync always) or assume_durability=process (everysec) into the URL"
)
_SELDOM_SYNCED = "it syncs its append-only file {}, so a power cut loses the steps of that time: set appendfsync always"
_OFTEN = {"everysec": "once a second (appendfsync everysec)", "no": "when the system likes to (appendfsync no)"}
_NO_REPLICA_NEEDED = (
    "it takes writes that no replica has yet, so a failover loses the last of them: set min-replicas-to-write 1"
)
_LATE_REPLICA = "a failover would lose steps to its replica {}: see why it does not keep up"


def _hints(health: Health) -> tuple[str, ...]:
    """What is no loss by itself."""
    unneeded = (_NO_REPLICA_NEEDED,) if health.replicas and health.replicas_required == 0 else ()
    return (*unneeded, *(_LATE_REPLICA.format(replica) for replica in health.behind))
