"""One server as the storage talks to it: scripts that it may have forgotten, and errors in our words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from redis.exceptions import AskError, AuthenticationError, ClusterError, NoScriptError, ResponseError

from flowkit_redis.connections import Pool
from flowkit_redis.failures import denied, translated
from flowkit_redis.scripts import script
from flowkit_redis.wire import Word


class Node:
    """One server. Redirections of a Cluster come out as redis-py raises them; whoever knows the other nodes follows."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.where = pool.where
        self._flagged = True  # the first line of scripts, which Redis before 7.0 does not read

    def run(
        self, name: str, keys: Sequence[bytes], words: Iterable[Word], *, again: bool = True, asking: bool = False
    ) -> Any:  # noqa: ANN401  # a script's answer
        """Run a script; the server is told it again if it has forgotten it.

        Args:
            name: which.
            keys: all that it touches.
            words: its arguments.
            again: it may be sent twice.
            asking: the slot of its keys is on its way to this node.
        """
        ask = self.pool.ask_importing if asking else self.pool.ask
        try:
            sha = script(name, flagged=self._flagged).sha
            try:
                return ask(b"EVALSHA", sha, len(keys), *keys, *words, again=again)
            except NoScriptError:
                sha = self._teach(name)
                return ask(b"EVALSHA", sha, len(keys), *keys, *words, again=again)
        except (ResponseError, AuthenticationError) as error:
            raise self._translated(error) from error

    def command(self, *words: Word, asking: bool = False) -> Any:  # noqa: ANN401  # a command's answer
        """Send a command."""
        try:
            return self.pool.ask_importing(*words) if asking else self.pool.ask(*words)
        except (ResponseError, AuthenticationError) as error:
            raise self._translated(error) from error

    def _teach(self, name: str) -> bytes:
        """Load a script. EVAL would do it by the way, but what it loads may be dropped again."""
        known = script(name, flagged=self._flagged)
        try:
            self.pool.ask(b"SCRIPT", b"LOAD", known.text)
        except ResponseError as error:
            if not self._flagged or "ompil" not in str(error):
                raise
            self._flagged = False
            return self._teach(name)
        return known.sha

    def _translated(self, error: ResponseError | AuthenticationError) -> Exception:
        if isinstance(error, (AskError, ClusterError)):  # MOVED is an AskError to redis-py
            return error
        if isinstance(error, ResponseError):
            return translated(error, self.where)
        return denied(error, self.where)
