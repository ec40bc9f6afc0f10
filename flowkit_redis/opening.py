"""Opening a namespace: what the server promises, and how many shards there are."""

from __future__ import annotations

from attrs import frozen

from flowkit.errors import StorageError
from flowkit.payloads import SizeLimit
from flowkit.records import Capabilities
from flowkit_redis.durability import promise_of
from flowkit_redis.keys import Layout, layout, meta_key
from flowkit_redis.lanes import Lanes
from flowkit_redis.link import Link
from flowkit_redis.url import Address
from flowkit_redis.waiting import Waiting

FORMAT = 1
LIMIT = SizeLimit("redis")  # Redis copies a value several times


@frozen
class Opened:
    """An opened storage: what its calls use."""

    link: Link
    layout: Layout
    capabilities: Capabilities
    waiting: Waiting
    lanes: Lanes


def opened(address: Address, link: Link, *, default_shards: int = 1) -> Opened:
    """Look at the server, and read or write how the namespace is laid out.

    Raises:
        StorageNotDurable: the server keeps less than was asked for.
        StorageError: the namespace has another number of shards, or was written by a newer version.
    """
    first = promise_of(link, address)
    shards = _shards(address, link, default_shards)
    made = layout(address.namespace, shards)
    others = (promise_of(link, address, shard) for shard in link.other_servers(shards))
    promise = min((first, *others), key=lambda one: one.level.rank)  # what the weakest of them keeps
    seconds, microseconds = map(int, link.command(0, b"TIME"))
    capabilities = Capabilities(
        promise.level,
        LIMIT.max_bytes,
        server_time=True,
        now_ms=seconds * 1000 + microseconds // 1000,
        advice=promise.advice,
    )
    return Opened(link, made, capabilities, Waiting(link, made.shards), Lanes())


def _shards(address: Address, link: Link, default: int) -> int:
    key = meta_key(address.namespace)
    link.command(0, b"HSETNX", key, b"format", FORMAT)
    link.command(0, b"HSETNX", key, b"shards", address.shards or default)
    written, shards = map(int, link.command(0, b"HMGET", key, b"format", b"shards"))
    if written != FORMAT:
        raise StorageError(
            f"namespace {address.namespace!r} of {address.where} has format {written}; this version of flowkit reads "
            f"{FORMAT}: it was written by a newer one, so update flowkit on this machine"
        )
    if address.shards not in (None, shards):
        raise StorageError(
            f"namespace {address.namespace!r} of {address.where} has {shards} shards, which cannot be changed: leave "
            f"shards={address.shards} out of the URL, or choose another namespace"
        )
    return shards
