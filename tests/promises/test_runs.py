"""X1-X6: runs, from the moment in which they are acknowledged."""

from collections.abc import Iterator

import pytest

from flowkit import RunConflict, RunFinished, RunNotFound, RunRolledBack, RunStatus, Task, step, task
from flowkit.registry import tasks
from flowkit_testing import Harness
from flowkit_testing.faults import Outcome
from tests.promises.tasks import purchase
from tests.rules.colours import Body, Colour

LEASE_MS = 30_000  # of the harness


# ---- X1 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["not_applied", "applied_ack_lost"])
@pytest.mark.parametrize("operation", ["submit", "claim", "load", "send", "commit"])
def test_a_storage_that_does_not_answer(harness: Harness, colour: Colour, operation: str, outcome: Outcome) -> None:
    """X1: whatever was being asked: the run is not lost, and there is one of it."""

    @colour.step
    def pay() -> str:
        return "paid"

    @colour.task
    def shop() -> Body[list[object]]:
        paid = yield pay()
        return [paid, (yield colour.wait_for_event("shipped"))]

    harness.storage_fault(operation, outcome=outcome)
    run = harness.start(shop)
    harness.clock.advance("2m")
    harness.send_event(run, "shipped", "at noon", id="1")
    harness.clock.advance("2m")
    assert run.output == ["paid", "at noon"]
    assert len(harness.flow.runs()) == 1
    run.assert_calls(pay=1)


def test_what_is_triggered_is_there(harness: Harness, colour: Colour) -> None:
    """X1: when `trigger` has returned, the run is in the storage, and whoever comes takes it up."""

    @colour.task
    def shop() -> Body[str]:
        yield from ()
        return "done"

    handle = shop.trigger()
    assert handle.status() is RunStatus.PENDING
    harness.clock.advance(1)
    assert harness.report(handle.id).output == "done"


def test_a_dead_workers_runs_are_taken_over(harness: Harness, colour: Colour) -> None:
    """X1: when its lease has run out, and not before."""
    begun_ms: list[int] = []

    @colour.step
    def pay() -> str:
        begun_ms.append(harness.clock.now_ms())
        return "paid"

    @colour.task
    def shop() -> Body[str]:
        return (yield pay())

    harness.crash("pay", at="after_effect")
    run = harness.start(shop)
    assert run.status is RunStatus.RUNNING
    harness.clock.advance(20)
    assert len(begun_ms) == 1
    harness.clock.advance(20)
    assert run.output == "paid"
    assert LEASE_MS <= begun_ms[1] - begun_ms[0] <= LEASE_MS + 1000


def test_a_live_worker_keeps_its_run(harness: Harness, colour: Colour) -> None:
    """X1: a step of an hour, on a loop that is busy with it, loses nothing to the others."""

    @colour.step
    def pay() -> str:
        harness.clock.sleep(3600)
        return "paid"

    @colour.task
    def shop() -> Body[list[str]]:
        return [(yield pay()), (yield pay())]

    harness.delay("pay#1", "1h")
    run = harness.run(shop)
    assert run.output == ["paid", "paid"]
    run.assert_calls(pay=2)
    assert [entry.data for entry in run.journal if entry.name == "pay"] == ["paid", "paid"]


def test_runs_at_every_crash(harness: Harness, colour: Colour) -> None:
    """X1: also between its acknowledgement and its first effect, and at all the calls of the storage."""
    found = harness.explore(purchase(colour))
    found.assert_safe()
    assert any(injury.point.what == "storage: submit" for tried in found.tried for injury in tried.schedule)


# ---- X2 -------------------------------------------------------------------------------------------------------------


def sale(colour: Colour) -> Task[[int], int]:
    """A task of one step, whose result is its argument."""

    @colour.step
    def pay(amount: int) -> int:
        return amount

    @colour.task
    def shop(amount: int) -> Body[int]:
        return (yield pay(amount))

    return shop


