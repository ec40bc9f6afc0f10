"""What the state machine draws: few names, so that runs, messages and owners meet all the time."""

from __future__ import annotations

from attrs import frozen
from hypothesis import strategies as st

from flowkit.records import (
    AnyOf,
    Block,
    Exactly,
    Finish,
    Go,
    Message,
    MessageKind,
    NewRun,
    RunQuery,
    RunStatus,
    Send,
    Suspend,
    Then,
    Yield,
)

START_MS = 1_700_000_000_000
RUNS = tuple(f"run-{n}" for n in range(6))
TASKS = ("task-0", "task-1")
QUEUES = ("default", "other")
TAGS = ("red", "blue")
MESSAGES = ("m0", "m1", "m2")
KEYS = ("k0", "k1")
FINAL = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)

run_ids = st.sampled_from(RUNS)
lease_times = st.sampled_from((10, 30, 100))
moments = st.one_of(st.none(), st.integers(-5, 60))  # milliseconds from now
short_bytes = st.binary(max_size=3)
messages = st.builds(Message, st.sampled_from(MESSAGES), st.sampled_from(MessageKind), st.just("name"), short_bytes)
sends = st.builds(Send, run_ids, messages)
wants = st.one_of(
    st.builds(
        AnyOf,
        st.lists(st.sampled_from(TASKS), min_size=1, max_size=2).map(tuple),
        st.lists(st.sampled_from(QUEUES), min_size=1, max_size=2).map(tuple),
    ),
    st.builds(Exactly, run_ids),
)
queries = st.builds(
    RunQuery,
    st.none() | st.sampled_from(RunStatus),
    st.none() | st.sampled_from(TASKS),
    st.none() | st.sampled_from(TAGS),
)
new_runs = st.builds(
    NewRun,
    run_ids,
    st.sampled_from(TASKS),
    short_bytes,
    queue=st.sampled_from(QUEUES),
    priority=st.integers(-1, 1),
    tags=st.lists(st.sampled_from(TAGS), unique=True).map(tuple),
    entries=st.lists(short_bytes, max_size=2).map(tuple),
    start_at_ms=moments,
)
thens: st.SearchStrategy[Then] = st.one_of(
    st.just(Go()),
    st.just(Go(RunStatus.COMPENSATING)),
    st.just(Yield()),
    st.builds(Suspend, moments, st.none() | st.integers(0, 3)),
    st.builds(Block, short_bytes),
    st.builds(Finish, st.sampled_from(FINAL), short_bytes),
)


@frozen
class Change:
    """What a commit asks for, before it is known in whose name."""

    entries: tuple[bytes, ...]
    consume: tuple[str, ...]
    spawn: tuple[NewRun, ...]
    send: tuple[Send, ...]
    then: Then
    off_by: int  # how wrong the writer is about the journal's length


changes = st.builds(
    Change,
    st.lists(short_bytes, max_size=2).map(tuple),
    st.lists(st.sampled_from(MESSAGES), max_size=2, unique=True).map(tuple),
    st.lists(new_runs, max_size=2).map(tuple),
    st.lists(sends, max_size=2).map(tuple),
    thens,
    st.sampled_from((0, 0, 0, 0, 1, -1)),
)
