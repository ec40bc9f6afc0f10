"""What the storage has promised to whom, kept beside it, to hold it and the engines to it (rules D2, D4)."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from attrs import define, field

from flowkit.codec import Codec
from flowkit.entries import RUN_KEY, Entry, Kind, Phase, decode, split
from flowkit.journal import END_OF, attempt_of
from flowkit.records import Commit, Done, Finish, Go, Lease, Suspend, Verdict
from flowkit.storage import Storage
from flowkit_testing.checks import Check
from flowkit_testing.states import headers

_OUTCOMES = frozenset({Phase.DONE, Phase.FAILED, Phase.CANCELLED})
_SOON_MS = 60_000  # whoever is due now is claimed by then, also if its limit has no room at once


@define
class Ledger:
    """Leases given and outcomes written, as the storage has answered.

    Whoever asks the storage holds `order` until the answer is written down here. Otherwise a commit that a server has
    applied before a claim could be written down after it, as though it came from a lease that was lost.
    """

    codec: Codec
    order: threading.RLock = field(factory=threading.RLock)
    broken: list[str] = field(factory=list)
    outcomes: dict[tuple[str, str], Entry] = field(factory=dict)  # by run and key
    attempts: dict[tuple[str, str], int] = field(factory=dict)  # failed ones, by run and key
    payloads: dict[tuple[str, str], bytes] = field(factory=dict)  # of the outcomes
    once: set[tuple[str, str, int]] = field(factory=set)  # attempts that were recorded before they began: D3
    finished: set[str] = field(factory=set)  # runs that have ended and were not reopened
    fences: dict[str, int] = field(factory=dict)  # the newest that was given, by run
    leases: dict[str, Lease] = field(factory=dict)  # likewise, as far as they were given here
    retry_at_ms: dict[tuple[str, str], int] = field(factory=dict)  # when the next attempt is due, by run and key
    _leased: set[str] = field(factory=set)  # runs that nobody has let go of
    _told: dict[str, int] = field(factory=dict)  # when runs let go that had just been told to stop: they are due now
    _crashes: dict[str, int] = field(factory=dict)  # takeovers in a row without a new entry (rule R4)
    _counts: bool = True  # it has seen all of them
    _applied: set[str] = field(factory=set)

    def granted(self, lease: Lease, now_ms: int) -> None:
        """A lease was given."""
        run_id = lease.run_id
        with self.order:
            known = self.leases.get(run_id)
            self.fences[run_id] = max(lease.fence, self.fences.get(run_id, 0))
            if known is not None and known.owner == lease.owner:  # D7: asked again
                return
            self.leases[run_id] = lease
            if run_id in self._leased:
                self._crashes[run_id] = self._crashes.get(run_id, 0) + 1
            self._leased.add(run_id)
            waited_ms = now_ms - self._told.pop(run_id, now_ms)
            if waited_ms > _SOON_MS:
                self.broken.append(
                    Check.NOT_LOST.broken(f"E2: run {run_id!r} was told to stop and woken {waited_ms} ms later")
                )
            if self._counts and lease.crashes != self._crashes.get(run_id, 0):
                self.broken.append(
                    Check.RETRY_BUDGET.broken(
                        f"R4: run {run_id!r} was taken over {self._crashes.get(run_id, 0)} time(s) in a row without a "
                        f"new entry, and its lease says {lease.crashes}"
                    )
                )

    def renewed(self, lease: Lease) -> None:
        """A lease was renewed."""
        with self.order:
            if self.is_superseded(lease):
                self.broken.append(
                    Check.FENCED.broken(
                        f"D4: run {lease.run_id!r} was given to another process, and its former owner could renew "
                        "its lease"
                    )
                )

    def answered(self, commit: Commit, verdict: Verdict) -> None:
        """A commit was answered."""
        if not isinstance(verdict, Done):
            return
        with self.order:
            if commit.commit_id in self._applied:  # D7: sent again
                return
            self._applied.add(commit.commit_id)
            newest = self.fences.get(commit.run_id, 0)
            if commit.fence < newest:
                self.broken.append(
                    Check.FENCED.broken(
                        f"D4: run {commit.run_id!r} was written under fence {commit.fence} after fence {newest} was "
                        "given to another process"
                    )
                )
            if commit.run_id in self.finished:
                self.broken.append(Check.TWICE_IS_ONCE.broken(f"X2: run {commit.run_id!r} was finished and written to"))
            if commit.entries:
                self._crashes.pop(commit.run_id, None)
            if not isinstance(commit.then, Go):
                self._leased.discard(commit.run_id)
                if isinstance(commit.then, Suspend) and verdict.cancel and not commit.then.cancel_seen:
                    self._told[commit.run_id] = verdict.now_ms
            for raw in commit.entries:
                self._written(commit.run_id, decode(self.codec, raw), split(raw)[1])
            if isinstance(commit.then, Finish):
                self.finished.add(commit.run_id)

    def read(self, storage: Storage, fences: Mapping[str, int]) -> None:
        """Begin afresh with what is stored, as others have written it under leases of theirs."""
        with self.order:
            for known in (self.outcomes, self.attempts, self.payloads, self.once, self.finished):
                known.clear()
            self._counts = False
            for run_id, fence in fences.items():
                self.fences[run_id] = max(fence, self.fences.get(run_id, 0))
            for header in headers(storage):
                snapshot = storage.load(header.run_id)
                for raw in () if snapshot is None else snapshot.entries:
                    self._written(header.run_id, decode(self.codec, raw), split(raw)[1])
                if header.status.finished:
                    self.finished.add(header.run_id)

    def purged(self, storage: Storage) -> None:
        """Finished runs were forgotten: their ids are free for others, which begin with nothing (rule X3)."""
        with self.order:
            gone = {run_id for run_id in self.finished if storage.load(run_id, 0, 0) is None}
            self.finished -= gone
            for of_runs in (self.fences, self.leases, self._told, self._crashes):
                for run_id in gone & of_runs.keys():
                    del of_runs[run_id]
            for of_operations in (self.outcomes, self.attempts, self.payloads, self.retry_at_ms):
                for key in [key for key in of_operations if key[0] in gone]:
                    del of_operations[key]
            self.once = {begun for begun in self.once if begun[0] not in gone}

    def is_superseded(self, lease: Lease) -> bool:
        """True if the run was given to somebody else after this."""
        return lease.fence < self.fences.get(lease.run_id, 0)

    def has_outcome(self, run_id: str, key: str) -> bool:
        """True if the operation is settled for good."""
        return (run_id, key) in self.outcomes

    def reopened(self, run_id: str) -> None:
        """A finished run goes on."""
        with self.order:
            self.finished.discard(run_id)
            self._crashes.pop(run_id, None)

    def _written(self, run_id: str, entry: Entry, payload: bytes) -> None:
        if entry.key == RUN_KEY:
            if entry.phase == Phase.REOPENED and isinstance(entry.data, dict):
                for key in entry.data.get("keys") or ():  # type: ignore[union-attr]  # a list, as flowkit writes it
                    self.outcomes.pop((run_id, str(key).removeprefix(END_OF)), None)
                    self.attempts.pop((run_id, str(key)), None)
            return
        if self.has_outcome(run_id, entry.key):
            first = self.outcomes[run_id, entry.key]
            self.broken.append(
                Check.FENCED.broken(
                    f"D4: {entry.kind} {entry.name!r} (operation {entry.key}) of run {run_id!r} is settled, as "
                    f"{first.phase}; now {entry.phase} was recorded as well"
                )
            )
        if entry.phase in _OUTCOMES:
            self.outcomes[run_id, entry.key] = entry
            self.payloads[run_id, entry.key] = payload
        elif entry.phase == Phase.BEGUN and entry.kind in {Kind.STEP, Kind.UNDO} and isinstance(entry.data, int):
            if (run_id, entry.key, entry.data) in self.once:
                self.broken.append(
                    Check.EFFECTS.broken(
                        f"D3: {entry.kind} {entry.name!r} ({entry.key}) of run {run_id!r} is to run at most once and "
                        "was begun twice"
                    )
                )
            self.once.add((run_id, entry.key, entry.data))
        elif entry.phase == Phase.ATTEMPT:
            self.attempts[run_id, entry.key], self.retry_at_ms[run_id, entry.key] = attempt_of(entry.data)
