"""From an address to the way there: one server, the master that Sentinels watch, or a Cluster."""

from __future__ import annotations

from typing import assert_never

from flowkit.errors import ConfigurationError
from flowkit_redis.cluster import ClusterLink
from flowkit_redis.connections import Pool
from flowkit_redis.dialing import dial
from flowkit_redis.link import Link, SingleLink
from flowkit_redis.sentinel import SentinelLink, master_by_sentinels
from flowkit_redis.url import Address, Kind

SHARDS_OF_A_CLUSTER = 8  # a claim looks into each, and there should be more of them than nodes


def reach(address: Address) -> Link:
    """The way to the servers of an address; nothing is connected yet."""
    match address.kind:
        case Kind.SINGLE:
            if len(address.hosts) > 1:
                raise ConfigurationError(
                    f"{address.where} names several servers: write redis+sentinel:// for a master and its replicas, "
                    "or redis+cluster:// for a Cluster"
                )
            return SingleLink(_pool(address, address.hosts[0]))
        case Kind.SENTINEL:
            return _by_sentinels(address)
        case Kind.CLUSTER:
            return ClusterLink(address.hosts, lambda place: _pool(address, place), address.namespace, address.where)
        case _:
            assert_never(address.kind)


def default_shards(address: Address) -> int:
    """How many shards a namespace gets when it is first used, unless the address says."""
    return SHARDS_OF_A_CLUSTER if address.kind is Kind.CLUSTER else 1


def _by_sentinels(address: Address) -> Link:
    service = address.service
    assert service is not None  # such an address has one
    sentinels = [Pool(dial(address.of_sentinels, host, port), f"{host}:{port}") for host, port in address.hosts]
    return SentinelLink(
        lambda: master_by_sentinels(sentinels, service),
        lambda place: _pool(address, place),
        address.where,
        sentinels,
    )


def _pool(address: Address, place: tuple[str, int]) -> Pool:
    host, port = place
    where = address.where if address.kind is Kind.SINGLE else f"{host}:{port} of {address.where}"
    return Pool(dial(address, host, port), where)
