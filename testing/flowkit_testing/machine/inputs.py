"""What the state machine draws: few names, so that runs, messages and owners meet all the time."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from attrs import frozen
from hypothesis import strategies as st

from flowkit.records import (
    GO,
    AnyOf,
    Block,
    Exactly,
    Finish,
    Go,
    Limit,
    Message,
    MessageKind,
    NewRun,
    RunQuery,
    RunStatus,
    Send,
    Suspend,
    Then,
    Want,
    Yield,
)

START_MS = 1_700_000_000_000
RUNS = tuple(f"run-{n}" for n in range(5))
TASKS = ("task-0", "task-1")
QUEUES = ("default", "other")
TAGS = ("red", "blue")
MESSAGES = tuple(f"message-{n}" for n in range(12))
KEYS = ("key-0", "key-1")
FINAL = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.FAILED, RunStatus.CANCELLED)  # failed ones can be reopened

T = TypeVar("T")


@frozen
class Change:
    """What a commit asks for, before it is known in whose name."""

    entries: tuple[bytes, ...] = ()
    consume: tuple[str, ...] = ()
    spawn: tuple[NewRun, ...] = ()
    send: tuple[Send, ...] = ()
    then: Then = GO
    off_by: int = 0  # how wrong the writer is about the journal's length


class Chore(StrEnum):
    """What happens beside the runs."""

    RESTART = "restart"
    PURGE = "purge"
    SHARE = "share"
    LIST = "list"


def _up_to(size: int, items: st.SearchStrategy[T]) -> st.SearchStrategy[tuple[T, ...]]:
    return st.lists(items, max_size=size).map(tuple)


def _seldom(items: st.SearchStrategy[tuple[T, ...]]) -> st.SearchStrategy[tuple[T, ...]]:
    nothing: st.SearchStrategy[tuple[T, ...]] = st.just(())
    return st.one_of(nothing, nothing, items)


twice = st.booleans()
backs = st.integers(0, 5)  # how far to reach back among leases or commits
later = st.sampled_from((0, 0, 0, 1, 5, 10, 30, 100))  # milliseconds that pass before
run_ids = st.sampled_from(RUNS)
lease_times = st.sampled_from((10, 30, 100))
moments = st.sampled_from((None, -5, 0, 1, 5, 10, 30, 60))  # milliseconds from now
payloads = st.sampled_from((b"", b"a", b"\0b"))
statuses = st.none() | st.sampled_from(RunStatus)
messages = st.builds(Message, st.sampled_from(MESSAGES), st.sampled_from(MessageKind), st.just("name"), payloads)
queries = st.builds(RunQuery, statuses, st.sampled_from((None, *TASKS)), st.sampled_from((None, *TAGS)))
new_runs = st.builds(
    NewRun,
    run_ids,
    st.sampled_from(TASKS),
    payloads,
    queue=st.sampled_from(QUEUES),
    priority=st.sampled_from((0, 0, -1, 1)),
    tags=st.sampled_from(((), TAGS[:1], TAGS)),
    entries=st.sampled_from(((), (), (b"forked", b"entry"))),
    start_at_ms=moments,
    limit=st.sampled_from((None, None, Limit(1), Limit(1, "key"), Limit(2, "key"))),
)
wants: st.SearchStrategy[Want] = st.one_of(
    st.just(AnyOf(TASKS, QUEUES)),
    st.builds(AnyOf, _up_to(2, st.sampled_from(TASKS)), _up_to(2, st.sampled_from(QUEUES))),
    st.builds(Exactly, run_ids),
)
waits = st.builds(Suspend, moments, st.sampled_from((None, 0, 1, 1, 2, 2)))
thens: st.SearchStrategy[Then] = st.one_of(
    st.just(Go()),
    st.just(Go(RunStatus.COMPENSATING)),
    st.just(Yield()),
    waits,
    waits,
    st.builds(Block, payloads),
    st.builds(Finish, st.sampled_from(FINAL), payloads),
)
changes = st.builds(
    Change,
    _up_to(2, payloads),
    _seldom(_up_to(3, st.sampled_from(MESSAGES))),
    _seldom(_up_to(2, new_runs)),
    _seldom(_up_to(2, st.builds(Send, run_ids, messages))),
    thens,
    st.sampled_from((0, 0, 0, 0, 0, 0, 1, -1)),
)
