"""The pytest plugin, in test sessions of its own."""

from __future__ import annotations

import pytest

from flowkit_testing.points import Injury, Point, token_of

pytest_plugins = ("pytester",)

FILE = """
    from flowkit import step, task

    @step
    def add(left, right):
        return left + right

    @task
    def twice(number):
        return add(number, add(number, 0))

    {test}
"""


def _write(pytester: pytest.Pytester, test: str) -> None:
    pytester.makepyprojecttoml(
        '[tool.pytest]\nfilterwarnings = ["error"]\nasyncio_mode = "auto"\n'
        'asyncio_default_fixture_loop_scope = "function"\n'
    )
    head, _, _ = FILE.partition("    {test}")
    pytester.makepyfile(test_it=head + "\n".join(f"    {line}" for line in test.splitlines()))


def test_the_fixture_is_there(pytester: pytest.Pytester) -> None:
    """A test that takes `harness` runs tasks."""
    _write(
        pytester,
        """
def test_it(harness):
    harness.crash("add")
    assert harness.run(twice, 2).output == 4
""",
    )
    pytester.runpytest("-p", "no:randomly").assert_outcomes(passed=1)


def test_a_fault_that_never_fires_fails_the_test(pytester: pytest.Pytester) -> None:
    """The test fails, not its teardown, and the message names fault and steps."""
    _write(
        pytester,
        """
def test_it(harness):
    harness.fail("subtract")
    assert harness.run(twice, 2).ok

async def test_async(harness):
    harness.crash("subtract")
    assert harness.run(twice, 2).ok
""",
    )
    result = pytester.runpytest("-p", "no:randomly")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*FaultNeverFired: never happened: fail('subtract'). Steps that ran: add, add#2*"])


def test_a_failing_test_keeps_its_own_error(pytester: pytest.Pytester) -> None:
    """What never fired is not put in front of the assertion that failed."""
    _write(
        pytester,
        """
def test_it(harness):
    harness.fail("subtract")
    assert harness.run(twice, 2).output == 5
""",
    )
    result = pytester.runpytest("-p", "no:randomly")
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*FaultNeverFired*")


def test_on_several_storages(pytester: pytest.Pytester) -> None:
    """Each test that uses the harness runs on each storage, no other test does."""
    _write(
        pytester,
        """
import pytest

from flowkit_testing.points import Injury, Point, token_of

@pytest.mark.parametrize("at", ["before_effect", "after_commit"])
def test_it(harness, at):
    harness.crash("add", at=at)
    assert harness.run(twice, 2).output == 4

def test_explore(harness):
    harness.explore(twice, 2).assert_safe()

def test_without():
    assert twice.id
""",
    )
    result = pytester.runpytest("-p", "no:randomly", "-v", "--flowkit-storage=memory,disk,redis")
    result.assert_outcomes(passed=10)
    result.stdout.fnmatch_lines(["*test_it?disk-after_commit? PASSED*", "*test_explore?redis? PASSED*"])


def test_an_unknown_storage(pytester: pytest.Pytester) -> None:
    """A misspelt storage is refused."""
    _write(pytester, "def test_it(harness):\n    pass\n")
    result = pytester.runpytest("--flowkit-storage=memroy")
    result.stderr.fnmatch_lines(["*--flowkit-storage=memroy: write one or more of memory, disk, redis*"])


def test_a_storage_of_a_plugin(pytester: pytest.Pytester) -> None:
    """A `conftest.py` can add a storage of its own, by a hook."""
    _write(pytester, "def test_it(harness):\n    assert harness.run(twice, 2).output == 4\n")
    pytester.makeconftest(
        """
        def pytest_flowkit_storages():
            return {"mine": lambda request: f"disk:{request.getfixturevalue('tmp_path')}/mine"}
        """
    )
    result = pytester.runpytest("-p", "no:randomly", "-v", "--flowkit-storage=mine")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_it?mine? PASSED*"])


