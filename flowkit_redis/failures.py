"""What servers complain of, in words that say what to do."""

from __future__ import annotations

from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from flowkit.errors import StorageError


class NotNow(Exception):  # a condition that passes; the core asks again
    """The server did not do what it was asked, and may a little later. Nothing was applied."""


NO_ANSWER = (RedisError, OSError, NotNow)  # asked again, it may come


class NotTheMaster(NotNow):
    """The server has become a replica; another one has taken its place."""


def translated(error: ResponseError, where: str) -> Exception:
    """The error to raise for what a server has answered. None of the server's words hold a secret."""
    text = str(error)
    if isinstance(error, NoPermissionError):
        return StorageError(
            f"{where} does not let this user do what flowkit needs ({text}); give it the rules of the page "
            "'Redis: users, rights and TLS', or the URL another namespace="
        )
    if isinstance(error, AuthenticationError):
        return denied(error, where)
    if isinstance(error, OutOfMemoryError):
        return NotNow(
            f"{where} has no memory left, so it takes no writes (nothing was applied, nothing is lost): raise its "
            "maxmemory, or let `flowkit runs prune` forget finished runs"
        )
    if isinstance(error, ReadOnlyError):
        return NotTheMaster(f"{where} is a replica and takes no writes: is a failover under way?")
    return NotNow(f"{where} answered: {text}")


def denied(error: RedisError, where: str) -> StorageError:
    """The server wants another user or password."""
    return StorageError(f"{where} does not accept the user or password of the URL ({error})")
