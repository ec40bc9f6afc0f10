"""A process that writes to a storage without end, to be killed: `python -m flowkit_testing.contract.victim ...`.

It says on its standard output what has been acknowledged, and never says more than that.
"""

from __future__ import annotations

import sys
from importlib import import_module
from itertools import count

from flowkit.records import Commit, Done, NewRun, Send
from flowkit.storage import Storage
from flowkit_testing.contract.base import T0, begin, enqueue, event

WORKER = "worker-2"
LARGE = 200_000  # bytes: more than a storage keeps beside its small values


def entries_of(turn: int) -> tuple[bytes, ...]:
    """What the victim writes in its nth commit; now and then something large."""
    return (b"%d small" % turn, b"%d large" % turn * (LARGE // 8 if turn % 4 == 1 else 1))


def commit_of(owner: str, fence: int, turn: int) -> Commit:
    """The victim's nth commit: two entries, a message and a child, all of them or none."""
    return Commit(
        run_id="run",
        owner=owner,
        fence=fence,
        commit_id=f"commit-{turn}",
        base=2 * turn,
        entries=entries_of(turn),
        spawn=(NewRun(f"child-{turn}", "child", b""),),
        send=(Send("peer", event(f"message-{turn}")),),
    )


def opened(where: str, *arguments: str) -> Storage:
    """Open the storage that `module:callable` makes of text arguments."""
    module, _, name = where.partition(":")
    storage: Storage = getattr(import_module(module), name)(*arguments)
    storage.open()
    return storage


def _say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def commit_for_ever(storage: Storage) -> None:
    """Write to one run."""
    enqueue(storage, "peer")
    lease = begin(storage, worker=WORKER).lease
    _say(lease.owner, lease.fence)
    for turn in count():
        (verdict,) = storage.commit([commit_of(lease.owner, lease.fence, turn)], now_ms=T0)
        assert isinstance(verdict, Done), verdict
        _say(turn)


def submit_for_ever(storage: Storage) -> None:
    """Create runs."""
    _say("ready")
    for turn in count():
        storage.submit([NewRun(f"run-{turn}", "task", b"%d" % turn, entries=entries_of(turn))], now_ms=T0)
        _say(turn)


if __name__ == "__main__":
    {"commit": commit_for_ever, "submit": submit_for_ever}[sys.argv[1]](opened(*sys.argv[2:]))
