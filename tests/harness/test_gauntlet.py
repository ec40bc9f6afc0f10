"""Engines and storages that are broken on purpose, one fault each: exploring a small workflow finds every one.

The table in `docs/prove-your-workflow.md` says which check has found which; `python tests/harness/test_gauntlet.py`
prints it anew.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

import flowkit.async_body
import flowkit.body
import flowkit.calls
import flowkit.changes
import flowkit.committer
import flowkit.drivers
import flowkit.operations
import flowkit.patience
import flowkit.rollback
import flowkit.spawning
import flowkit.timers
from flowkit import task, uuid4, wait_for_event, work
from flowkit.codec import Codec
from flowkit.entries import Phase
from flowkit.errors import StorageError
from flowkit.journal import Journal, Past
from flowkit.memory import MemoryStorage
from flowkit.memory.run import Place
from flowkit.memory.state import State
from flowkit.records import (
    Claimed,
    Commit,
    Delivery,
    Done,
    Exactly,
    Go,
    Grant,
    Lease,
    Message,
    MessageKind,
    Snapshot,
    Suspend,
    Verdict,
    Want,
)
from flowkit.run import Run
from flowkit.saga import _Entered
from flowkit.storage import Storage
from flowkit_testing import Harness
from flowkit_testing.checks import TEXTS, Check
from flowkit_testing.corpus import CASES
from flowkit_testing.corpus.steps import add, add_later, slowly
from flowkit_testing.exploration import Exploration
from flowkit_testing.forward import Forward
from flowkit_testing.plan import DEFAULT_FAULTS, Kind

PAGE = Path(__file__).parents[2] / "docs" / "prove-your-workflow.md"
BEGIN, END = "<!-- gauntlet -->\n", "<!-- end of gauntlet -->"
cases = {case.name: case for case in CASES}
Break = Callable[[pytest.MonkeyPatch], None]


# ---- workflows that the corpus has not ------------------------------------------------------------------------------


@task(id="gauntlet-two-events")
def two_events() -> list[object]:
    """Waits twice for an event of one name."""
    return [wait_for_event("news", timeout="1h"), add(1, 1), wait_for_event("news", timeout="1h")]


@task(id="gauntlet-unjoined")
async def unjoined(number: int) -> int:
    """Slow side work that nobody waits for."""
    work(slowly, number, 5)
    return await add_later(number, 1)


@task(id="gauntlet-draws")
def draws() -> str:
    """A result that is drawn by lot."""
    drawn = str(uuid4())
    add(1, 1)
    return drawn


# ---- storages -------------------------------------------------------------------------------------------------------


class BrokenMemory(Forward):
    """What most of the broken storages are made of: memory, with its insides at hand."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self.state = State()
        self._storage = MemoryStorage(self.state)


class NoFence(BrokenMemory):
    """Writes for whoever asks."""

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, wrongly."""
        verdicts = []
        for commit in commits:
            run = self.state.runs.get(commit.run_id)
            mended = commit
            if run is not None and run.owner is not None:
                mended = evolve(commit, owner=run.owner, fence=run.fence, base=len(run.entries))
            verdicts += self._storage.commit([mended], now_ms=now_ms)
        return verdicts


class ForgetsCommitIds(BrokenMemory):
    """Takes a commit that is sent again for a new one."""

    count = 0

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, wrongly."""
        renamed = []
        for commit in commits:
            self.count += 1
            run = self.state.runs.get(commit.run_id)
            base = commit.base if run is None or run.owner != commit.owner else len(run.entries)
            renamed.append(evolve(commit, commit_id=f"{commit.commit_id}/{self.count}", base=base))
        return self._storage.commit(renamed, now_ms=now_ms)


