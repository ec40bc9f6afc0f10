"""A state machine that drives a storage and an oracle side by side and holds every answer of the one to the other's.

Needs hypothesis. Every change may be sent twice to the storage under test and once to the oracle: what follows must be
the same, so a lost answer can never do harm (rule D7). Stale leases stay in play, so zombies come up all the time.

    TestMyStorage = storage_machine(make_my_storage).TestCase
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TypeVar

from attrs import evolve, frozen
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flowkit.memory import MemoryStorage
from flowkit.records import (
    AnyOf,
    Block,
    Commit,
    Created,
    Delivery,
    Done,
    Exactly,
    Finish,
    Go,
    Grant,
    Lease,
    Message,
    MessageKind,
    NewRun,
    RunHeader,
    RunQuery,
    RunStatus,
    Send,
    Snapshot,
    Submitted,
    Suspend,
    Then,
    Want,
    Yield,
)
from flowkit.storage import Storage

T = TypeVar("T")

START_MS = 1_700_000_000_000
RUNS = tuple(f"run-{n}" for n in range(6))
TASKS = ("task-0", "task-1")
QUEUES = ("default", "other")
TAGS = ("red", "blue")
MESSAGES = ("m0", "m1", "m2")
KEYS = ("k0", "k1")
FINAL = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)

run_ids = st.sampled_from(RUNS)
again = st.booleans()
backs = st.integers(0, 9)  # how far to reach back among leases or commits
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
class Pair:
    """One lease, as each of the two storages gave it: only the fences may differ."""

    subject: Lease
    oracle: Lease


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


class StorageMachine(RuleBasedStateMachine):
    """The same calls to both storages; `storage_machine` makes a subclass that knows which ones."""

    def __init__(self) -> None:
        super().__init__()
        self.subject, self.oracle = self.storages()
        self.subject.open()
        self.oracle.open()
        self.now = START_MS
        self.numbers = count()
        self.worker = "worker-0"
        self.pairs: list[Pair] = []  # every lease there ever was, lost ones included
        self.drafts: list[tuple[Commit, Commit]] = []  # every commit ever sent
        self.revisions: dict[str, tuple[int, int]] = {}

    def storages(self) -> tuple[Storage, Storage]:
        """Make the storage under test and the oracle."""
        raise NotImplementedError

    def restarted(self, storage: Storage) -> Storage:
        """Close the storage under test and give an opened one on the same data."""
        storage.close()
        storage.open()
        return storage

    def teardown(self) -> None:
        """Close both."""
        self.subject.close()
        self.oracle.close()

    @initialize()
    def begin(self) -> None:
        """Some runs to work on, one of them born claimed."""
        self._submit([NewRun(run_id, "task-0", b"") for run_id in RUNS[:2]], None, twice=False)
        self._submit([NewRun(RUNS[2], "task-1", b"")], 30, twice=False)

    # ---- time and the process

    @rule(ms=st.sampled_from((1, 5, 10, 30, 100)))
    def time_passes(self, ms: int) -> None:
        """Timers come due and leases end."""
        self.now += ms

    @rule()
    def restart(self) -> None:
        """Whatever was acknowledged is still there. A worker's name is good for one opened storage."""
        self.subject = self.restarted(self.subject)
        self.worker = f"worker-{next(self.numbers)}"

    # ---- runs and leases

    @rule(new=st.lists(new_runs, min_size=1, max_size=3), born_ms=st.none() | lease_times, twice=again)
    def submit(self, new: list[NewRun], born_ms: int | None, twice: bool) -> None:  # noqa: FBT001 - drawn
        """Create runs, some of them born claimed."""
        self._submit(new, born_ms, twice=twice)

    @rule(want=wants, limit=st.integers(0, 3), lease_ms=lease_times, twice=again)
    def claim(self, want: Want, limit: int, lease_ms: int, twice: bool) -> None:  # noqa: FBT001 - drawn
        """Take what there is to take, in the oracle's order."""
        self._claim(Grant(self.worker, f"claim-{next(self.numbers)}", lease_ms), want, limit, twice=twice)

    @rule(run_id=run_ids, change=changes, lease_ms=lease_times, twice=again)
    def work(self, run_id: str, change: Change, lease_ms: int, twice: bool) -> None:  # noqa: FBT001 - drawn
        """Claim one run and write to it at once, as a worker mostly does."""
        known = len(self.pairs)
        self._claim(Grant(self.worker, f"work-{next(self.numbers)}", lease_ms), Exactly(run_id), 1, twice=twice)
        if len(self.pairs) > known:
            self._commit([self._draft(self.pairs[-1], change)], twice=twice)

    @precondition(lambda self: self.pairs)
    @rule(back=backs, want=wants, limit=st.integers(0, 3))
    def claim_again(self, back: int, want: Want, limit: int) -> None:
        """Ask with a token that has been used, and may have lost what it was given."""
        self._claim(Grant(self.worker, _pick(self.pairs, back).oracle.owner, 30), want, limit, twice=False)

    @precondition(lambda self: self.pairs)
    @rule(picks=st.lists(backs, max_size=3), lease_ms=lease_times, twice=again)
    def renew(self, picks: list[int], lease_ms: int, twice: bool) -> None:  # noqa: FBT001 - drawn
        """Renew leases, lost ones among them."""
        pairs = [_pick(self.pairs, back) for back in picks]
        theirs = self.oracle.renew(self.worker, [pair.oracle for pair in pairs], lease_ms, now_ms=self.now)
        for _ in range(1 + twice):
            assert (
                self.subject.renew(self.worker, [pair.subject for pair in pairs], lease_ms, now_ms=self.now) == theirs
            )

    # ---- commits and messages

    @precondition(lambda self: self.pairs)
    @rule(back=st.integers(0, 2), change=changes, twice=again)
    def commit(self, back: int, change: Change, twice: bool) -> None:  # noqa: FBT001 - drawn
        """Commit under a lease that is probably still held."""
        self._commit([self._draft(_pick(self.pairs, back), change)], twice=twice)

    @precondition(lambda self: self.pairs)
    @rule(work=st.lists(st.tuples(backs, changes), min_size=1, max_size=3), twice=again)
    def commit_many(self, work: list[tuple[int, Change]], twice: bool) -> None:  # noqa: FBT001 - drawn
        """Commit for several runs at once, zombies and mistaken writers among them."""
        drafts = [self._draft(_pick(self.pairs, back), change) for back, change in work]
        one_each = len({mine.run_id for mine, _ in drafts}) == len(drafts)  # as the committer sends them
        self._commit(drafts, twice=twice and one_each)

    @precondition(lambda self: self.drafts)
    @rule(back=backs)
    def commit_again(self, back: int) -> None:
        """Send a commit of any age again."""
        self._commit([_pick(self.drafts, back)], twice=False)

    @rule(run_id=run_ids, message=messages, twice=again)
    def send(self, run_id: str, message: Message, twice: bool) -> None:  # noqa: FBT001 - drawn
        """Deliver, cancel, reopen."""
        answer = self.subject.send(run_id, message, now_ms=self.now)
        assert answer == self.oracle.send(run_id, message, now_ms=self.now)
        if twice:
            repeated = Delivery.DUPLICATE if answer is Delivery.DELIVERED else answer
            assert self.subject.send(run_id, message, now_ms=self.now) == repeated

    # ---- forgetting, sharing, reading

    @rule(ago_ms=st.integers(-1, 40), limit=st.integers(0, 3))
    def purge(self, ago_ms: int, limit: int) -> None:
        """Forget the same runs."""
        before = self.now - ago_ms
        assert self.subject.purge(before, limit) == self.oracle.purge(before, limit)

    @rule(key=st.sampled_from(KEYS), value=short_bytes, off_by=st.sampled_from((0, 0, 1)))
    def share(self, key: str, value: bytes, off_by: int) -> None:
        """Write a shared value; its revisions are each storage's own."""
        answers = []
        for storage in (self.subject, self.oracle):
            held, revision = storage.get(key) or (None, 0)
            answers.append((held, storage.compare_and_set(key, revision + off_by, value) is not None))
        assert answers[0] == answers[1]

    @rule(query=queries, limit=st.integers(1, 4))
    def list_and_count(self, query: RunQuery, limit: int) -> None:
        """List page by page, narrowed or not, and count; a status without runs may be left out of the counts."""
        ours, theirs = (self._pages(storage, query, limit) for storage in (self.subject, self.oracle))
        assert ours == theirs
        our, their = self.subject.stats(), self.oracle.stats()
        assert our.queues == their.queues
        assert all(our.by_status.get(status, 0) == their.by_status.get(status, 0) for status in RunStatus)

    @invariant()
    def every_run_is_the_same(self) -> None:
        """Headers, journals, inboxes, results; revisions rise together."""
        for run_id in RUNS:
            ours, theirs = self.subject.load(run_id), self.oracle.load(run_id)
            assert _read(ours) == _read(theirs)
            if ours is None or theirs is None:
                self.revisions.pop(run_id, None)
                continue
            now = (ours.header.revision, theirs.header.revision)
            before = self.revisions.get(run_id, (0, 0))
            assert (now[0] > before[0]) == (now[1] > before[1]), (run_id, before, now)
            self.revisions[run_id] = now

    # ---- what the rules share

    def _submit(self, new: list[NewRun], born_ms: int | None, *, twice: bool) -> None:
        grant = None if born_ms is None else Grant(self.worker, f"born-{next(self.numbers)}", born_ms)
        runs = [evolve(self._timed(run), grant=grant) for run in new]
        ours, theirs = (storage.submit(runs, now_ms=self.now) for storage in (self.subject, self.oracle))
        assert [_told(answer) for answer in ours] == [_told(answer) for answer in theirs]
        if twice:
            for first, second in zip(ours, self.subject.submit(runs, now_ms=self.now), strict=True):
                assert isinstance(second, Created) == (isinstance(first, Created) and grant is not None)
        pairs = zip(map(_lease_of, ours), map(_lease_of, theirs), strict=True)
        self.pairs += [Pair(our, their) for our, their in pairs if our and their]

    def _claim(self, grant: Grant, want: Want, limit: int, *, twice: bool) -> None:
        ours = self.subject.claim(grant, want, limit, now_ms=self.now)
        theirs = self.oracle.claim(grant, want, limit, now_ms=self.now)
        assert [_unfenced(lease) for lease in ours.leases] == [_unfenced(lease) for lease in theirs.leases]
        assert ours.now_ms == self.now
        if theirs.next_due_ms is not None and len(theirs.leases) < limit:
            assert ours.next_due_ms is not None, "an idle worker would sleep through it"
            assert ours.next_due_ms <= theirs.next_due_ms
        if twice and ours.leases:
            assert self.subject.claim(grant, want, limit, now_ms=self.now).leases == ours.leases
        self.pairs += map(Pair, ours.leases, theirs.leases)

    def _draft(self, pair: Pair, change: Change) -> tuple[Commit, Commit]:
        known = self.oracle.load(pair.oracle.run_id, limit=0)
        theirs = Commit(
            run_id=pair.oracle.run_id,
            owner=pair.oracle.owner,
            fence=pair.oracle.fence,
            commit_id=f"commit-{next(self.numbers)}",
            base=(0 if known is None else known.header.length) + change.off_by,
            entries=change.entries,
            consume=change.consume,
            spawn=tuple(self._timed(new) for new in change.spawn),
            send=change.send,
            then=self._timed_then(change.then),
        )
        return evolve(theirs, fence=pair.subject.fence), theirs

    def _commit(self, drafts: list[tuple[Commit, Commit]], *, twice: bool) -> None:
        self.drafts += drafts
        mine = [draft for draft, _ in drafts]
        verdicts = self.subject.commit(mine, now_ms=self.now)
        assert verdicts == self.oracle.commit([draft for _, draft in drafts], now_ms=self.now)
        if twice:
            second = self.subject.commit(mine, now_ms=self.now)
            assert [type(verdict) is Done for verdict in second] == [type(verdict) is Done for verdict in verdicts]

    def _timed(self, new: NewRun) -> NewRun:
        return new if new.start_at_ms is None else evolve(new, start_at_ms=self.now + new.start_at_ms)

    def _timed_then(self, then: Then) -> Then:
        if isinstance(then, Suspend) and then.wake_at_ms is not None:
            return evolve(then, wake_at_ms=self.now + then.wake_at_ms)
        return then

    def _pages(self, storage: Storage, query: RunQuery, limit: int) -> list[RunHeader]:
        page = storage.list_runs(query, limit=limit)
        headers = list(page.headers)
        while page.cursor is not None:
            assert len(page.headers) == limit
            page = storage.list_runs(query, page.cursor, limit)
            headers += page.headers
        return [evolve(header, revision=0) for header in headers]