def test_replaying_always(pytester: pytest.Pytester) -> None:
    """With --flowkit-always-replay a body that would not survive a replay fails."""
    _write(
        pytester,
        """
seen = []

def test_it(harness):
    @task
    def counts():
        seen.append(1)
        return add(len(seen), 0)

    run = harness.run(counts)
    assert run.ok

def test_skips(harness):
    harness.crash("add#2")
    run = harness.run(twice, 2)
    assert run.skips("add#1") == 1

def test_calls_it_here(harness):
    assert twice(2) == 4
""",
    )
    pytester.runpytest("-p", "no:randomly").assert_outcomes(passed=3)
    result = pytester.runpytest("-p", "no:randomly", "--flowkit-always-replay")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*ReplayDiffers: step 'add' *other arguments*"])


def test_one_schedule(pytester: pytest.Pytester) -> None:
    """--flowkit-replay tries the schedule of a token, and refuses what is none."""
    _write(pytester, "def test_it(harness):\n    assert harness.explore(twice, 2).runs == 2\n")
    from flowkit_testing.points import Injury, Point, token_of  # noqa: PLC0415  # only here

    token = token_of((Injury("crash", Point("run-1: invoke add (1), attempt 1", "after")),))
    pytester.runpytest(f"--flowkit-replay={token}").assert_outcomes(passed=1)
    result = pytester.runpytest("--flowkit-replay=nonsense")
    result.stderr.fnmatch_lines(["*--flowkit-replay: 'nonsense' is no flowkit token*"])


BESIDE = """
import asyncio
import pytest

from flowkit_testing.points import Injury, Point, token_of

@pytest.mark.parametrize("number", range(3))
def test_sync(harness, number):
    harness.crash("add#2", at="before_commit")
    assert harness.run(twice, number).output == 2 * number

{mark}
async def test_async(harness):
    harness.crash("add#2", at="before_commit")
    assert (await harness.aio.run(twice, 2)).output == 4
    assert harness.run(twice, 3).output == 6

def test_explored(harness):
    harness.explore(twice, 2).assert_safe()
"""


@pytest.mark.parametrize(
    ("options", "mark"),
    [
        (("-n2", "--flowkit-storage=memory,redis", "--flowkit-always-replay"), ""),
        (("-p", "randomly", "-p", "no:anyio"), ""),
        (("-p", "no:asyncio", "-p", "anyio"), "@pytest.mark.anyio"),
        (("-p", "anyio", "-o", "asyncio_mode=strict"), "@pytest.mark.asyncio"),
    ],
    ids=str,
)
def test_beside_other_plugins(options: tuple[str, ...], mark: str, pytester: pytest.Pytester) -> None:
    """xdist, randomly, asyncio in either mode and anyio do not disturb it, nor it them."""
    _write(pytester, BESIDE.replace("{mark}", mark))
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture
        def anyio_backend():
            return "asyncio"
        """
    )
    if "no:asyncio" in options:
        pytester.makepyprojecttoml('[tool.pytest]\nfilterwarnings = ["error"]\n')
    result = pytester.runpytest_subprocess(*options)
    result.assert_outcomes(passed=10 if "--flowkit-storage=memory,redis" in options else 5)


def test_real_processes_and_a_token(pytester: pytest.Pytester) -> None:
    """`--flowkit-real` tries schedules in processes that are killed, and with a token that one alone."""
    _write(
        pytester,
        """
def test_it(harness):
    found = harness.explore(twice, 2)
    print(found.real, "of", len(found.tried))
    assert found.real == len(found.tried) == 1
""",
    )
    token = token_of((Injury("crash", Point("run-1: invoke add (2), attempt 1", "after")),))
    result = pytester.runpytest("-p", "no:randomly", "--flowkit-real", f"--flowkit-replay={token}")
    result.assert_outcomes(passed=1)