class AcknowledgesFirst(Forward):
    """Answers before it has written: the last commit is lost with the process."""

    held: list[Commit] | None = None

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, wrongly."""
        if self.held is not None:
            self._storage.commit(self.held, now_ms=now_ms)
            self.held = None
        if all(isinstance(commit.then, Go) and commit.entries for commit in commits):
            self.held = list(commits)
            return [Done(commit.base + len(commit.entries), False, 0, now_ms or 0) for commit in commits]  # noqa: FBT003  # as the record has it
        return self._storage.commit(commits, now_ms=now_ms)


class LosesWakeUps(Forward):
    """Waits for one message more than it is told to."""

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, wrongly."""
        late = [
            evolve(commit, then=Suspend(commit.then.wake_at_ms, commit.then.inbox_at_least + 1))
            if isinstance(commit.then, Suspend) and commit.then.inbox_at_least is not None
            else commit
            for commit in commits
        ]
        return self._storage.commit(late, now_ms=now_ms)


class LosesTimers(Forward):
    """Forgets when a run is to be woken."""

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, wrongly."""
        asleep = [
            evolve(commit, then=Suspend(None, 1)) if isinstance(commit.then, Suspend) else commit for commit in commits
        ]
        return self._storage.commit(asleep, now_ms=now_ms)


class LosesReplies(Forward):
    """Drops what a commit sends to other runs."""

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, wrongly."""
        return self._storage.commit([evolve(commit, send=()) for commit in commits], now_ms=now_ms)


class DeliversTwice(Forward):
    """Leaves a message in the inbox that a commit has consumed."""

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, wrongly."""
        return self._storage.commit([evolve(commit, consume=()) for commit in commits], now_ms=now_ms)


class EmptiesInboxes(BrokenMemory):
    """Loses the inbox of a run that is taken over."""

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs, wrongly."""
        claimed = self._storage.claim(grant, want, limit, now_ms=now_ms)
        for lease in claimed.leases:
            self.state.runs[lease.run_id].inbox.clear()
        return claimed


class LosesCancellations(Forward):
    """Says that a run was told to stop, and tells it nothing."""

    def send(self, run_id: str, message: Message, *, now_ms: int | None = None) -> Delivery:
        """Deliver a message, or not."""
        if message.kind is MessageKind.CANCEL:
            return Delivery.DELIVERED
        return self._storage.send(run_id, message, now_ms=now_ms)


class GivesFinishedRuns(BrokenMemory):
    """Lets a finished run be claimed."""

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs, wrongly."""
        run = self.state.runs.get(want.run_id) if isinstance(want, Exactly) else None
        if run is not None and run.place is Place.FINISHED:
            return Claimed((Lease(run.new.run_id, grant.token, run.fence + 1),), None, now_ms or 0)
        return self._storage.claim(grant, want, limit, now_ms=now_ms)


class TakesAllLeases(BrokenMemory):
    """Ends the leases of all runs whenever one is claimed."""

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs, wrongly."""
        claimed = self._storage.claim(grant, want, limit, now_ms=now_ms)
        mine = {lease.run_id for lease in claimed.leases}
        for run_id, run in self.state.runs.items():
            if mine and run_id not in mine:
                run.fence += 1
        return claimed


class LoadsStale(Forward):
    """Reads a journal from a copy that is one entry behind."""

    def load(self, run_id: str, after: int = 0, limit: int | None = None) -> Snapshot | None:
        """Read a run, wrongly."""
        snapshot = self._storage.load(run_id, after, limit)
        if snapshot is None or after or not snapshot.entries or snapshot.header.worker is None:
            return snapshot
        return evolve(snapshot, entries=snapshot.entries[:-1])


class GarblesEntries(Forward):
    """Reads back another value than was written."""

    def load(self, run_id: str, after: int = 0, limit: int | None = None) -> Snapshot | None:
        """Read a run, wrongly."""
        snapshot = self._storage.load(run_id, after, limit)
        if snapshot is None or snapshot.header.worker is None:
            return snapshot
        entries = tuple(raw[:-1] + b"9" if raw.endswith(b"\n1") else raw for raw in snapshot.entries)
        return evolve(snapshot, entries=entries)


