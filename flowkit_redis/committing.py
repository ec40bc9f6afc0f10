"""Commits: one script for all of a shard; what they do in other shards goes through that shard's outbox."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flowkit.records import Commit, Finish, Go, NewRun, Send, Verdict
from flowkit_redis import answers, outbox
from flowkit_redis.asking import Asker
from flowkit_redis.keys import Shard
from flowkit_redis.opening import Opened
from flowkit_redis.packing import Word, append_words, commit_words

_ANOTHER_STATUS = b"-2"  # append.lua: a run's status would change, which is not for it


def commit(opened: Opened, commits: Sequence[Commit], now: Word) -> list[Verdict]:
    """Apply commits; those of one shard in one round trip, in the order given."""
    shards = opened.layout.shards
    if len(shards) == 1:
        return _in_shard(opened, shards[0], commits, now)
    verdicts: dict[int, Verdict] = {}
    for shard in shards:
        places = [at for at, one in enumerate(commits) if opened.layout.of(one.run_id) is shard]
        if places:
            answered = _in_shard(opened, shard, [commits[at] for at in places], now)
            verdicts.update(zip(places, answered, strict=True))
    return [verdicts[at] for at in range(len(commits))]


def _in_shard(opened: Opened, shard: Shard, commits: Sequence[Commit], now: Word) -> list[Verdict]:
    if all(_only_appends(one) for one in commits):
        keys, words = [shard.own], [now]
        for one in commits:
            keys += (shard.key(b"r:", one.run_id), shard.key(b"j:", one.run_id))
            words += append_words(one, one.then.status.value if isinstance(one.then, Go) else "")
        answer = opened.link.run(shard.number, "append", keys, words)
        if answer != _ANOTHER_STATUS:
            return list(answers.verdicts(answer))
    return _of_any_kind(opened, shard, commits, now)


def _only_appends(one: Commit) -> bool:
    return type(one.then) is Go and not (one.consume or one.spawn or one.send)


def _of_any_kind(opened: Opened, shard: Shard, commits: Sequence[Commit], now: Word) -> list[Verdict]:
    words: list[Word] = [now]
    touched: list[str] = []
    born: list[NewRun] = []
    for one in commits:
        spawn, send, out = _split(opened, shard, one, now)
        words += commit_words(one, spawn, send, out, opened.layout)
        touched += (one.run_id, *(letter.run_id for letter in send))
        born += spawn
    asker = Asker(opened, shard, touched, [key for new in born for key in shard.of_new(new)])
    answer, _, letters = asker.ask("commit", words).rpartition(b" ")
    for one in commits:
        if isinstance(one.then, Finish):
            opened.lanes.forget(one.run_id)
    if letters != b"0":
        outbox.try_to_pump(opened, shard)
    return list(answers.verdicts(answer))


def _split(opened: Opened, shard: Shard, one: Commit, now: Word) -> tuple[list[NewRun], list[Send], list[bytes]]:
    """What a commit does in its own shard, and what goes into the outbox."""
    here = opened.layout.of
    spawn = [new for new in one.spawn if here(new.run_id) is shard]
    send = [letter for letter in one.send if here(letter.run_id) is shard]
    return spawn, send, list(_abroad(opened, shard, one, now))


def _abroad(opened: Opened, shard: Shard, one: Commit, now: Word) -> Iterator[bytes]:
    for new in one.spawn:
        if opened.layout.of(new.run_id) is not shard:
            yield outbox.packed_run(one.commit_id, new, now, opened.layout)
    for letter in one.send:
        if opened.layout.of(letter.run_id) is not shard:
            yield outbox.packed_message(one.commit_id, letter, now)
