"""What a commit does in other shards: kept with it, then carried over by whoever comes by, as often as it takes.

A run exists once and a message is received once, so carrying something over twice does no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

from attrs import frozen

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
    """Carry over what lies in a shard's outbox, in its order: of two letters about a run the older one comes first.

    Those to a shard whose server does not answer stay, and are in nobody's way. What comes in meanwhile is seen to by
    whoever put it there.

    Returns:
        Whether anything was carried over.
    """
    key = shard.prefix + b"out"
    carried, kept, full = False, 0, True
    silent = set[int]()
    while full:
        letters = opened.link.command(shard.number, b"LRANGE", key, kept, kept + _AT_ONCE - 1)
        full = len(letters) == _AT_ONCE
        done = [letter for some in _bundles(opened, letters) for letter in _carried(opened, some, silent)]
        if done:
            opened.link.run(shard.number, "drop", [key], done)
        kept += len(letters) - len(done)
        carried = carried or bool(done)
    return carried


@frozen
class _Bundle:
    """Letters that go to a shard in one call: one of them, or what a home is told of several runs."""

    to: int
    kind: bytes
    now: bytes
    letters: list[bytes]
    words: list[list[bytes]]


def _bundles(opened: Opened, letters: Sequence[bytes]) -> Iterable[_Bundle]:
    bundles: dict[object, _Bundle] = {}
    for letter in letters:
        kind, _, now, *words = _unpacked(letter)
        if kind == _PLACE:
            to, which, words = int(words[0]), (words[0], now), words[1:]
            bundle = bundles.setdefault(which, _Bundle(to, kind, now, [], []))
        else:
            to = opened.layout.of(decoded(words[0])).number
            bundle = bundles.setdefault(len(bundles), _Bundle(to, kind, now, [], []))
        bundle.letters.append(letter)
        bundle.words.append(words)
    return bundles.values()


def _carried(opened: Opened, bundle: _Bundle, silent: set[int]) -> Sequence[bytes]:
    """Carry letters over, unless their shard is one of those that are silent, or does not answer now."""
    if bundle.to in silent:
        return ()
    try:
        if bundle.kind == _PLACE:
            homes.tell(opened, bundle.to, bundle.words, bundle.now)
        else:
            (_create if bundle.kind == _RUN else _deliver)(opened, bundle.now, bundle.words[0])
    except NO_ANSWER as error:
        log.warning("messages to shard %d of %s wait in the outbox: %s", bundle.to, opened.link.where, error)
        silent.add(bundle.to)
        return ()
    return bundle.letters


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