class ForgetsRuns(BrokenMemory):
    """Loses a run whose owner has died."""

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs, wrongly."""
        claimed = self._storage.claim(grant, want, limit, now_ms=now_ms)
        lost = [lease for lease in claimed.leases if lease.crashes]
        for lease in lost:
            self.state.forget(self.state.runs[lease.run_id])
        return evolve(claimed, leases=tuple(lease for lease in claimed.leases if lease not in lost))


class SpawnsTwice(Forward):
    """Creates a child again, under another id, when its owner asks twice."""

    seen: frozenset[str] = frozenset()

    def submit(self, runs: Sequence[Any], *, now_ms: int | None = None) -> list[Any]:
        """Create runs, wrongly."""
        named = [
            evolve(new, run_id=f"{new.run_id}b") if "/" in new.run_id and new.run_id in self.seen else new
            for new in runs
        ]
        self.seen |= {new.run_id for new in runs}
        return self._storage.submit(named, now_ms=now_ms)


# ---- engines --------------------------------------------------------------------------------------------------------


def runs_steps_again(patch: pytest.MonkeyPatch) -> None:
    """A completed step is forgotten."""
    read = Journal.read

    def forgetful(codec: Codec, entries: Sequence[bytes]) -> Journal:
        journal = read(codec, entries)
        if journal.past.pop("2", None) is not None:
            journal.uncalled -= 1
        return journal

    patch.setattr(Journal, "read", forgetful)


def answers_with_another_result(patch: pytest.MonkeyPatch) -> None:
    """A completed step is answered with the result of another one."""
    read = Journal.read

    def mixed_up(codec: Codec, entries: Sequence[bytes]) -> Journal:
        journal = read(codec, entries)
        if "1" in journal.past and "2" in journal.past:
            journal.past["2"].payload = journal.past["1"].payload
        return journal

    patch.setattr(Journal, "read", mixed_up)


def resets_attempts(patch: pytest.MonkeyPatch) -> None:
    """Attempts made before a crash are not counted."""
    patch.setattr(flowkit.operations, "_take_up", _takes_up_nothing)


def _takes_up_nothing(*_args: object) -> Generator[None, None, int]:
    yield from ()
    return 0


def runs_at_most_once_twice(patch: pytest.MonkeyPatch) -> None:
    """A step that must not run twice does, after a crash in it."""
    patch.setattr(flowkit.operations, "_take_up", _takes_up_nothing)


def restarts_timers(patch: pytest.MonkeyPatch) -> None:
    """A timer that was set is set again after a crash."""
    recall = flowkit.calls.recall

    def forgetful(run: object, kind: str, key: str, name: str) -> Past | None:
        past = recall(run, kind, key, name)  # type: ignore[arg-type]  # as called
        return past if past is None or past.outcome is not None else None

    patch.setattr(flowkit.timers, "recall", forgetful)


def undoes_oldest_first(patch: pytest.MonkeyPatch) -> None:
    """Undos run in the order of the steps."""

    def oldest_first(undos: list[object], *, key: Callable[[object], object], reverse: bool) -> list[object]:
        del reverse
        return sorted(undos, key=key)  # type: ignore[arg-type]  # as called

    patch.setattr(flowkit.rollback, "sorted", oldest_first, raising=False)


def undoes_again(patch: pytest.MonkeyPatch) -> None:
    """An undo that was done before a crash is done again."""
    recall = Journal.recall

    def forgetful(journal: Journal, kind: str, key: str, name: str) -> Past | None:
        past = recall(journal, kind, key, name)
        return None if kind == "undo" else past

    patch.setattr(Journal, "recall", forgetful)


def forgets_undos_of_scopes(patch: pytest.MonkeyPatch) -> None:
    """A scope that succeeds does not hand its undos outwards."""
    decide = _Entered.must_roll_back

    def forgetful(entered: Any, error: BaseException | None) -> bool:  # noqa: ANN401  # an internal class
        kept = list(entered.outer.undos)
        rolls_back = decide(entered, error)
        entered.outer.undos[:] = kept
        return rolls_back

    patch.setattr(_Entered, "must_roll_back", forgetful)


def stops_rollbacks_half_way(patch: pytest.MonkeyPatch) -> None:
    """A rollback that was interrupted goes on with its first undo only."""
    rebuild = flowkit.rollback._rebuilt

    def halved(*args: Any) -> list[Any]:  # noqa: ANN401  # as called
        return rebuild(*args)[:1]

    patch.setattr(flowkit.rollback, "_rebuilt", halved)


def turns_round(patch: pytest.MonkeyPatch) -> None:
    """A rollback that was interrupted is forgotten: the body goes forward again."""
    add_of_run = Journal._add_of_run

    def forgetful(journal: Journal, entry: Any) -> None:  # noqa: ANN401  # an Entry
        add_of_run(journal, entry)
        journal.rollback = None
        for key in [key for key, past in journal.past.items() if past.phase == Phase.FAILED]:
            del journal.past[key]

    patch.setattr(Journal, "_add_of_run", forgetful)


def records_nothing_of_failures(patch: pytest.MonkeyPatch) -> None:
    """A failed attempt is not recorded."""

    def forget(*_args: object) -> Generator[None]:
        yield from ()

    patch.setattr(flowkit.operations, "_try_later", forget)


def drops_work_at_finish(patch: pytest.MonkeyPatch) -> None:
    """A run ends while its side work is still running."""

    async def not_waiting(_body: object) -> None:
        pass

    patch.setattr(flowkit.async_body.AsyncBody, "_wait_for_branches", not_waiting)
    patch.setattr(flowkit.async_body.AsyncBody, "_settle_calls", not_waiting)


def delivers_out_of_order(patch: pytest.MonkeyPatch) -> None:
    """On replay, outcomes are delivered newest first."""
    start = Journal._start

    def backwards(journal: Journal) -> None:
        start(journal)
        journal.due.reverse()

    patch.setattr(Journal, "_start", backwards)


def gives_up_at_once(patch: pytest.MonkeyPatch) -> None:
    """A commit whose answer was lost is not sent again: the run is let go of."""

    def impatient(_storage: object, what: str, call: Callable[[], object]) -> object:
        try:
            return call()
        except Exception as error:
            raise StorageError(what) from error

    patch.setattr(flowkit.patience.PatientStorage, "insist", impatient)
    patch.setattr(flowkit.committer.Committer, "append", _write_once)


def _write_once(committer: Any, writer: Any, *args: Any) -> int:  # noqa: ANN401  # as called
    position: int = committer.write(flowkit.changes.Change(writer, *args))
    return position


def draws_anew(patch: pytest.MonkeyPatch) -> None:
    """uuid4 and rng differ on each replay."""
    patch.setattr(Run, "draw", lambda _run, _scope: random.Random())


def ignores_cancellation(patch: pytest.MonkeyPatch) -> None:
    """A run that is told to stop goes on."""
    patch.setattr(Run, "cancel_wanted", lambda _run, _scope: False)


def names_children_anew(patch: pytest.MonkeyPatch) -> None:
    """A child's id is drawn by lot."""
    lots = random.Random(1)
    patch.setattr(flowkit.spawning, "child_run_id", lambda run_id, _key: f"{run_id}/{lots.random()}")


