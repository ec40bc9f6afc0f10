"""Limits: `@task(concurrency=...)`, how many runs of a task, or of a key, are advanced at a time."""

import threading
import uuid
from typing import Any, cast

import pytest

import flowkit
from flowkit import Concurrency, ConfigurationError, Flow, gather, task
from flowkit.records import Exactly, Grant, Limit, RunStatus
from flowkit_testing import Harness
from tests.rules.colours import Body, Colour
from tests.rules.conftest import PATIENCE_S, FakeClock, Store, eventually


class Room:
    """Where bodies meet: it knows how many are in it, and lets them go."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside: list[str] = []
        self._leaving = 0
        self.most: dict[str, int] = {}

    def stay(self, kind: str) -> None:
        """Go in and stay until somebody may leave."""
        with self._changed:
            self._inside.append(kind)
            self.most[kind] = max(self.most.get(kind, 0), self._inside.count(kind))
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._leaving > 0, PATIENCE_S)
            self._leaving -= 1
            self._inside.remove(kind)
            self._changed.notify_all()

    def wait_for(self, *kinds: str) -> None:
        """Until just these are inside."""
        with self._changed:
            assert self._changed.wait_for(lambda: sorted(self._inside) == sorted(kinds), PATIENCE_S), self._inside

    def let_go(self, count: int) -> None:
        """So many may leave, whoever they are."""
        with self._changed:
            self._leaving += count
            self._changed.notify_all()


@pytest.fixture
def room() -> Room:
    """Nobody is in it."""
    return Room()


class TestLimits:
    """Held over all workers; what has no place holds up nobody else."""

    def test_no_more_runs_of_a_task_than_its_limit(self, store: Store, room: Room) -> None:
        """Two workers that could take everything take two runs of the task, and others beside them."""

        @task(concurrency=2)
        def limited() -> None:
            room.stay("limited")

        @task
        def free() -> None:
            room.stay("free")

        with Flow(store.storage()) as flow, Flow(store.storage()):
            handles = [flow.start(limited) for _ in range(4)]
            room.wait_for("limited", "limited")
            handles.append(flow.start(free))
            room.wait_for("limited", "limited", "free")
            assert [handle.status() for handle in handles].count(RunStatus.PENDING) == 2
            room.let_go(5)
            for handle in handles:
                handle.result(timeout=PATIENCE_S)

        assert room.most == {"limited": 2, "free": 1}

    def test_each_key_has_a_limit_of_its_own(self, store: Store, room: Room) -> None:
        """The key is made of the run's arguments, however they are given."""

        @task(concurrency=Concurrency(1, key=lambda customer, **_: customer))
        def limited(customer: str, number: int = 0) -> int:
            room.stay(customer)
            return number

        with Flow(store.storage()) as flow:
            handles = [flow.start(limited, "a"), flow.start(limited, customer="a", number=1), flow.start(limited, "b")]
            room.wait_for("a", "b")
            room.let_go(3)
            for handle in handles:
                handle.result(timeout=PATIENCE_S)

        assert room.most == {"a": 1, "b": 1}

    def test_a_call_waits_for_a_place(self, store: Store, room: Room) -> None:
        """`flow.run` waits too, for the run of another process to end."""

        @task(id=f"limited-call-{uuid.uuid4().hex}", concurrency=1)
        def limited() -> str:
            room.stay("limited")
            return "done"

        other = store.flow(worker=True)
        first = other.start(limited)
        room.wait_for("limited")
        flow = store.flow()
        caller = threading.Thread(target=lambda: flow.run(limited.options(run_id="second")))
        caller.start()
        eventually(lambda: any(header.run_id == "second" for header in flow.runs().runs))
        assert flow.handle("second").status() is RunStatus.PENDING
        room.let_go(2)
        caller.join(PATIENCE_S)

        assert first.result(timeout=PATIENCE_S) == "done"
        assert flow.handle("second").result(timeout=0) == "done"
        assert room.most == {"limited": 1}

    def test_a_run_that_waits_holds_no_place(self, store: Store, clock: FakeClock, colour: Colour) -> None:
        """A place is for being advanced: who sleeps gives it back, and takes one again to go on."""

        @colour.task(concurrency=1)
        def sleeps(hours: int) -> Body[int]:
            yield colour.sleep(hours * 3600)
            return hours

        flow = store.flow(clock=clock)
        first, second = (flow.engine.new_run(sleeps.spec, (hours,), {}, run_id=f"r{hours}") for hours in (2, 1))
        flow.engine.create(first)
        flow.engine.create(second)

        assert flow.run(sleeps.options(run_id="r2"), 2) == 2
        assert flow.run(sleeps.options(run_id="r1"), 1) == 1

    def test_children_of_one_parent_wait_for_each_other(self, store: Store, clock: FakeClock) -> None:
        """Also with nobody but their parent to advance them: no deadlock, whatever the limit."""
        order: list[int] = []

        @task(concurrency=1)
        def child(number: int) -> int:
            order.append(number)
            flowkit.sleep(5)
            return number

        @task
        def parent() -> list[int]:
            first, second, third = gather(child.bind(1), child.bind(2), child.bind(3))
            return [first, second, third]

        assert store.flow(clock=clock).run(parent) == [1, 2, 3]
        assert sorted(set(order)) == [1, 2, 3]

    def test_children_whose_queue_nobody_serves(self, harness: Harness) -> None:
        """A child that is called runs in its parent's place, so it waits for a place, and never for a worker."""

        @task(queue="elsewhere", concurrency=1)
        def child() -> str:
            return "done"

        @task
        def parent() -> str:
            return child()

        engine = harness.flow.engine
        engine.create(engine.new_run(child.spec, (), {}, run_id="holder"))
        silent = Grant("silent", "token", 30_000)
        assert engine.storage.claim(silent, Exactly("holder"), 1, now_ms=engine.now_arg()).leases

        assert harness.run(parent).output == "done"

    def test_a_task_that_calls_itself_does_not_wait_for_itself(self, store: Store, clock: FakeClock) -> None:
        """A parent that waits for its child has given its place back."""

        @task(id=f"limited-nested-{uuid.uuid4().hex}", concurrency=1)
        def nested(depth: int) -> int:
            return depth if not depth else nested(depth - 1) + 1

        assert store.flow(clock=clock).run(nested, 3) == 3

    def test_the_limit_of_a_run_is_stored(self, store: Store) -> None:
        """Runs, children and forks carry it; a run of a task without one carries none."""

        @task(concurrency=Concurrency(3, key=lambda number: number))
        def limited(number: int) -> None: ...

        @task
        def parent() -> None:
            limited.options(run_id="child").trigger(8)

        flow = store.flow()
        flow.run(limited.options(run_id="a"), 7)
        flow.run(parent.options(run_id="p"))
        flow.fork("a", new_id="fork")

        limits = {header.run_id: header.limit for header in flow.runs().runs}
        assert limits == {"a": Limit(3, "7"), "fork": Limit(3, "7"), "child": Limit(3, "8"), "p": None}

    def test_a_dead_holder_frees_its_place_with_its_lease(self, store: Store, clock: FakeClock) -> None:
        """Nothing else has to happen for that: here the process that held it is silent for ever."""

        @task(concurrency=1)
        def limited() -> str:
            return "done"

        flow, dead = store.flow(clock=clock), store.storage()
        dead.open()
        flow.start(limited.options(run_id="lost"))
        assert dead.claim(Grant("dead", "token", 30_000), Exactly("lost"), 1, now_ms=clock.ms).leases

        assert flow.run(limited.options(run_id="next")) == "done"
        assert clock.slept
        assert sum(clock.slept) <= 31
        dead.close()


