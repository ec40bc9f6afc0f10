"""Immutable and reusable: one sequencer is run, shared, extended in two directions, nested; and under which id."""

import gc
from datetime import datetime

import pytest

from flowkit import ConfigurationError, Flow, Sequencer, sequencer, step, task
from flowkit.registry import tasks
from flowkit_testing import Harness
from tests.rules.conftest import Crash, Store, crash_once


@step
def double(number: int) -> int:
    """A block."""
    return 2 * number


@step
def increment(number: int) -> int:
    """Another."""
    return number + 1


def begin(name: str) -> Sequencer[int, int]:
    """Where the chains of these tests begin."""
    return sequencer(name, input=int).then(double)


class TestImmutable:
    """No method changes what it is called on."""

    def test_extended_in_two_directions(self, harness: Harness) -> None:
        """Both ends and the beginning can be run, each as itself, in any order."""
        base = begin("id-two")
        left, right = base.then(increment), base.then(double)

        for _ in range(2):
            assert harness.run(right, 4).output == 16
            assert harness.run(base, 4).output == 8
            assert harness.run(left, 4).output == 9

    def test_triggered_in_two_directions(self, harness: Harness) -> None:
        """Runs that wait in a queue find the one that they were made of."""
        base = begin("id-trigger")
        left, right = base.then(increment), base.then(double)
        with harness.flow:
            handles = [chain.trigger(4) for chain in (left, right, base)]

        assert [handle.result() for handle in handles] == [9, 16, 8]

    def test_shared_as_a_block(self, harness: Harness) -> None:
        """One sequencer is a block of several, and of one twice."""
        shared = begin("id-shared")
        twice = sequencer("id-twice", input=int).then(shared).then(shared)

        assert harness.run(twice, 1).output == 4
        assert harness.run(sequencer("id-mixed", input=int).then_all([shared, twice]), 1).output == [2, 4]
        assert harness.run(shared, 1).output == 2

    def test_options_stay(self, harness: Harness) -> None:
        """Options are kept by what is built on it, and change nothing on what they were given to."""
        plain = begin("id-options")
        tagged = plain.options(tags=["vip"], queue="default").then(increment)

        assert harness.flow.handle(tagged.trigger(1).id).result() == 3
        assert [len(list(harness.flow.runs(tag=tag))) for tag in ("vip", "none")] == [1, 0]
        assert plain.spec.tags == ()

    def test_a_policy_makes_another(self, harness: Harness) -> None:
        """How often it is tried belongs to the sequencer: with other attempts it is another one."""
        tries: list[int] = []

        @step
        def fail(number: int) -> int:
            tries.append(number)
            raise ValueError(number)

        chain = sequencer("id-policy", input=int).then(fail)
        once = chain.options(attempts=1)
        harness.run(once, 1)
        assert len(tries) == 1
        harness.run(chain, 1)
        assert len(tries) == 4


