"""What every test may rely on: nothing of the machine's configuration, and no limit on how long an example takes."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from flowkit import active
from flowkit.registry import tasks
from tests.rules.colours import Colour

settings.register_profile("flowkit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("flowkit")

# A shell lets what it starts in the background ignore Ctrl-C, and the commands that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_storage_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage that the developer has configured is not for tests."""
    monkeypatch.delenv("FLOWKIT_STORAGE", raising=False)


@pytest.fixture(autouse=True)
def _no_flow_is_left_open() -> Iterator[None]:
    """A flow that a test leaves open would be found by the next one."""
    yield
    left = list(active._open)  # noqa: SLF001  # nobody but tests asks for it
    for flow in left:
        active.closed(flow)  # so that the others do not fail with it
    assert not left, f"left open: {left}"


@pytest.fixture(autouse=True)
def _no_schedule_outlives_its_test() -> Iterator[None]:
    """What a test schedules would be due again and again for the workers of those that follow."""
    before = frozenset(tasks.ids())
    yield
    for spec in filter(None, map(tasks.find, frozenset(tasks.ids()) - before)):
        if spec.cron is not None:
            tasks.remove(spec.id)


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Colour:
    """Synchronous and asynchronous alike."""
    return Colour(awaits=request.param == "async")
