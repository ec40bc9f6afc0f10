"""X2 and X3: finished runs stay finished, and do not pile up."""

from typing import Any

import pytest

import flowkit
from flowkit import Flow, NonRetryable, Retry, RunFinished, RunNotFound, RunRolledBack, RunStatus
from flowkit.worker import PURGED_AT_ONCE
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, FakeClock, Store, crash_once, eventually
from tests.rules.effects import dying, in_a_row, noting, refusing


class TestFinished:
    """X2."""

    def test_a_finished_run_stays_finished(self, store: Store, colour: Colour) -> None:
        """X2: neither running, starting, cancelling nor retrying changes a run that succeeded."""
        ran: list[str] = []

        @colour.task
        def body() -> Body[str]:
            yield from ()
            ran.append("body")
            return "done"

        flow = store.flow()
        flow.run(body.options(run_id="r"))
        before = store.header("r")

        assert flow.run(body.options(run_id="r")) == "done"
        assert flow.start(body.options(run_id="r")).result(timeout=PATIENCE_S) == "done"
        assert flow.cancel("r") is False
        with pytest.raises(RunFinished):
            flow.retry("r")
        assert store.header("r") == before
        assert ran == ["body"]

    def test_a_failed_run_stays_failed(self, store: Store, colour: Colour) -> None:
        """X2: a failed run raises its error for whoever asks, and runs again only after `flow.retry`."""
        ran: list[str] = []

        @colour.task(attempts=1)
        def body() -> Body[str]:
            yield from ()
            ran.append("body")
            if len(ran) == 1:
                raise OSError("first")
            return "done"

        flow = store.flow()
        for _ in range(3):
            with pytest.raises(OSError, match="first"):
                flow.run(body.options(run_id="r"))
        with pytest.raises(OSError, match="first"):
            flow.start(body.options(run_id="r")).result(timeout=PATIENCE_S)
        assert ran == ["body"]

        handle = flow.retry("r")
        assert handle.id == "r"
        assert not handle.status().finished
        assert flow.run(body.options(run_id="r")) == "done"
        assert handle.status() is RunStatus.SUCCEEDED
        assert ran == ["body", "body"]

    def test_a_cancelled_run_stays_cancelled(self, flow: Flow, colour: Colour) -> None:
        """X2: a cancelled run cannot be retried."""

        @colour.task
        def body() -> Body[None]:
            yield from ()

        flow.start(body.options(run_id="r")).cancel()
        with pytest.raises(flowkit.RunCancelled):
            flow.run(body.options(run_id="r"))

        with pytest.raises(RunFinished):
            flow.retry("r")
        assert flow.handle("r").status() is RunStatus.CANCELLED

    def test_an_unfinished_run_cannot_be_retried(self, flow: Flow, colour: Colour) -> None:
        """X2: `flow.retry` of a run that has not failed is an error, and one of an unknown run another."""

        @colour.task
        def body() -> Body[None]:
            yield from ()

        flow.start(body.options(run_id="r"))
        with pytest.raises(RunFinished):
            flow.retry("r")
        with pytest.raises(RunNotFound, match="nobody"):
            flow.retry("nobody")

    def test_a_run_that_did_something_about_its_failure(self, flow: Flow, colour: Colour) -> None:
        """X2: a failed run that recorded something after the failure cannot be reopened, since it has reacted."""

        @colour.step(attempts=1)
        def fail() -> None:
            raise OSError("no")

        @colour.step
        def undo() -> None: ...

        @colour.task
        def body() -> Body[None]:
            try:
                yield fail()
            except OSError:
                yield undo()
                raise

        with pytest.raises(OSError, match="no"):
            flow.run(body.options(run_id="r"))

        with pytest.raises(RunRolledBack):
            flow.retry("r")
        assert flow.handle("r").status() is RunStatus.FAILED

    def test_only_what_failed_runs_again(self, flow: Flow, colour: Colour) -> None:
        """X2: after `retry` completed steps are answered, a failed one runs again, and its error is forgotten."""
        ran: list[str] = []
        broken = [True, True]

        @colour.step(retry=Retry(attempts=2, delay=0))
        def effect(name: str) -> str:
            ran.append(name)
            if name == "b" and broken:
                broken.pop()
                raise OSError(name)
            return name

        @colour.task
        def body() -> Body[str]:
            a: str = yield effect("a")
            b: str = yield effect("b")
            c: str = yield effect("c")
            return a + b + c

        with pytest.raises(OSError, match="b"):
            flow.run(body.options(run_id="r"))
        flow.retry("r")

        assert flow.run(body.options(run_id="r")) == "abc"
        assert ran == ["a", "b", "b", "b", "c"]

    def test_a_retry_survives_a_crash(self, store: Store, colour: Colour) -> None:
        """X2: a run that was reopened is taken up by whoever comes next, and its new record holds."""
        ran: list[str] = []
        broken = {"a"}
        effect = noting(colour, ran, refusing(broken), dying("b"), attempts=1)
        body = in_a_row(colour, effect, "a", "b")

        first = store.flow()
        with pytest.raises(NonRetryable, match="a"):
            first.run(body.options(run_id="r"))
        broken.clear()
        first.retry("r")
        first.close()
        crash_once(store, body)

        assert store.flow().run(body.options(run_id="r")) == "ab"
        assert ran == ["a", "a", "b", "b"]

    def test_a_worker_takes_a_retried_run(self, store: Store, colour: Colour) -> None:
        """X2: the handle that `flow.retry` gives has the result once a worker has run it."""
        broken = [True]

        @colour.step(attempts=1)
        def effect() -> str:
            if broken:
                raise OSError("no")
            return "done"

        @colour.task
        def body() -> Body[str]:
            return str((yield effect()))

        with Flow(store.storage()) as flow:
            handle = flow.start(body.options(run_id="r"))
            assert not handle.wait_for_completion(timeout=PATIENCE_S).ok
            broken.clear()
            assert flow.retry("r").result(timeout=PATIENCE_S) == "done"