class TestIds:
    """The id under which it is stored."""

    def test_the_whole_chain_bears_the_name(self) -> None:
        """While it is built, the name goes from one link to the next."""
        chain = begin("id-name").then(increment)
        assert chain.id == "id-name"

    def test_beside_it(self) -> None:
        """The others are told apart by their shape, which is the same in every process."""
        base = begin("id-shape")
        left, right = base.then(increment), base.then(double)
        again = base.then(double)

        assert base.id == "id-shape"
        assert right.id == "id-shape@9eeb12e6"
        assert left.id.startswith("id-shape@")
        assert len({left.id, right.id, base.id, again.id}) == 4

    def test_one_that_has_run_keeps_its_id(self, harness: Harness) -> None:
        """What is built on it afterwards gets another, so that its runs are resumed by itself."""
        short = begin("id-kept")
        harness.run(short, 1)
        longer = short.then(increment)

        assert short.id == "id-kept"
        assert harness.run(longer, 1).output == 3
        assert harness.run(short, 1).output == 2

    def test_what_nobody_holds_is_forgotten(self) -> None:
        """Links on the way are not left behind in the registry, which workers read."""
        base = begin("id-forgotten")
        chain = base.then(increment).then(increment).then(double)
        assert base.id == "id-forgotten"
        assert [each for each in tasks.ids() if each.startswith("id-forgotten")] == ["id-forgotten", chain.id]
        del base
        gc.collect()

        assert chain.id == "id-forgotten"
        assert [each for each in tasks.ids() if each.startswith("id-forgotten")] == ["id-forgotten"]

    def test_resumed_by_another_process(self, memory: Store) -> None:
        """A run that was let go is taken up under its id, also one that stands beside the bearer of the name."""
        crashes = [Crash()]

        @step
        def perhaps(number: int) -> int:
            if crashes:
                raise crashes.pop()
            return number

        base = begin("id-resumed")
        left = base.then(increment)
        right = base.then(perhaps).then(double)
        crash_once(memory, right, 4)

        assert memory.flow(worker=True).handle("r").result(timeout=60) == 16
        assert base.id == "id-resumed"
        assert left.id != right.id

    def test_taken_by_a_sequencer_begun_elsewhere(self) -> None:
        """A name is given once; the message says where."""
        chain = begin("id-taken")
        with pytest.raises(ConfigurationError, match=r"'id-taken'.*test_identity.py:\d+.*test_identity.py:\d+"):
            sequencer("id-taken")
        assert chain.id == "id-taken"

    def test_the_same_place_gives_it_anew(self, harness: Harness) -> None:
        """A function that builds one may be called again: the latest is meant."""
        chains = [sequencer("id-anew", input=int).then(block) for block in (double, increment)]
        assert harness.run(chains[-1], 4).output == 5

    def test_taken_by_a_task(self) -> None:
        """Tasks and sequencers share their ids."""

        @task(id="id-a-task")
        def body() -> None:
            """Do nothing."""

        with pytest.raises(ConfigurationError, match="taken by a task"):
            sequencer("id-a-task")
        held = begin("id-a-sequencer")
        assert held.id == "id-a-sequencer"
        with pytest.raises(ConfigurationError, match="id-a-sequencer"):

            @task(id="id-a-sequencer")
            def other() -> None:
                """Do nothing."""

    def test_named(self, harness: Harness) -> None:
        """A sequencer can be given another name."""
        base = begin("id-first")
        other = base.then(increment).named("id-second")

        assert other.id == other.name == "id-second"
        assert harness.run(other, 4).output == 9
        assert harness.run(base, 4).output == 8

    @pytest.mark.parametrize("name", ["", 5, None])
    def test_no_name(self, name: object) -> None:
        """A name is a text."""
        with pytest.raises(ConfigurationError, match="must be a text"):
            sequencer(name)  # type: ignore[call-overload]  # no name


def test_scheduled(harness: Harness) -> None:
    """It can be started of its own accord; its value is the tick."""
    ran: list[datetime] = []

    @step
    def keep(tick: datetime) -> None:
        ran.append(tick)

    nightly = sequencer("id-nightly", input=datetime).then(keep).scheduled("30 4 * * *")
    harness.schedule(nightly)
    harness.clock.advance("2d")

    assert [(tick.hour, tick.minute) for tick in ran] == [(4, 30)] * 2
    with pytest.raises(ConfigurationError, match=r"'id-nightly'\.scheduled: cron='soon'"):
        nightly.scheduled("soon")


def test_it_is_a_task(memory: Store) -> None:
    """What can be done with a task can be done with it: found by `runs`, forked, its handle read."""
    chain = begin("id-as-task").then(increment)
    flow: Flow = memory.flow(worker=True)
    handle = flow.start(chain.options(run_id="r", priority=3), 4)

    assert handle.result(timeout=60) == 9
    assert [header.run_id for header in flow.runs(task=chain)] == ["r"]
    assert flow.fork("r", from_step="increment").result(timeout=60) == 9
    assert flow.run(chain.options(run_id="r", priority=3), 4) == 9
    assert repr(chain) == "<Sequencer id-as-task>"