def test_a_finished_run_stays_finished(harness: Harness, colour: Colour) -> None:
    """X2: asked for again it gives its result; it cannot be cancelled, told anything, or retried."""
    once = sale(colour).options(run_id="order-42")
    run = harness.run(once, 7)
    again = harness.run(once, 7)
    assert again.run_id == run.run_id == "order-42"
    assert again.output == 7
    run.assert_calls(pay=1)
    assert not harness.flow.cancel("order-42")
    with pytest.raises(RunFinished):
        harness.send_event(run, "anything")
    with pytest.raises(RunFinished):
        harness.flow.retry("order-42")
    assert run.status is RunStatus.SUCCEEDED


def test_nobody_touches_a_finished_run(harness: Harness, colour: Colour) -> None:
    """X2: it is neither claimed nor finished again, whoever is late and whatever was lost."""
    harness.explore(sale(colour), 7).assert_safe()


def test_a_retry_runs_what_failed(harness: Harness, colour: Colour) -> None:
    """X2: a failed run is reopened, and only what failed is done again; once it has succeeded it is finished."""

    @colour.step
    def book() -> str:
        return "booked"

    @colour.step(attempts=1)
    def pay() -> str:
        return "paid"

    @colour.task
    def shop() -> Body[list[str]]:
        return [(yield book()), (yield pay())]

    harness.fail("pay", error=OSError("no money"), times=2)
    run = harness.run(shop)
    for _ in range(2):
        assert isinstance(run.error, OSError)
        harness.flow.retry(run.run_id)
        harness.clock.advance(1)
    assert run.output == ["booked", "paid"]
    run.assert_calls(book=1, pay=3)
    with pytest.raises(RunFinished):
        harness.flow.retry(run.run_id)


def test_a_retry_survives_its_crash(harness: Harness, colour: Colour) -> None:
    """X2: a run that was reopened is a run like others."""
    harness.fail("pay", error=OSError("no money"), times=1)
    run = harness.run(purchase(colour, attempts=1))
    assert not run.ok
    harness.crash("pay", at="after_effect")
    harness.flow.retry(run.run_id)
    harness.clock.advance("1m")
    assert run.output == "paid"
    run.assert_calls(pay=3)


def test_what_did_something_about_its_failure(harness: Harness, colour: Colour) -> None:
    """X2: is not reopened: going on behind what was recorded after the failure would contradict it."""

    @colour.step(attempts=1)
    def pay() -> str:
        return "paid"

    @colour.step
    def apologise() -> None:
        pass

    @colour.task
    def shop() -> Body[str]:
        try:
            return (yield pay())
        except OSError:
            yield apologise()
            raise

    harness.fail("pay", error=OSError("no money"), times=1)
    run = harness.run(shop)
    with pytest.raises(RunRolledBack):
        harness.flow.retry(run.run_id)
    assert run.status is RunStatus.FAILED
    run.assert_calls(pay=1, apologise=1)


# ---- X3 -------------------------------------------------------------------------------------------------------------


def test_pruning_removes_what_is_finished(harness: Harness, colour: Colour) -> None:
    """X3: finished runs of that age, whichever way they have ended, and never unfinished ones, however old."""

    @colour.task(attempts=1)
    def shop(how: str) -> Body[str]:
        if how == "waits":
            yield colour.wait_for_event("never")
        if how == "fails":
            raise OSError
        return how

    done, failed, waits = (harness.start(shop, how) for how in ("returns", "fails", "waits"))
    harness.clock.advance("31d")
    late = harness.start(shop, "late")
    assert harness.flow.prune(older_than="30d") == 2
    assert {header.run_id for header in harness.flow.runs()} == {waits.run_id, late.run_id}
    for gone in (done, failed):
        with pytest.raises(RunNotFound):
            harness.flow.handle(gone.run_id).status()
    harness.send_event(waits, "never")
    assert waits.output == "waits"


