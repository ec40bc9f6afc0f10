"""The real tier: SIGKILL and SIGSTOP in processes that share a storage come to the verdicts of the pretended ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve

from flowkit import task
from flowkit.codec import JsonCodec
from flowkit.memory import MemoryStorage
from flowkit.tasks import Runnable
from flowkit_testing import Harness
from flowkit_testing.corpus import CASES
from flowkit_testing.exploration import Exploration, Tried, Violation
from flowkit_testing.faults import Fail
from flowkit_testing.for_real import confirm_for_real, replay_for_real, sample
from flowkit_testing.forks import Processes
from flowkit_testing.injector import Injector
from flowkit_testing.points import Injury, Point, Schedule, token_of
from flowkit_testing.real import RealTier
from flowkit_testing.servers import Server
from flowkit_testing.subject import Subject, World
from flowkit_testing.which import which
from tests.harness import unsafe_tasks

Tier = Callable[..., RealTier]
cases = {case.name: case for case in CASES}


def killed(what: str, when: str = "before", nth: int = 1) -> Injury:
    """A crash."""
    return Injury("crash", Point(what, "before" if when == "before" else "after", nth))


def late(what: str) -> Injury:
    """A step that is done after those beside it."""
    return Injury("late", Point(what, "after"))


@pytest.fixture
def on_disk(tmp_path: Path, flowkit_processes: Processes) -> Tier:
    """Makes a real tier of a task, on disk."""
    numbers = itertools.count()

    def make(task: Runnable[..., object], *args: object, world: World | None = None) -> RealTier:
        subject = Subject(task.spec, args, {}, MemoryStorage, Injector(by_attempt=True), JsonCodec(), world)
        return RealTier(subject, flowkit_processes, lambda: f"disk:{tmp_path / f's{next(numbers)}'}?durability=process")

    return make


def pretended(task: Runnable[..., object], *args: object, replay: Schedule | None = None) -> Exploration:
    """The same in one process."""
    harness = Harness(MemoryStorage(), replay=None if replay is None else token_of(replay))
    return harness.explore(task, *args)


SAMPLE: list[tuple[str, Schedule]] = [
    ("chain", (killed("run-1: invoke add (2), attempt 1", "after"),)),
    ("chain", (killed("storage: submit", "after"), killed("storage: commit", "before", 3), killed("storage: claim"))),
    ("saga", (killed("storage: commit", "after", 7),)),
    ("async-chain", (Injury("stop", Point("run-1: record step add_later (2) done", "before")),)),
    ("async-chain", (Injury("lease", Point("run-1: record step add_later (2) done", "before")),)),
    ("chain", (Injury("lost_ack", Point("storage: commit", "before", 2)),)),
    ("chain", (Injury("cancel", Point("run-1: record step add (2) done", "after")),)),
    ("gather", (late("run-1: invoke add_later (2), attempt 1"), killed("storage: commit", "after", 2))),
    ("sleeps", (killed("run-1: end suspend"), killed("run-1: record sleep sleep (3) done", "after"))),
]
"""Processes that are killed once, thrice, stopped, overtaken; an answer that is lost, a run that is cancelled, a step
that comes late; a timer of hours."""


@pytest.mark.parametrize(("name", "schedule"), SAMPLE, ids=str)
def test_a_sample_of_the_corpus(name: str, schedule: Schedule, on_disk: Tier) -> None:
    """The same token strikes at the same points in both tiers, and the run ends as if nothing had been."""
    case = cases[name]
    here = pretended(case.task, *case.args, replay=schedule)
    verdict = on_disk(case.task, *case.args).run(schedule)

    assert [tried.verdict for tried in here.tried] == ["passed"]
    assert verdict.reached
    assert not verdict.wrong


UNSAFE = [
    unsafe_tasks.appends,
    unsafe_tasks.counts,
    unsafe_tasks.looks,
    unsafe_tasks.registers_late,
    unsafe_tasks.remembers,
]


@pytest.mark.parametrize("unsafe", UNSAFE, ids=lambda unsafe: unsafe.spec.id)
def test_what_is_unsafe_there_is_unsafe_here(unsafe: Runnable[[str], object], on_disk: Tier, tmp_path: Path) -> None:
    """The smallest counterexample of the pretended tier is one for the real tier, by the same checks."""
    file = tmp_path / "world"
    file.touch()
    world = World(lambda: unsafe_tasks.lines(str(file)), lambda: file.write_text(""))
    found = Harness(MemoryStorage()).explore(unsafe, str(file), world=world.look, reset=world.reset)
    assert found.smallest is not None

    verdict = on_disk(unsafe, str(file), world=world).run(found.smallest.schedule)

    assert verdict.reached
    assert set(found.smallest.wrong) <= set(verdict.wrong)


@pytest.mark.parametrize("unsafe", [unsafe_tasks.keeps, unsafe_tasks.iterates], ids=lambda unsafe: unsafe.spec.id)
def test_what_only_real_processes_show(unsafe: Runnable[[str], object], on_disk: Tier, tmp_path: Path) -> None:
    """What a process keeps in its memory, and the order of its sets, is gone with it; a pretended one keeps both."""
    file = tmp_path / "world"
    found = pretended(unsafe, str(file))
    assert found.safe

    confirm_for_real(found, on_disk(unsafe, str(file)), most=3)

    assert found.smallest is not None
    assert found.smallest.wrong[0] == "in real processes only:"


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("chain", (killed("storage: commit", "before", 2), killed("run-1: invoke add (4), attempt 1", "after"))),
        ("saga", (killed("storage: commit", "after", 7),)),
        ("async-chain", (Injury("stop", Point("run-1: record step add_later (2) done", "before")),)),
    ],
    ids=str,
)
def test_on_redis(
    name: str, schedule: Schedule, flowkit_redis_server: Server, flowkit_processes: Processes, tmp_path: Path
) -> None:
    """Workers that are killed and stopped leave a server that stays up with what it takes to go on."""
    case, numbers = cases[name], itertools.count()
    subject = Subject(case.task.spec, case.args, {}, MemoryStorage, Injector(by_attempt=True), JsonCodec())
    tier = RealTier(
        subject, flowkit_processes, lambda: f"{flowkit_redis_server.url}?namespace={tmp_path.name}-{next(numbers)}"
    )

    verdict = tier.run(schedule)

    assert verdict.reached
    assert not verdict.wrong


def test_a_failing_step_in_real_processes(on_disk: Tier) -> None:
    """A scenario holds in each of the processes: here the undo of a step fails, and the process is killed after it."""
    case = cases["saga"]
    scenario = Injury("fail", Point("undo of book", "before"))
    [tried] = replay_for_real(on_disk(case.task, *case.args), [(scenario, killed("storage: commit", "after", 8))]).tried

    assert tried.verdict == "passed"


def test_a_point_that_is_not_there(on_disk: Tier) -> None:
    """It is told that nothing was hit."""
    nowhere = Injury("stop", Point("run-1: invoke nothing (9), attempt 1", "before"))
    found = replay_for_real(on_disk(cases["nothing"].task), [(nowhere,)])

    assert found.unreached == [(nowhere,)]


def test_counterexamples_are_tried_in_real_processes_first() -> None:
    """What broke something is in the sample, though so much was wrong that nothing else was tried."""
    crash, lost = (killed("storage: claim"),), (Injury("lost_ack", Point("storage: commit", "before")),)
    found = Exploration("broken")
    found.violations += [Violation(crash, ("it is wrong",)), Violation(lost, ("it is wrong",))]
    found.tried += [Tried((killed("storage: commit"),), "not tried"), Tried((killed("storage: load"),), "passed")]

    assert [str(tried) for tried in sample(found)] == [
        "crash before storage: claim: failed",
        "crash before storage: load: passed",
    ]


def test_what_cannot_be_real_is_refused(on_disk: Tier, tmp_path: Path) -> None:
    """What another process cannot know is told with the remedy: local tasks, faults of the test, worlds in memory."""

    @task(id="real-local")
    def local() -> None:
        """Known here only."""

    chain = on_disk(cases["chain"].task, 5)
    stop = Injury("stop", Point("run-1: body", "before"))
    failing = Injector([Fail(which("add"), None, None, error=OSError())])
    seen: list[int] = []
    not_shared = on_disk(unsafe_tasks.appends, str(tmp_path / "w"), world=World(seen.copy, seen.clear))

    with pytest.raises(ValueError, match="'real-local' is defined inside of a function"):
        on_disk(local)
    with pytest.raises(ValueError, match=r"fail\('add'.*\) is known to this process only"):
        RealTier(evolve(chain.subject, injector=failing), chain.processes, chain.make_url)
    with pytest.raises(ValueError, match="the last fault"):
        chain.run((stop, killed("run-1: body")))
    with pytest.raises(AssertionError, match="Let the steps write to files"):
        not_shared.run(())


def test_a_process_that_cannot_do_it_says_why(on_disk: Tier) -> None:
    """What a process of the tier fails with is told by whoever has asked for it."""
    tier = on_disk(cases["chain"].task, 5)
    tier.make_url = lambda: "nowhere:"

    with pytest.raises(RuntimeError, match="nowhere"):
        tier.run(())