def forgets_steps_in_flight(patch: pytest.MonkeyPatch) -> None:
    """Undos of a task are run, but not that of its last step."""
    remember = flowkit.operations.remember_undo

    def forgetful(saga: Any, spec: Any, key: str, *args: Any) -> None:  # noqa: ANN401  # as called
        if key != "3":
            remember(saga, spec, key, *args)

    patch.setattr(flowkit.operations, "remember_undo", forgetful)
    patch.setattr(flowkit.calls, "remember_undo", forgetful)


# ---- what finds them ------------------------------------------------------------------------------------------------


@frozen
class Broken:
    """Something broken, and the workflow that shows it."""

    what: Any  # a storage's class, or a function that breaks the engine
    task: Any
    args: tuple[object, ...] = ()
    faults: tuple[Kind, ...] = DEFAULT_FAULTS
    events: tuple[tuple[str, object], ...] = ()

    def __str__(self) -> str:
        return str(self.what.__name__)

    @property
    def is_storage(self) -> bool:
        """Whether it is a storage that is broken."""
        return isinstance(self.what, type)

    def explore(self, patch: pytest.MonkeyPatch) -> Exploration:
        """Let the harness look at it."""
        if not self.is_storage:
            self.what(patch)

        def make_storage() -> Storage:
            storage: Storage = self.what(MemoryStorage()) if self.is_storage else MemoryStorage()
            return storage

        harness = Harness(MemoryStorage(), make_storage=make_storage)
        try:
            return harness.explore(self.task, *self.args, faults=self.faults, events=self.events)
        finally:
            harness.close()

    def row(self, found: Exploration) -> str:
        """Its line in the table."""
        checks = sorted({check for violation in found.violations for check in violation.checks})
        told = ", ".join(str(int(check)) for check in checks)
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", str(self)).lower().replace("_", " ")
        return f"| {'storage' if self.is_storage else 'engine'} | {name} | {self.what.__doc__.rstrip('.')} | {told} |"


