"""The way to the servers: which one has a shard, and scripts that it may have forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from redis.exceptions import AuthenticationError, NoScriptError, ResponseError

from flowkit_redis.connections import Pool, Wire, Word
from flowkit_redis.failures import denied, translated
from flowkit_redis.scripts import script


class Link(Protocol):
    """What the storage needs of one server, of a Sentinel's master, or of a Cluster."""

    where: str  # for errors, without secrets

    def run(self, shard: int, name: str, keys: Sequence[bytes], words: Iterable[Word], *, again: bool = True) -> Any:  # noqa: ANN401  # a script's answer
        """Run a script where a shard is. `again`: it may be sent twice."""

    def command(self, shard: int, *words: Word) -> Any:  # noqa: ANN401  # a command's answer
        """Send a command where a shard is."""

    def connection(self, shard: int) -> Wire:
        """A connection of one's own to where a shard is, for calls that wait."""

    def close(self) -> None:
        """Close all connections."""


class SingleLink:
    """One server has all shards."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.where = pool.where
        self._flagged = True  # the first line of scripts, which Redis before 7.0 does not read

    def run(self, shard: int, name: str, keys: Sequence[bytes], words: Iterable[Word], *, again: bool = True) -> Any:  # noqa: ANN401  # see Link
        """Run a script; the server is told it again if it has forgotten it."""
        del shard
        try:
            sha = script(name, flagged=self._flagged).sha
            try:
                return self._pool.ask(b"EVALSHA", sha, len(keys), *keys, *words, again=again)
            except NoScriptError:
                sha = self._teach(name)
                return self._pool.ask(b"EVALSHA", sha, len(keys), *keys, *words, again=again)
        except ResponseError as error:
            raise translated(error, self.where) from error
        except AuthenticationError as error:
            raise denied(error, self.where) from error

    def command(self, shard: int, *words: Word) -> Any:  # noqa: ANN401  # see Link
        """Send a command."""
        del shard
        try:
            return self._pool.ask(*words)
        except ResponseError as error:
            raise translated(error, self.where) from error
        except AuthenticationError as error:
            raise denied(error, self.where) from error

    def connection(self, shard: int) -> Wire:
        """A connection for calls that wait."""
        del shard
        return self._pool.connect()

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    def _teach(self, name: str) -> bytes:
        """Load a script. EVAL would do it by the way, but what it loads may be dropped again."""
        known = script(name, flagged=self._flagged)
        try:
            self._pool.ask(b"SCRIPT", b"LOAD", known.text)
        except ResponseError as error:
            if not self._flagged or "ompil" not in str(error):
                raise
            self._flagged = False
            return self._teach(name)
        return known.sha
