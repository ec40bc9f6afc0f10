"""What the tests of the sequencer share: blocks in both colours."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flowkit.storage import open_storage
from tests.rules.colours import Colour
from tests.rules.conftest import Store


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Store]:
    """An empty stored state in memory, which several flows share."""
    url = f"memory:sequencer-{tmp_path.name}-{tmp_path.parent.name}"
    kept = open_storage(url)  # a named memory lasts as long as something holds it
    store = Store(url)
    yield store
    store.close()
    kept.close()


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Colour:
    """Blocks are plain functions, or async ones."""
    return Colour(awaits=request.param == "async")
