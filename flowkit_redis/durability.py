"""What a server really keeps: a stub until it is looked at."""

from __future__ import annotations

from flowkit.records import Durability
from flowkit_redis.link import Link
from flowkit_redis.url import Address


def durability_of(link: Link, address: Address) -> Durability:
    """The level of the server."""
    del link
    return address.assumed or Durability.PROCESS
