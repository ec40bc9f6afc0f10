"""Recorded runs against the code of today: what goes on, what is different, what would be blocked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from flowkit import aio, sleep, step, task
from flowkit.errors import SerializationError
from flowkit.recording import export, read
from flowkit.records import Snapshot
from flowkit.rehearsal import Rehearsal, Verdict, rehearse
from flowkit.storage import Storage
from flowkit_testing import Harness
from flowkit_testing.corpus import CASES, Case
from flowkit_testing.states import headers

touched: list[str] = []  # steps that ran
release: list[str] = ["as recorded"]  # which code is today's


@step
def first(number: int) -> int:
    """A step that leaves a mark when it runs."""
    touched.append("first")
    return number + 1


@step
def second(number: int) -> int:
    """Another one."""
    touched.append("second")
    return number + 2


@step
async def later(number: int) -> int:
    """An async one."""
    touched.append("later")
    return number


def today(*names: str) -> bool:
    """True if today's code is one of these."""
    return release[0] in names


@task(id="rehearsed", attempts=1)
def order(number: int) -> int:
    """A step, a nap, a step; each release does it another way."""
    if today("fails at once"):
        raise ValueError("new bug")
    if today("calls another step first"):
        second(number)
    total = first(number + 1 if today("other arguments") else number)
    if today("ends early"):
        return total
    if today("fails before the nap"):
        raise ValueError("new bug")
    if not today("does not nap"):
        sleep("30d")
    if today("other result"):
        return 0
    return second(total) if not today("one more step") else first(second(total))


@task(id="rehearsed-async", attempts=1)
async def order_async(number: int) -> list[int]:
    """Two lines side by side, one of which goes on with a sync step."""

    async def line(wait: str) -> int:
        await later(number)
        await aio.sleep(wait)
        return await later(number) if today("as recorded") else second(number)

    return list(await aio.gather(line("1d"), line("2d")))


@task(id="rehearsed-patient", attempts=3)
def patient(number: int) -> int:
    """A run whose own code may fail a few times."""
    total = first(number)
    if today("fails now and then"):
        raise ValueError("new bug")
    sleep("30d")
    return second(total)


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """The recorded code, and nothing touched."""
    release[0] = "as recorded"
    touched.clear()
    yield
    release[0] = "as recorded"


def recorded(harness: Harness, *, ended: bool = False) -> Snapshot:
    """A run that naps or has ended, as a file would bring it along."""
    run = harness.run(order, 1) if ended else harness.start(order, 1)
    touched.clear()
    return read(export(harness.flow.engine.load(run.run_id)))


def against(name: str, snapshot: Snapshot, harness: Harness) -> Rehearsal:
    """Replay a run against a release; no step may run."""
    release[0] = name
    rehearsal = rehearse(snapshot, harness.flow.engine.codec)
    assert touched == []
    return rehearsal


class TestUnfinished:
    """Runs that are still under way."""

    @pytest.mark.parametrize(
        ("name", "verdict", "why"),
        [
            ("as recorded", Verdict.FINE, ""),
            ("one more step", Verdict.FINE, ""),
            ("other result", Verdict.FINE, ""),
            ("does not nap", Verdict.BLOCKED, "second"),
            ("calls another step first", Verdict.BLOCKED, "first"),
            ("ends early", Verdict.BLOCKED, "without calling"),
            ("other arguments", Verdict.DIFFERENT, "other arguments"),
            ("fails at once", Verdict.BLOCKED, "new bug"),
            ("fails before the nap", Verdict.BLOCKED, "new bug"),
        ],
    )
    def test_what_a_release_does_to_it(self, name: str, verdict: Verdict, why: str, harness: Harness) -> None:
        """I3: changed code is told by what it would do to the record, and nothing is done."""
        rehearsal = against(name, recorded(harness), harness)

        assert rehearsal.verdict is verdict, rehearsal
        assert why in rehearsal.why
        assert rehearsal.fine is (verdict is Verdict.FINE)
        if not rehearsal.fine:
            with pytest.raises(AssertionError, match=f"is {verdict}"):
                rehearsal.assert_fine()

    def test_code_that_may_fail_again(self, harness: Harness) -> None:
        """R1: it would be tried again, but it fails where it did not, and that is told."""
        run = harness.start(patient, 1)
        touched.clear()
        rehearsal = against("fails now and then", harness.flow.engine.load(run.run_id), harness)

        assert rehearsal.verdict is Verdict.DIFFERENT
        assert "new bug" in rehearsal.why
        assert rehearsal.next == ("another attempt, since its own code fails (ValueError: new bug)",)

    def test_where_it_goes_on(self, harness: Harness) -> None:
        """What the run would do next is told."""
        assert against("as recorded", recorded(harness), harness).next == ("pause sleep",)

    def test_an_async_run(self, harness: Harness) -> None:
        """Each line is held where its record ends, also one that goes on with a sync call."""
        run = harness.start(order_async, 1)
        touched.clear()
        early = harness.flow.engine.load(run.run_id)
        assert against("as recorded", early, harness).next == ("pause sleep", "pause sleep")
        release[0] = "as recorded"
        harness.clock.advance("1d")
        touched.clear()
        late = harness.flow.engine.load(run.run_id)
        assert against("goes on with a sync step", late, harness).verdict is Verdict.BLOCKED

    def test_a_task_that_is_not_there(self, harness: Harness) -> None:
        """X4: a run of an unknown task is neither fine nor broken."""
        snapshot = recorded(harness)
        unknown = evolve(snapshot, header=evolve(snapshot.header, task="gone"))

        assert rehearse(unknown, harness.flow.engine.codec).verdict is Verdict.UNKNOWN