def storage_machine(
    make: Callable[[], Storage],
    *,
    oracle: Callable[[], Storage] = MemoryStorage,
    restarted: Callable[[Storage], Storage] | None = None,
) -> type[StorageMachine]:
    """Make a state machine for a storage; its `TestCase` is what a test runner runs.

    Args:
        make: makes the storage under test, empty and not opened yet, once for every example.
        oracle: makes what it is compared with.
        restarted: closes a storage and gives an opened one on the same data; by default the same object again.
    """

    class Machine(StorageMachine):
        """The machine of one storage."""

        def storages(self) -> tuple[Storage, Storage]:
            return make(), oracle()

        def restarted(self, storage: Storage) -> Storage:
            return super().restarted(storage) if restarted is None else restarted(storage)

    return Machine


def _pick(items: list[T], back: int) -> T:
    return items[-1 - back % len(items)]


def _unfenced(lease: Lease) -> Lease:
    return evolve(lease, fence=0)


def _lease_of(answer: Submitted) -> Lease | None:
    return answer.lease if isinstance(answer, Created) else None


def _told(answer: Submitted) -> tuple[str, object, int]:
    if isinstance(answer, Created):
        return "created", answer.lease and _unfenced(answer.lease), answer.now_ms
    return "exists", evolve(answer.header, revision=0), answer.now_ms


def _read(snapshot: Snapshot | None) -> Snapshot | None:
    return snapshot and evolve(snapshot, header=evolve(snapshot.header, revision=0), now_ms=0)
