"""What is promised is tried in memory, with a replay after each step too, and on disk where that has the most say."""

import pytest

from tests.promises.trips import Trip
from tests.rules.colours import Colour

ON_DISK = frozenset({"D1", "D4", "D7", "R2", "G3", "E4", "E5", "X1", "X2", "X3"})
IN_MEMORY, REPLAYED, THERE = ("memory", False), ("memory", True), ("disk", False)
NAMES = {IN_MEMORY: "memory", REPLAYED: "replayed", THERE: "disk"}


@pytest.fixture
def trip(colour: Colour) -> Trip:
    """Steps of a trip."""
    return Trip(colour)


@pytest.fixture(autouse=True)
def _replayed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `--flowkit-always-replay` does, for the harness that is made after it."""
    if getattr(request, "param", False):
        monkeypatch.setattr(request.config.option, "flowkit_always_replay", True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test in several ways, unless the command line asks for a storage: the plugin sees to that.

    Explorations take care of replays themselves, and take longer on disk, where the kit has its own.
    """
    if "harness" not in metafunc.fixturenames or metafunc.config.getoption("--flowkit-storage") != "memory":
        return
    rule, _, _ = (metafunc.function.__doc__ or "").partition(":")
    ways = [IN_MEMORY]
    if "explore" not in metafunc.function.__code__.co_names:
        ways += [REPLAYED, *[THERE] * (rule in ON_DISK)]
    metafunc.parametrize(("flowkit_storage", "_replayed"), ways, ids=[NAMES[way] for way in ways], indirect=True)
