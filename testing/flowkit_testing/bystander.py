"""A run that nothing happens to, beside the one that is injured: whatever changes it has gone to the wrong run."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define

from flowkit.records import Commit, Created, Done, Grant, Lease, NewRun, Snapshot
from flowkit.storage import Storage
from flowkit_testing.checks import Check

RUN_ID = "bystander"
_TASK = "flowkit-bystander"  # nobody has it, so nobody claims it (rule X4)
_LEASE_MS = 1000 * 86_400_000


@define(eq=False)
class Bystander:
    """Owned by somebody who lives on: it must stay so, and stay as it is."""

    storage: Storage
    lease: Lease
    before: Snapshot | None

    @classmethod
    def beside(cls, storage: Storage, now_ms: int) -> Bystander:
        """Create it."""
        grant = Grant("bystander", "bystander", _LEASE_MS)
        new = NewRun(RUN_ID, _TASK, b"null", entries=(b"an entry",), grant=grant)
        [created] = storage.submit([new], now_ms=now_ms)
        assert isinstance(created, Created), created
        assert created.lease is not None
        return cls(storage, created.lease, storage.load(RUN_ID))

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