def _case(what: Any, name: str, **options: Any) -> Broken:  # noqa: ANN401  # as Broken has it
    return Broken(what, cases[name].task, cases[name].args, **options)


NEWS = (("news", "first"), ("news", "second"))
ALL = [
    _case(NoFence, "chain"),
    _case(ForgetsCommitIds, "chain"),
    _case(AcknowledgesFirst, "chain"),
    _case(LosesWakeUps, "waiting-parent"),
    _case(LosesTimers, "sleeps"),
    _case(LosesReplies, "waiting-parent"),
    Broken(DeliversTwice, two_events, events=NEWS),
    Broken(EmptiesInboxes, two_events, events=NEWS),
    _case(LosesCancellations, "chain", faults=("cancel",)),
    _case(GivesFinishedRuns, "nothing"),
    _case(TakesAllLeases, "chain"),
    _case(LoadsStale, "chain"),
    _case(GarblesEntries, "chain"),
    _case(ForgetsRuns, "chain"),
    _case(SpawnsTwice, "parent"),
    _case(runs_steps_again, "chain"),
    _case(answers_with_another_result, "chain"),
    _case(resets_attempts, "retries"),
    _case(runs_at_most_once_twice, "once"),
    _case(restarts_timers, "sleeps"),
    _case(undoes_oldest_first, "saga"),
    _case(undoes_again, "saga"),
    _case(forgets_undos_of_scopes, "saga-nested"),
    _case(forgets_steps_in_flight, "saga"),
    _case(stops_rollbacks_half_way, "saga"),
    _case(turns_round, "saga"),
    _case(records_nothing_of_failures, "retries"),
    Broken(drops_work_at_finish, unjoined, (1,)),
    _case(delivers_out_of_order, "as-completed"),
    _case(gives_up_at_once, "chain"),
    Broken(draws_anew, draws),
    _case(ignores_cancellation, "chain", faults=("cancel",)),
    _case(names_children_anew, "parent"),
]


@pytest.mark.parametrize("broken", ALL, ids=str)
def test_is_caught(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exploring one small workflow is enough to see it, and the table says which check has seen it."""
    found = broken.explore(monkeypatch)
    with pytest.raises(AssertionError, match="is not safe"):
        found.assert_safe()
    assert broken.row(found) in PAGE.read_text().splitlines()


@pytest.mark.parametrize("broken", ALL, ids=str)
def test_healthy(broken: Broken) -> None:
    """The same workflows are safe where nothing is broken."""
    harness = Harness(MemoryStorage())
    try:
        harness.explore(broken.task, *broken.args, faults=broken.faults, events=broken.events).assert_safe()
    finally:
        harness.close()


def test_every_check_has_found_something() -> None:
    """A check that finds nothing would prove nothing; that of the world has tests of its own."""
    rows = [row for row in _table() if row.startswith(("| storage", "| engine"))]
    found = {int(number) for row in rows for number in re.findall(r"\d+", row.rsplit("|", 2)[1])}
    assert found == set(Check) - {Check.WORLD}
    assert len(rows) == len(ALL) >= 20
    assert set(TEXTS) == set(Check)


def _table() -> list[str]:
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0].splitlines()


def _print_table() -> None:
    print("| What is broken | Its name | What it does | Checks that find it |")  # noqa: T201  # a script's output
    print("| --- | --- | --- | --- |")  # noqa: T201
    for broken in ALL[int((sys.argv[1:] or ["0"])[0]) :]:
        with pytest.MonkeyPatch.context() as patch:
            print(broken.row(broken.explore(patch)), flush=True)  # noqa: T201


if __name__ == "__main__":
    _print_table()
