"""What the storage has promised to whom, kept beside it, to hold it and the engines to it (rules D2, D4)."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from attrs import define, field

from flowkit.codec import Codec
from flowkit.entries import RUN_KEY, Entry, Kind, Phase, decode, split
from flowkit.journal import END_OF, attempt_of
from flowkit.records import Commit, Done, Finish, Lease, Verdict
from flowkit.storage import Storage
from flowkit_testing.checks import Check
from flowkit_testing.states import headers

_OUTCOMES = frozenset({Phase.DONE, Phase.FAILED, Phase.CANCELLED})


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
    _applied: set[str] = field(factory=set)

    def granted(self, lease: Lease) -> None:
        """A lease was given."""
        with self.order:
            self.fences[lease.run_id] = max(lease.fence, self.fences.get(lease.run_id, 0))

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
            for raw in commit.entries:
                self._written(commit.run_id, decode(self.codec, raw), split(raw)[1])
            if isinstance(commit.then, Finish):
                self.finished.add(commit.run_id)

    def read(self, storage: Storage, fences: Mapping[str, int]) -> None:
        """Begin afresh with what is stored, as others have written it under leases of theirs."""
        with self.order:
            for known in (self.outcomes, self.attempts, self.payloads, self.once, self.finished):
                known.clear()
            for run_id, fence in fences.items():
                self.fences[run_id] = max(fence, self.fences.get(run_id, 0))
            for header in headers(storage):
                snapshot = storage.load(header.run_id)
                for raw in () if snapshot is None else snapshot.entries:
                    self._written(header.run_id, decode(self.codec, raw), split(raw)[1])
                if header.status.finished:
                    self.finished.add(header.run_id)

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
            self.attempts[run_id, entry.key] = attempt_of(entry.data)[0]
