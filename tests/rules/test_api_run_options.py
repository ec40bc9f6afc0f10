"""Options that are given for one run are kept with it, wherever it is taken up."""

from pathlib import Path

import pytest

from flowkit import ConfigurationError, Flow, Retry, RunBlocked, StepTimeout, step, task
from flowkit.codec import JsonCodec
from flowkit.errors import SerializationError
from flowkit.overrides import Overrides, overrides_from_json, overrides_to_json
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, FakeClock, Store


class Busy(Exception):
    """An error of the user's own."""


class TestOptionsOfOneRun:
    """`task.options(attempts=, retry=, timeout=)`."""

    def test_attempts(self, store: Store, colour: Colour) -> None:
        """api.md: `options(attempts=3)` makes three tries of a task that has one, run here or triggered."""
        tries: list[str] = []

        @colour.task(attempts=1)
        def body(how: str) -> Body[None]:
            yield from ()
            tries.append(how)
            raise Busy(how)

        eager = body.options(retry=Retry(attempts=3, delay=0.001))
        with Flow(store.storage()) as flow:
            with pytest.raises(Busy):
                flow.run(eager, "here")
            with pytest.raises(Busy):
                eager.trigger("queue").result(timeout=PATIENCE_S)
            with pytest.raises(Busy):
                flow.run(body, "plain")
        assert sorted(tries) == ["here"] * 3 + ["plain"] + ["queue"] * 3

    def test_a_step_without_a_policy_takes_them(self, flow: Flow, colour: Colour) -> None:
        """R1: the steps of that run are tried as often."""
        tries: list[str] = []

        def fail() -> None:
            tries.append("step")
            raise Busy

        effect = colour.step(fail)

        @colour.task
        def body() -> Body[None]:
            yield effect()

        with pytest.raises(Busy):
            flow.run(body.options(attempts=1))
        assert tries == ["step"]

    def test_another_process_heeds_them(self, tmp_path: Path) -> None:
        """X1: whoever takes the run up reads its options from the storage."""
        tries: list[int] = []

        @task(attempts=1)
        def body() -> None:
            tries.append(1)
            raise Busy

        url = f"disk:{tmp_path}"
        with Flow(url, worker=False) as flow:
            run_id = flow.start(body.options(retry=Retry(attempts=2, delay=0.001, on=(Busy,)))).id
        with Flow(url) as flow, pytest.raises(Busy):
            flow.handle(run_id).result(timeout=PATIENCE_S)
        assert len(tries) == 2

    def test_a_timeout_counts_from_the_time_it_was_to_start(self, store: Store, clock: FakeClock) -> None:
        """api.md: a delay is no part of the time that a run may take; what comes after it is."""

        @step
        def wait(seconds: float) -> None:
            clock.sleep(seconds)

        @task(attempts=1)
        def body(seconds: float) -> str:
            wait(seconds)
            wait(0)
            return "done"

        limited = body.options(delay="1h", timeout=60)
        with Flow(store.storage(), clock=clock, worker=False) as flow:
            in_time, late = flow.start(limited, 30.0), flow.start(limited, 90.0)
            clock.sleep(3600)
            assert flow.run(body.options(run_id=in_time.id), 30.0) == "done"
            clock.sleep(-30)
            with pytest.raises(StepTimeout):
                flow.run(body.options(run_id=late.id), 90.0)

    def test_a_function_is_refused(self, colour: Colour) -> None:
        """What cannot be kept with a run is refused when it is given, with the place where it belongs."""

        @colour.task
        def body() -> Body[None]:
            yield from ()

        with pytest.raises(ConfigurationError, match=r"@task\(retry=...\)"):
            body.options(retry=lambda _error, _attempt: 1.0)


class TestStoredOptions:
    """How they are kept."""

    def test_they_come_back(self) -> None:
        """What is stored is what was given."""
        given = Overrides(Retry(attempts=7, delay=0.5, on=(Busy, OSError)), 2.5)
        codec = JsonCodec()
        assert overrides_from_json(codec.loads(codec.dumps(overrides_to_json(given)))) == given
        assert overrides_to_json(Overrides()) is None

    def test_a_class_that_is_not_known_here_blocks(self) -> None:
        """D5: a class of errors is looked up, never imported; its absence blocks the run and is told."""
        document = overrides_to_json(Overrides(Retry(on=(Busy,))))
        assert isinstance(document, dict)
        retry = document["retry"]
        assert isinstance(retry, dict)
        with pytest.raises(RunBlocked, match="no_such_module"):
            overrides_from_json({"retry": {**retry, "on": ["no_such_module:Busy"]}})

    @pytest.mark.parametrize(
        "document", ["text", {"retry": 3}, {"retry": {"attempts": 0, "on": []}}, {"retry": {"on": "x"}}]
    )
    def test_damage_is_told(self, document: object) -> None:
        """What is no such document is refused."""
        with pytest.raises(SerializationError, match="damaged"):
            overrides_from_json(document)  # type: ignore[arg-type]  # damaged on purpose
