"""What a commit does in other shards: kept with it, then carried over by whoever comes by, as often as it takes.

A run exists once and a message is received once, so carrying something over twice does no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from flowkit.records import NewRun, Send
from flowkit_redis.asking import Asker
from flowkit_redis.failures import NO_ANSWER
from flowkit_redis.keys import Shard, decoded, encoded
from flowkit_redis.opening import Opened
from flowkit_redis.packing import message_words, run_words
from flowkit_redis.wire import Word

log = logging.getLogger(__name__)

_AT_ONCE = 100
_RUN, _MESSAGE = b"run", b"message"


def packed_run(commit_id: str, new: NewRun, now: Word) -> bytes:
    """A run to create in another shard."""
    return _packed((_RUN, encoded(commit_id), now, *run_words(new)))


def packed_message(commit_id: str, send: Send, now: Word) -> bytes:
    """A message to a run in another shard."""
    return _packed((_MESSAGE, encoded(commit_id), now, *message_words(send)))


def try_to_pump(opened: Opened, shard: Shard) -> None:
    """Carry over what can be; what cannot, since its server does not answer, is kept for whoever claims next."""
    try:
        pump(opened, shard)
    except NO_ANSWER as error:
        log.warning("messages to other shards of %s wait in the outbox: %s", opened.link.where, error)


def pump(opened: Opened, shard: Shard) -> None:
    """Carry over what lies in a shard's outbox."""
    key = shard.prefix + b"out"
    while letters := opened.link.command(shard.number, b"LRANGE", key, 0, _AT_ONCE - 1):
        for letter in letters:
            kind, _, now, *words = _unpacked(letter)
            if kind == _RUN:
                _create(opened, now, words)
            else:
                _deliver(opened, now, words)
            opened.link.command(shard.number, b"LREM", key, 1, letter)


def _create(opened: Opened, now: bytes, words: list[bytes]) -> None:
    run_id, lane = decoded(words[0]), words[1]
    shard = opened.layout.of(run_id)
    keys = [*shard.common, *shard.of_run(run_id), *shard.of_lane(lane)]
    keys += (shard.prefix + index for index in _indexes(words))
    opened.link.run(shard.number, "submit", keys, [now, *words])


def _indexes(words: Sequence[bytes]) -> Sequence[bytes]:
    """The names of the indexes among the words of a run without a grant (see `run_words`)."""
    count_at = 9
    return words[count_at + 1 : count_at + 1 + int(words[count_at])]


def _deliver(opened: Opened, now: bytes, words: list[bytes]) -> None:
    run_id = decoded(words[0])
    Asker(opened, opened.layout.of(run_id), [run_id]).ask("send", [now, *words])


def _packed(words: Sequence[Word]) -> bytes:
    pieces = (word if isinstance(word, bytes) else str(word).encode() for word in words)
    return b"".join(b"%d:%b" % (len(piece), piece) for piece in pieces)


def _unpacked(letter: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(letter):
        colon = letter.index(b":", at)
        end = colon + 1 + int(letter[at:colon])
        yield letter[colon + 1 : end]
        at = end