class TestMistakes:
    """Errors name the task, the value and the remedy."""

    @pytest.mark.parametrize("given", [0, -1, 1.5, "3", True, {}])
    def test_what_is_no_limit(self, given: object) -> None:
        """A limit is a whole number above 0."""
        with pytest.raises(ConfigurationError, match=r"task 'badly-limited'.*1 or more") as caught:

            @task(id="badly-limited", concurrency=cast("int", given))
            def bad() -> None: ...

        assert repr(given) in str(caught.value)
        with pytest.raises(ConfigurationError, match="1 or more"):
            Concurrency(cast("int", given))

    def test_what_is_no_key(self) -> None:
        """A key is a plain function."""

        async def later(_: object) -> str:
            return ""

        for key in ("customer", later):
            with pytest.raises(ConfigurationError, match="plain function"):
                Concurrency(1, key=cast("Any", key))

    def test_a_key_that_returns_something_else(self, memory: Store) -> None:
        """Objects have no text that is the same everywhere."""

        @task(id="odd-key", concurrency=Concurrency(1, key=lambda: cast("str", object())))
        def odd() -> None: ...

        with pytest.raises(ConfigurationError, match=r"task 'odd-key'.*returned <object.*a text, a number or a UUID"):
            memory.flow().start(odd)

    def test_a_key_that_raises(self, memory: Store) -> None:
        """The error is the user's own, with a word on where it comes from; no run was created."""

        @task(id="bad-key", concurrency=Concurrency(1, key=lambda order: order["customer"]))
        def bad(order: dict[str, str]) -> None: ...

        flow = memory.flow()
        with pytest.raises(KeyError) as caught:
            flow.start(bad, {})
        assert "of task 'bad-key'" in caught.value.__notes__[0]
        assert not flow.runs().runs

    def test_numbers_and_uuids_are_keys(self, memory: Store) -> None:
        """They have one text each."""
        key = uuid.uuid4()

        @task(concurrency=Concurrency(1, key=lambda: key))
        def by_uuid() -> None: ...

        flow = memory.flow()
        flow.start(by_uuid)
        assert flow.runs().runs[0].limit == Limit(1, str(key))