def test_an_id_is_one_run_while_it_is_kept(harness: Harness, colour: Colour) -> None:
    """X3: with other arguments it is a conflict; when the run has been pruned, it is free."""
    ran: list[int] = []

    @colour.task
    def shop(amount: int) -> Body[int]:
        yield from ()
        ran.append(amount)
        return amount

    once = shop.options(run_id="order-42")
    assert harness.run(once, 7).output == 7
    with pytest.raises(RunConflict, match="order-42"):
        harness.run(once, 8)
    assert harness.flow.start(once, 7).result(timeout=1) == 7
    harness.clock.advance("31d")
    assert harness.flow.prune(older_than="30d") == 1
    assert harness.run(once, 8).output == 8
    assert set(ran) == {7, 8}


# ---- X4 -------------------------------------------------------------------------------------------------------------


@task(id="promises-unknown")
def unknown() -> str:
    """A task that some processes do not have."""
    return "known by now"


@pytest.fixture
def without_it() -> Iterator[None]:
    """Nobody has it, for now."""
    spec = tasks.find("promises-unknown")
    assert spec is not None
    yield
    tasks.add(spec)


@pytest.mark.usefixtures("without_it")
def test_unknown_tasks_wait(harness: Harness, colour: Colour) -> None:
    """X4: for a worker that knows them; others are not held up, and who looks sees them."""

    @colour.task
    def shop() -> Body[str]:
        yield from ()
        return "done"

    spec = tasks.find("promises-unknown")
    assert spec is not None
    handle = unknown.trigger()
    tasks.remove("promises-unknown")
    assert harness.run(shop).output == "done"
    harness.clock.advance("1d")
    [header] = [each for each in harness.flow.runs() if each.task == "promises-unknown"]
    assert header.status is RunStatus.PENDING
    assert [each.run_id for each in harness.flow.runs(status="pending")] == [handle.id]

    tasks.add(spec)
    harness.clock.advance(1)
    assert harness.report(handle.id).output == "known by now"


# ---- X5 -------------------------------------------------------------------------------------------------------------


def test_a_process_that_is_told_to_stop(harness: Harness) -> None:
    """X5: hands its runs back at once: the next one has them without waiting for a lease."""
    stops = [KeyboardInterrupt()]
    began_ms: list[int] = []

    @step
    def book() -> str:
        return "booked"

    @task
    def shop() -> str:
        began_ms.append(harness.clock.now_ms())
        booked = book()
        if stops:
            raise stops.pop()
        return booked

    with pytest.raises(KeyboardInterrupt):
        harness.run(shop)
    harness.clock.advance(1)
    assert harness.report("run-1").output == "booked"
    assert {at_ms - began_ms[0] for at_ms in began_ms} == {0}
    harness.report("run-1").assert_calls(book=1)


# ---- X6 -------------------------------------------------------------------------------------------------------------


def test_where_a_run_may_stand(harness: Harness, colour: Colour) -> None:
    """X6: pending, running, waiting, compensating, blocked, succeeded, failed, cancelled; there are no others."""
    seen: list[RunStatus] = []

    def look() -> None:
        seen.append(harness.report("run-1").status)

    @colour.step
    def book() -> None:
        look()

    @book.compensate
    def cancel(_nothing: None) -> None:
        look()

    released = [False]

    @colour.task(attempts=1)
    def shop(how: str) -> Body[None]:
        if released[0]:
            return
        yield book()
        yield colour.sleep("1h")
        if how == "fails":
            raise OSError

    handle = shop.trigger("succeeds")
    seen.append(handle.status())
    run = harness.start(shop, "fails")
    seen.append(run.status)
    harness.clock.advance("2h")
    seen += [run.status, handle.status()]
    cancelled, blocked = harness.start(shop, "succeeds"), harness.start(shop, "succeeds")
    harness.flow.cancel(cancelled.run_id)
    released[0] = True
    harness.clock.advance("2h")
    seen += [cancelled.status, blocked.status]
    assert set(seen) == set(RunStatus)
    assert {str(status) for status in RunStatus} == {
        *("pending", "running", "waiting", "compensating"),
        *("blocked", "succeeded", "failed", "cancelled"),
    }