class TestRetention:
    """X3."""

    def finished(self, flow: Flow, clock: FakeClock, colour: Colour) -> Any:  # noqa: ANN401  # a task
        """Make runs of each kind: three that finished long ago, two that did not, and one of today."""

        @colour.task(attempts=1)
        def body(*, fails: bool = False) -> Body[None]:
            yield from ()
            if fails:
                raise OSError("no")

        @colour.task
        def sleeping() -> Body[None]:
            yield colour.sleep("900d")

        flow.start(body.options(run_id="pending"))
        flow.start(body.options(run_id="delayed", delay="800d"))
        flow.run(body.options(run_id="succeeded"))
        with pytest.raises(OSError, match="no"):
            flow.run(body.options(run_id="failed"), fails=True)
        flow.start(body.options(run_id="cancelled")).cancel()
        with pytest.raises(flowkit.RunCancelled):
            flow.run(body.options(run_id="cancelled"))
        clock.advance(days=40)
        flow.run(body.options(run_id="today"))
        return body

    def test_prune_removes_finished_runs_only(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """X3: `prune` forgets what finished before that time, whatever its outcome, and nothing unfinished."""
        flow = store.flow(clock=clock)
        self.finished(flow, clock, colour)

        assert flow.prune(older_than="100d") == 0
        assert flow.prune(older_than="30d") == 3
        assert flow.prune(older_than="30d") == 0

        assert {header.run_id for header in flow.runs().runs} == {"pending", "delayed", "today"}
        with pytest.raises(RunNotFound):
            flow.handle("succeeded").status()
        with pytest.raises(RunNotFound):
            flow.handle("failed").result(timeout=0)

    def test_prune_goes_on_until_nothing_is_left(
        self, store: Store, clock: FakeClock, colour: Colour, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """X3: a storage forgets a bounded number at a time, so that others come to their turn; `prune` asks again."""
        flow = store.flow(clock=clock)
        self.finished(flow, clock, colour)
        purge = flow.engine.storage.purge
        monkeypatch.setattr(flow.engine.storage, "purge", lambda before_ms: purge(before_ms, 2))

        assert flow.prune(older_than="30d") == 3

    def test_a_pruned_id_is_free(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """X3: a run id is one run for as long as it is kept; after that it is a new one."""
        flow = store.flow(clock=clock)
        body = self.finished(flow, clock, colour)

        assert flow.run(body.options(run_id="today")) is None
        clock.advance(seconds=1)
        flow.prune(older_than=0)
        with pytest.raises(OSError, match="no"):
            flow.run(body.options(run_id="today"), fails=True)  # other arguments: it is another run

    def test_prune_of_no_age_takes_what_has_just_ended(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """X3: `older_than=0` forgets all that is finished, also what ended at this very millisecond."""

        @colour.task
        def body() -> Body[None]:
            yield from ()

        flow = store.flow(clock=clock)
        flow.run(body.options(run_id="just now"))
        assert [header.id for header in flow.runs()] == ["just now"]
        assert flow.prune(older_than=0) == 1

    def test_children_go_with_their_parents(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """X3: pruning leaves no child behind, and takes none from a parent that still runs."""

        @colour.task
        def child() -> Body[str]:
            yield from ()
            return "child"

        @colour.task
        def parent() -> Body[str]:
            result: str = yield child()
            yield colour.sleep("100d")
            return result

        with Flow(store.storage(), clock=clock) as flow:
            handle = flow.start(parent.options(run_id="r"))
            eventually(lambda: handle.status() is RunStatus.WAITING)
        clock.advance(days=99)
        flow = store.flow(clock=clock)
        flow.prune(older_than="1d")

        assert flow.run(parent.options(run_id="r")) == "child"
        clock.advance(days=99)
        flow.prune(older_than="1d")
        assert flow.runs().runs == ()

    def test_retention_removes_them_by_itself(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """X3: a flow with a worker forgets finished runs after its retention, a finite one unless told otherwise."""

        @colour.task
        def body() -> Body[None]:
            yield from ()

        first = store.flow(clock=clock)
        first.run(body.options(run_id="old"))
        first.start(body.options(run_id="unfinished", delay="800d"))
        first.close()
        clock.advance(days=31)

        with Flow(store.storage(), clock=clock, retention=None) as flow:
            flow.start(body).result(timeout=PATIENCE_S)
            assert "old" in {header.run_id for header in flow.runs().runs}
        with Flow(store.storage(), clock=clock) as flow:
            eventually(lambda: "old" not in {header.run_id for header in flow.runs().runs})
            assert flow.handle("unfinished").status() is RunStatus.PENDING

    def test_retention_keeps_up_with_many(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """X3: a worker does not wait for its next look while there is more to forget."""

        @colour.task
        def body() -> Body[None]:
            yield from ()

        first = store.flow(clock=clock)
        body.batch_trigger([body.bind() for _ in range(PURGED_AT_ONCE + 1)])
        first.close()
        with Flow(store.storage(), clock=clock, retention=None) as flow:
            eventually(lambda: not flow.runs(status=RunStatus.PENDING).runs)
            eventually(lambda: not flow.runs(status=RunStatus.RUNNING).runs)
        clock.advance(days=31)

        with Flow(store.storage(), clock=clock) as flow:
            eventually(lambda: flow.runs(task=body.id).runs == ())  # a schedule of another test may have come due
