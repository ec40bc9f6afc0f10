"""A run that nothing happens to, beside the one that is injured: whatever changes it has gone to the wrong run."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, evolve

from flowkit.records import Commit, Created, Done, Grant, Lease, NewRun, Snapshot
from flowkit.storage import Storage
from flowkit_testing.checks import Check

RUN_ID = "bystander"
_TASK = "flowkit-bystander"  # nobody has it, so nobody claims it (rule X4)
_LEASE_MS = 1000 * 86_400_000
_AGE_MS = 86_400_000  # it is older than all that happens beside it


@define(eq=False)
class Bystander:
    """Owned by somebody who lives on: it must stay so, and stay as it is."""

    storage: Storage
    lease: Lease
    before: Snapshot | None
    created_ms: int

    @classmethod
    def beside(cls, storage: Storage, now_ms: int) -> Bystander:
        """Create it."""
        grant = Grant("bystander", "bystander", _LEASE_MS)
        new = NewRun(RUN_ID, _TASK, b"null", entries=(b"an entry",), grant=grant)
        [created] = storage.submit([new], now_ms=now_ms - _AGE_MS)
        assert isinstance(created, Created), created
        assert created.lease is not None
        return cls(storage, created.lease, storage.load(RUN_ID), now_ms - _AGE_MS)

    def intrusions(self, now_ms: int) -> Iterator[str]:
        """What could be done to it that a healthy storage refuses: each is refused, and leaves it as it is."""
        ahead = Commit(RUN_ID, self.lease.owner, self.lease.fence, "ahead", 2, (b"another entry",))
        [verdict] = self.storage.commit([ahead], now_ms=now_ms)
        if isinstance(verdict, Done):
            yield Check.FENCED.broken(
                "D4: a journal of one entry was appended to by a writer that believed it to have two: the storage does "
                "not compare `base` with the journal's length"
            )
        stranger = evolve(self.lease, owner="a stranger")
        [state] = self.storage.renew("a stranger", [stranger], 1, now_ms=now_ms)
        if state.held:
            yield Check.FENCED.broken("D4: a lease could be renewed by somebody who never had it")
        if self.storage.purge(self.created_ms + _AGE_MS // 2):
            yield Check.NOT_LOST.broken("X3: a purge of runs that had finished long ago removed one that had not")

    def changes(self, now_ms: int) -> Iterator[str]:
        """What has happened to it all the same."""
        after = self.storage.load(RUN_ID)
        if after is None or self.before is None:
            yield Check.OTHERS.broken("a run that nobody has touched is not in the storage any more")
            return
        for name, was, now in (
            ("status", self.before.header.status, after.header.status),
            ("journal", self.before.entries, after.entries),
            ("inbox", self.before.inbox, after.inbox),
            ("result", self.before.result, after.result),
            ("revision", self.before.header.revision, after.header.revision),
        ):
            if was != now:
                yield Check.OTHERS.broken(f"a run that nobody has touched has another {name}: {now!r}, not {was!r}")
                return
        commit = Commit(RUN_ID, self.lease.owner, self.lease.fence, "bystander", 1)
        [verdict] = self.storage.commit([commit], now_ms=now_ms)
        if not isinstance(verdict, Done):
            yield Check.OTHERS.broken(f"the owner of a run that nobody has touched has lost it: {verdict!r}")
