"""A state machine that drives a storage and an oracle side by side and holds every answer of the one to the other's.

Needs hypothesis. Every change may be sent twice to the storage under test and once to the oracle: what follows must be
the same, so a lost answer can never do harm (rule D7). Stale leases stay in play, so zombies come up all the time.

    TestMyStorage = storage_machine(make_my_storage).TestCase
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, assert_never

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flowkit.memory import MemoryStorage
from flowkit.records import Exactly, Message, NewRun, RunQuery, Suspend, Want
from flowkit.storage import Storage
from flowkit_testing.machine import inputs
from flowkit_testing.machine.inputs import Change, Chore
from flowkit_testing.machine.side_by_side import SideBySide

T = TypeVar("T")


class StorageMachine(RuleBasedStateMachine):
    """The rules; `storage_machine` makes a subclass that knows which storages."""

    def __init__(self) -> None:
        super().__init__()
        self.both = self.side_by_side()

    def side_by_side(self) -> SideBySide:
        """Make and open the storage under test and the oracle."""
        raise NotImplementedError  # what `storage_machine` makes says it

    def teardown(self) -> None:
        """Close both."""
        self.both.close()

    @initialize()
    def begin(self) -> None:
        """A run that is ready, one that waits for a message, and one that is leased."""
        ready, waiting, leased = (NewRun(run_id, "task-0", b"") for run_id in inputs.RUNS[:3])
        self.both.submit([ready], None)
        self.both.submit([waiting], 30)
        self.both.commit([self.both.draft(self.both.pairs[-1], Change(then=Suspend(inbox_at_least=1)))])
        self.both.submit([leased], 30)

    @invariant()
    def every_run_is_the_same(self) -> None:
        """Headers, journals, inboxes, results."""
        for run_id in inputs.RUNS:
            self.both.compare(run_id)

    # ---- runs and leases

    @rule(
        new=st.lists(inputs.new_runs, min_size=1, max_size=3),
        born_ms=st.none() | inputs.lease_times,
        twice=inputs.twice,
    )
    def submit(self, new: list[NewRun], born_ms: int | None, twice: bool) -> None:  # noqa: FBT001 # drawn by name
        """Create runs, some of them born claimed."""
        self.both.submit(new, born_ms, twice=twice)

    @rule(ms=inputs.later, want=inputs.wants, limit=st.integers(0, 3), lease_ms=inputs.lease_times, twice=inputs.twice)
    def claim(self, ms: int, want: Want, limit: int, lease_ms: int, twice: bool) -> None:  # noqa: FBT001 # drawn by name
        """Take what there is to take, in the oracle's order."""
        self.both.now += ms
        self.both.claim(want, limit, lease_ms, twice=twice)

    @precondition(lambda self: self.both.pairs)
    @rule(back=inputs.backs, want=inputs.wants, limit=st.integers(0, 3))
    def claim_again(self, back: int, want: Want, limit: int) -> None:
        """Ask with a token that has been used, and may have lost what it was given."""
        self.both.claim(want, limit, 30, owner=_pick(self.both.pairs, back).oracle.owner)

    @precondition(lambda self: self.both.pairs)
    @rule(ms=inputs.later, backs=st.lists(inputs.backs, max_size=3), lease_ms=inputs.lease_times, twice=inputs.twice)
    def renew(self, ms: int, backs: list[int], lease_ms: int, twice: bool) -> None:  # noqa: FBT001 # drawn by name
        """Renew leases, lost ones among them."""
        self.both.now += ms
        self.both.renew([_pick(self.both.pairs, back) for back in backs], lease_ms, twice=twice)

    # ---- commits and messages

    @rule(ms=inputs.later, run_id=inputs.run_ids, change=inputs.changes, twice=inputs.twice)
    def work(self, ms: int, run_id: str, change: Change, twice: bool) -> None:  # noqa: FBT001 # drawn by name
        """Claim one run and write to it at once, as a worker mostly does."""
        self.both.now += ms
        if self.both.claim(Exactly(run_id), 1, 30, twice=twice):
            self.both.commit([self.both.draft(self.both.pairs[-1], change)], twice=twice)

    @precondition(lambda self: self.both.pairs)
    @rule(back=st.integers(0, 2), change=inputs.changes, twice=inputs.twice)
    def commit(self, back: int, change: Change, twice: bool) -> None:  # noqa: FBT001 # drawn by name
        """Commit under a lease that is probably still held."""
        self.both.commit([self.both.draft(_pick(self.both.pairs, back), change)], twice=twice)

    @precondition(lambda self: self.both.pairs)
    @rule(work=st.lists(st.tuples(inputs.backs, inputs.changes), min_size=2, max_size=3), twice=inputs.twice)
    def commit_many(self, work: list[tuple[int, Change]], twice: bool) -> None:  # noqa: FBT001 # drawn by name
        """Commit for several runs at once, zombies and mistaken writers among them."""
        drafts = [self.both.draft(_pick(self.both.pairs, back), change) for back, change in work]
        one_each = len({mine.run_id for mine, _ in drafts}) == len(drafts)  # only such batches are ever sent again
        self.both.commit(drafts, twice=twice and one_each)

    @precondition(lambda self: self.both.drafts)
    @rule(back=inputs.backs)
    def commit_again(self, back: int) -> None:
        """Send a commit of any age again."""
        self.both.commit([_pick(self.both.drafts, back)])

    @rule(run_id=inputs.run_ids, message=inputs.messages, twice=inputs.twice)
    def send(self, run_id: str, message: Message, twice: bool) -> None:  # noqa: FBT001 # drawn by name
        """Deliver, cancel, reopen."""
        self.both.send(run_id, message, twice=twice)

    # ---- beside the runs

    @rule(
        chore=st.sampled_from(inputs.Chore),
        query=inputs.queries,
        key=st.sampled_from(inputs.KEYS),
        size=st.integers(0, 3),
    )
    def do(self, chore: Chore, query: RunQuery, key: str, size: int) -> None:
        """Restart, forget, share, or list: one rule, so that the runs are what most happens to."""
        match chore:
            case Chore.RESTART:
                self.both.restart()
            case Chore.PURGE:
                self.both.purge(self.both.now - 10 * size, size)
            case Chore.SHARE:
                self.both.share(key, bytes(size), off_by=size // 3)
            case Chore.LIST:
                self.both.list_and_count(query, size + 1)
            case _:
                assert_never(chore)


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

        def side_by_side(self) -> SideBySide:
            subject, right = make(), oracle()
            subject.open()
            right.open()
            return SideBySide(subject, right, restarted or _reopened)

    return Machine


def _reopened(storage: Storage) -> Storage:
    storage.close()
    storage.open()
    return storage


def _pick(items: list[T], back: int) -> T:
    return items[-1 - back % len(items)]
