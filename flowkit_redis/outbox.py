"""What a commit does in other shards: kept with it, then carried over by whoever comes by, as often as it takes.

A run exists once and a message is received once, so carrying something over twice does no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from flowkit.records import NewRun, Send
from flowkit_redis import homes
from flowkit_redis.asking import Asker
from flowkit_redis.failures import NO_ANSWER
from flowkit_redis.keys import Layout, Shard, decoded, encoded
from flowkit_redis.opening import Opened
from flowkit_redis.packing import message_words, run_words
from flowkit_redis.wire import Word

log = logging.getLogger(__name__)

_AT_ONCE = 100
_RUN, _MESSAGE, _PLACE = b"run", b"message", b"place"


def packed_run(commit_id: str, new: NewRun, now: Word, layout: Layout) -> bytes:
    """A run to create in another shard."""
    return _packed((_RUN, encoded(commit_id), now, *run_words(new, layout.home(new))))


def packed_message(commit_id: str, send: Send, now: Word) -> bytes:
    """A message to a run in another shard."""
    return _packed((_MESSAGE, encoded(commit_id), now, *message_words(send)))


def try_to_pump(opened: Opened, shard: Shard) -> bool:
    """Carry over what can be; what cannot, since a server does not answer, is kept for whoever claims next.

    Returns:
        Whether anything was carried over.
    """
    try:
        return pump(opened, shard)
    except NO_ANSWER as error:
        log.warning("messages to other shards of %s wait in the outbox: %s", opened.link.where, error)
        return False


def pump(opened: Opened, shard: Shard) -> bool:
    """Carry over what lies in a shard's outbox, in its order: of two letters to one shard the older one comes first.

    Those to a shard whose server does not answer stay, and are in nobody's way.

    Returns:
        Whether anything was carried over.
    """
    key = shard.prefix + b"out"
    carried, kept = False, 0
    silent = set[int]()
    while letters := opened.link.command(shard.number, b"LRANGE", key, kept, kept + _AT_ONCE - 1):
        for letter in letters:
            if _carry(opened, letter, silent):
                opened.link.command(shard.number, b"LREM", key, 1, letter)
                carried = True
            else:
                kept += 1
    return carried


def _carry(opened: Opened, letter: bytes, silent: set[int]) -> bool:
    """Carry one letter over, unless its shard is one of those that are silent, or does not answer now."""
    kind, _, now, *words = _unpacked(letter)
    to = int(words[0]) if kind == _PLACE else opened.layout.of(decoded(words[0])).number
    if to in silent:
        return False
    try:
        if kind == _RUN:
            _create(opened, now, words)
        elif kind == _MESSAGE:
            _deliver(opened, now, words)
        else:
            homes.tell(opened, to, [words[1:]], now)
    except NO_ANSWER as error:
        log.warning("messages to shard %d of %s wait in the outbox: %s", to, opened.link.where, error)
        silent.add(to)
        return False
    return True


def _create(opened: Opened, now: bytes, words: list[bytes]) -> None:
    run_id, lane = decoded(words[0]), words[1]
    shard = opened.layout.of(run_id)
    keys = [*shard.common, *shard.of_run(run_id), *shard.of_lane(lane)]
    keys += (shard.prefix + index for index in _indexes(words))
    opened.link.run(shard.number, "submit", keys, [now, *words])


def _indexes(words: Sequence[bytes]) -> Sequence[bytes]:
    """The names of the indexes among the words of a run without a grant (see `run_words`)."""
    count_at = 10
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