class TestFinished:
    """Runs that have ended."""

    @pytest.mark.parametrize(
        ("name", "verdict", "why"),
        [
            ("as recorded", Verdict.FINE, ""),
            ("one more step", Verdict.DIFFERENT, "now it would go on"),
            ("other result", Verdict.BLOCKED, "without calling"),
            ("fails at once", Verdict.BLOCKED, "new bug"),
        ],
    )
    def test_what_a_release_makes_of_it(self, name: str, verdict: Verdict, why: str, harness: Harness) -> None:
        """The outcome is held against the recorded one."""
        rehearsal = against(name, recorded(harness, ended=True), harness)

        assert rehearsal.verdict is verdict, rehearsal
        assert why in rehearsal.why


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_workflow_is_fine_against_its_own_code(case: Case, harness: Harness) -> None:
    """Whatever a run is made of, wherever it stands: nothing is reported that is not there, and nothing is written."""
    harness.start(case.task, *case.args)
    for _ in range(40):
        for header in list(headers(_storage(harness))):
            before = harness.flow.engine.load(header.run_id)
            rehearsal = rehearse(read(export(before)), harness.flow.engine.codec)
            assert rehearsal.fine, rehearsal
            assert harness.flow.engine.load(header.run_id).header == before.header
        if not harness._lab.step(None):  # noqa: SLF001  # one thing after the other
            break


def _storage(harness: Harness) -> Storage:
    return harness.flow.engine.storage


class TestFiles:
    """Runs as files."""

    def test_there_and_back(self, harness: Harness) -> None:
        """All that a storage holds of a run survives being a file."""
        run = harness.run(order, 1)
        snapshot = harness.flow.engine.load(run.run_id)

        assert read(export(snapshot)) == snapshot

    def test_bytes_stay_bytes(self, harness: Harness) -> None:
        """What a codec has encrypted is no text, and is kept as it is."""
        snapshot = evolve(recorded(harness), input=b"\xff\x00", entries=(b"\x80", b"text"), result=b"\xfe")

        assert read(export(snapshot)) == snapshot
        assert json.loads(export(snapshot))["entries"][1] == "text"

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "is no recorded run"),
            ("[]", "is no recorded run"),
            ('{"flowkit_run": 99}', "version 99"),
            ('{"flowkit_run": 1, "header": {}}', "is damaged"),
            ('{"flowkit_run": 1, "header": null}', "is damaged"),
        ],
    )
    def test_nonsense_is_refused(self, text: str, says: str) -> None:
        """With an error that names the file and says what to write."""
        with pytest.raises(SerializationError, match=says) as caught:
            read(text, "run.json")
        assert "run.json" in str(caught.value)

    def test_the_harness_reads_them(self, harness: Harness, tmp_path: Path) -> None:
        """`harness.replay` takes a file, or the run itself."""
        snapshot = recorded(harness)
        file = tmp_path / "run.json"
        file.write_text(export(snapshot))

        harness.replay(file).assert_fine()
        harness.replay(snapshot).assert_fine()
        release[0] = "ends early"
        with pytest.raises(AssertionError, match="is blocked"):
            harness.replay(str(file)).assert_fine()
