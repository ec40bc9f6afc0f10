"""Two storages that are asked the same, and what must be the same in their answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

from attrs import evolve, frozen

from flowkit.records import (
    Commit,
    Created,
    Delivery,
    Done,
    Grant,
    Lease,
    Message,
    NewRun,
    RunHeader,
    RunQuery,
    RunStatus,
    Snapshot,
    Submitted,
    Suspend,
    Then,
    Want,
)
from flowkit.storage import Storage
from flowkit_testing.machine.inputs import START_MS, Change

Draft = tuple[Commit, Commit]  # for the subject and for the oracle


@frozen
class Pair:
    """One lease, as each of the two storages gave it: only the fences may differ."""

    subject: Lease
    oracle: Lease


class SideBySide:
    """Makes every call to both storages and holds the answers together.

    Args:
        subject: the storage under test, opened. A call made `twice` is sent to it a second time.
        oracle: the storage that is right, opened.
        restarted: closes the subject and gives an opened one on the same data.
    """

    def __init__(self, subject: Storage, oracle: Storage, restarted: Callable[[Storage], Storage]) -> None:
        self.now = START_MS
        self.pairs: list[Pair] = []  # every lease there ever was, lost ones included
        self.drafts: list[Draft] = []  # every commit ever sent
        self._subject = subject
        self._oracle = oracle
        self._restarted = restarted
        self._numbers = count()
        self._worker = self._name("worker")
        self._revisions: dict[str, tuple[int, int]] = {}

    def close(self) -> None:
        """Close both."""
        self._subject.close()
        self._oracle.close()

    def restart(self) -> None:
        """Restart the subject. A worker's name is good for one opened storage."""
        self._subject = self._restarted(self._subject)
        self._worker = self._name("worker")

    def submit(self, new: Sequence[NewRun], born_ms: int | None, *, twice: bool = False) -> None:
        """Create runs, leased for `born_ms` or not; a second sending is told of the same leases."""
        grant = None if born_ms is None else Grant(self._worker, self._name("born"), born_ms)
        runs = [evolve(self._timed(run), grant=grant) for run in new]
        ours, theirs = (storage.submit(runs, now_ms=self.now) for storage in (self._subject, self._oracle))
        assert [_told(answer) for answer in ours] == [_told(answer) for answer in theirs]
        if twice:
            for first, second in zip(ours, self._subject.submit(runs, now_ms=self.now), strict=True):
                assert isinstance(second, Created) == (_lease_of(first) is not None)
        pairs = zip(map(_lease_of, ours), map(_lease_of, theirs), strict=True)
        self.pairs += [Pair(our, their) for our, their in pairs if our and their]

    def claim(self, want: Want, limit: int, lease_ms: int, *, owner: str | None = None, twice: bool = False) -> int:
        """Claim, with a new token or an old one; how many leases there were, the same and in the same order."""
        grant = Grant(self._worker, owner or self._name("claim"), lease_ms)
        ours = self._subject.claim(grant, want, limit, now_ms=self.now)
        theirs = self._oracle.claim(grant, want, limit, now_ms=self.now)
        assert [_unfenced(lease) for lease in ours.leases] == [_unfenced(lease) for lease in theirs.leases]
        assert ours.now_ms == self.now
        if theirs.next_due_ms is not None and len(theirs.leases) < limit:
            assert ours.next_due_ms is not None, "an idle worker would sleep through it"
            assert ours.next_due_ms <= theirs.next_due_ms
        if twice and ours.leases:
            assert self._subject.claim(grant, want, limit, now_ms=self.now).leases == ours.leases
        self.pairs += map(Pair, ours.leases, theirs.leases)
        return len(ours.leases)

    def renew(self, pairs: Sequence[Pair], lease_ms: int, *, twice: bool = False) -> None:
        """Renew leases, whoever holds them now."""
        theirs = self._oracle.renew(self._worker, [pair.oracle for pair in pairs], lease_ms, now_ms=self.now)
        for _ in range(1 + twice):
            ours = self._subject.renew(self._worker, [pair.subject for pair in pairs], lease_ms, now_ms=self.now)
            assert ours == theirs

    def draft(self, pair: Pair, change: Change) -> Draft:
        """Write a commit down for each, from what the oracle knows of the journal."""
        known = self._oracle.load(pair.oracle.run_id, limit=0)
        theirs = Commit(
            run_id=pair.oracle.run_id,
            owner=pair.oracle.owner,
            fence=pair.oracle.fence,
            commit_id=self._name("commit"),
            base=(0 if known is None else known.header.length) + change.off_by,
            entries=change.entries,
            consume=change.consume,
            spawn=tuple(self._timed(new) for new in change.spawn),
            send=change.send,
            then=self._timed_then(change.then),
        )
        return evolve(theirs, fence=pair.subject.fence), theirs

    def commit(self, drafts: Sequence[Draft], *, twice: bool = False) -> None:
        """Commit in one call. Sent again, what was done is done and what was refused is refused (rule D7)."""
        self.drafts += drafts
        mine = [draft for draft, _ in drafts]
        verdicts = self._subject.commit(mine, now_ms=self.now)
        assert verdicts == self._oracle.commit([draft for _, draft in drafts], now_ms=self.now)
        if twice:
            second = self._subject.commit(mine, now_ms=self.now)
            assert [type(verdict) is Done for verdict in second] == [type(verdict) is Done for verdict in verdicts]

    def send(self, run_id: str, message: Message, *, twice: bool = False) -> None:
        """Send; a second sending of what was delivered is a duplicate."""
        answer = self._subject.send(run_id, message, now_ms=self.now)
        assert answer == self._oracle.send(run_id, message, now_ms=self.now)
        if twice:
            repeated = Delivery.DUPLICATE if answer is Delivery.DELIVERED else answer
            assert self._subject.send(run_id, message, now_ms=self.now) == repeated

    def purge(self, before_ms: int, limit: int) -> None:
        """Forget as many."""
        assert self._subject.purge(before_ms, limit) == self._oracle.purge(before_ms, limit)

    def share(self, key: str, value: bytes, off_by: int) -> None:
        """Write a shared value from its revision, or not quite; revisions are each storage's own."""
        ours, theirs = (_share(storage, key, value, off_by) for storage in (self._subject, self._oracle))
        assert ours == theirs

    def list_and_count(self, query: RunQuery, limit: int) -> None:
        """List page by page, and count; a status without runs may be left out of the counts."""
        ours, theirs = (_pages(storage, query, limit) for storage in (self._subject, self._oracle))
        assert ours == theirs
        our, their = self._subject.stats(), self._oracle.stats()
        assert our.queues == their.queues
        assert all(our.by_status.get(status, 0) == their.by_status.get(status, 0) for status in RunStatus)

    def compare(self, run_id: str) -> None:
        """Read a run whole; revisions rise together, whatever they are."""
        ours, theirs = self._subject.load(run_id), self._oracle.load(run_id)
        assert _read(ours) == _read(theirs)
        if ours is None or theirs is None:
            self._revisions.pop(run_id, None)
            return
        now = (ours.header.revision, theirs.header.revision)
        before = self._revisions.get(run_id, (0, 0))
        assert (now[0] > before[0]) == (now[1] > before[1]), (run_id, before, now)
        self._revisions[run_id] = now

    def _name(self, kind: str) -> str:
        return f"{kind}-{next(self._numbers)}"

    def _timed(self, new: NewRun) -> NewRun:
        return new if new.start_at_ms is None else evolve(new, start_at_ms=self.now + new.start_at_ms)

    def _timed_then(self, then: Then) -> Then:
        if isinstance(then, Suspend) and then.wake_at_ms is not None:
            return evolve(then, wake_at_ms=self.now + then.wake_at_ms)
        return then


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


def _share(storage: Storage, key: str, value: bytes, off_by: int) -> tuple[bytes | None, bool]:
    held, revision = storage.get(key) or (None, 0)
    return held, storage.compare_and_set(key, revision + off_by, value) is not None


def _pages(storage: Storage, query: RunQuery, limit: int) -> list[RunHeader]:
    page = storage.list_runs(query, limit=limit)
    headers = list(page.headers)
    while page.cursor is not None:
        assert len(page.headers) == limit
        page = storage.list_runs(query, page.cursor, limit)
        headers += page.headers
    return [evolve(header, revision=0) for header in headers]
