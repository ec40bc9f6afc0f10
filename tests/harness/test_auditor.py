"""The auditor finds what a storm could have broken: each check is shown something wrong of its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowkit import Flow, step, task
from flowkit.codec import JsonCodec
from flowkit.entries import Entry, Kind, Phase, encode
from flowkit.memory import MemoryStorage
from flowkit.records import Commit, Created, Finish, Grant, NewRun, RunStatus, Suspend, Then
from flowkit_testing.auditor import Audit, Effect, EffectLog, audit, ended

CODEC = JsonCodec()


@pytest.fixture
def storage() -> Iterator[MemoryStorage]:
    """An empty storage."""
    storage = MemoryStorage()
    storage.open()
    yield storage
    storage.close()


@pytest.fixture
def write(storage: MemoryStorage) -> Callable[..., None]:
    """Write a run as a broken engine might."""

    def run(
        *entries: Entry, run_id: str = "r", parent: str | None = None, then: Then | None = None, now_ms: int = 1000
    ) -> None:
        new = NewRun(run_id, "task", b"{}", parent=parent, grant=Grant("worker", run_id, 1000))
        [made] = storage.submit([new], now_ms=now_ms)
        assert isinstance(made, Created)
        assert made.lease is not None
        raw = tuple(encode(CODEC, entry) for entry in entries)
        last = Finish(RunStatus.FAILED, b"{}") if then is None else then
        storage.commit([Commit(run_id, run_id, made.lease.fence, "c", 0, raw, then=last)], now_ms=now_ms)

    return run


def entry(kind: Kind, phase: Phase, key: str, data: object = None, at_ms: int = 1000) -> Entry:
    """An entry of a step named `s`."""
    return Entry(kind, phase, key, "s", at_ms, data=CODEC.to_json(data))


def look(storage: MemoryStorage, *effects: Effect, acknowledged: tuple[str, ...] = ()) -> Audit:
    """Audit it."""
    return audit(storage, acknowledged=acknowledged, effects=effects)


DONE = entry(Kind.STEP, Phase.DONE, "1")


def test_a_sound_run_is_clean(tmp_path: Path, storage: MemoryStorage) -> None:
    """What flowkit itself leaves has no faults, and the figures count it."""
    log = EffectLog(tmp_path / "effects")

    @step
    def effect() -> str:
        return log.note("effect")

    @effect.compensate
    def undo() -> None:
        log.note("undo")

    @task
    def body(*, fails: bool) -> str:
        token = effect()
        if fails:
            raise ValueError(token)
        return token

    with Flow(storage, worker=False) as flow:
        flow.run(body.options(run_id="a"), fails=False)
        with pytest.raises(ValueError, match=r"."):
            flow.run(body.options(run_id="b", attempts=1), fails=True)
        assert ended(flow.engine.storage)
        found = audit(flow.engine.storage, acknowledged=["a", "b"], effects=log.read())

    found.assert_clean()
    assert found.figures["runs"] == 2
    assert found.figures["steps completed"] == 2
    assert found.figures["undos completed"] == 1
    assert (found.figures["effects begun"], found.figures["effects begun again"]) == (3, 0)
    assert "runs succeeded" in str(found)


def test_a_lost_run(storage: MemoryStorage) -> None:
    """X1: one that was acknowledged and is not there."""
    found = look(storage, acknowledged=("gone",))
    assert found.findings == ("X1: run 'gone' was acknowledged and is not there",)
    with pytest.raises(AssertionError, match="gone"):
        found.assert_clean()


@pytest.mark.parametrize(
    ("then", "part"),
    [
        (Suspend(wake_at_ms=2**50), "a timer or a lease is left"),
        (Suspend(inbox_at_least=1), "is waiting and has not ended"),
    ],
)
def test_what_has_not_ended(storage: MemoryStorage, write: Callable[..., None], then: Then, part: str) -> None:
    """X1: a timer, or somebody who waits for ever."""
    write(then=then)
    assert part in str(look(storage))
    assert not ended(storage)


def test_what_is_still_in_a_queue_or_leased(storage: MemoryStorage) -> None:
    """Nothing may be ready, and nobody may hold anything."""
    storage.submit([NewRun("ready", "task", b"{}"), NewRun("held", "other", b"{}", grant=Grant("w", "t", 10**9))])
    said = str(look(storage))
    assert "1 runs of task are ready in queue default, 0 leased" in said
    assert "run 'ready' could be claimed" in said
    assert "run 'held' is held by w" in said


def test_two_outcomes_of_one_step(storage: MemoryStorage, write: Callable[..., None]) -> None:
    """D4: settled means settled, unless the run was reopened for it."""
    write(DONE, DONE)
    reopened = Entry(Kind.RUN, Phase.REOPENED, "", "", 1, data={"keys": ["1"]})
    write(entry(Kind.STEP, Phase.FAILED, "1", {"error": None}), reopened, DONE, run_id="sound")
    assert look(storage).findings == ("D4: operation 1 (s) of run 'r' was settled, and then done",)


def test_an_undo_that_is_missing_or_done_twice(storage: MemoryStorage, write: Callable[..., None]) -> None:
    """G1, G3."""
    rollback = entry(Kind.SAGA, Phase.ROLLBACK, "2", {"undos": ["1"], "cause": None})
    undo = entry(Kind.UNDO, Phase.DONE, "1~undo")
    write(DONE, rollback, run_id="missing")
    write(DONE, rollback, undo, run_id="sound")
    write(DONE, rollback, undo, undo, run_id="twice")
    said = str(look(storage))
    assert "operation 1 of run 'missing' was to be undone and was not" in said
    assert "operation 1 was undone twice (run 'twice')" in said
    assert "sound" not in said


def test_children_without_parents_and_triggers_without_runs(storage: MemoryStorage, write: Callable[..., None]) -> None:
    """E3."""
    write(entry(Kind.TRIGGER, Phase.DONE, "1", "nowhere"), run_id="a", parent="nobody")
    said = str(look(storage))
    assert "E3: run 'a' is the child of 'nobody', which is not there" in said
    assert "E3: run 'a' triggered 'nowhere', which is not there" in said


def test_effects_after_the_fact_and_out_of_nowhere(storage: MemoryStorage, write: Callable[..., None]) -> None:
    """D1, D2: what was completed does not begin again, and what began is known to some journal."""
    write(DONE)
    before, after, nowhere = Effect("r:1", "s", 999, "a"), Effect("r:1", "s", 1101, "b"), Effect("r:9", "s", 1, "c")
    found = look(storage, before, after, nowhere)
    assert found.findings == (
        "D2: s (r:1) began again 101 ms after it was recorded as done",
        "D1: s (r:9) was begun, and no journal knows of it",
    )
    assert found.figures["effects begun again"] == 1
    assert audit(storage, acknowledged=(), effects=[before, after], frozen=True).findings == ()
