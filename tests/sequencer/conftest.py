"""What the tests of the sequencer share: blocks in both colours."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flowkit.storage import open_storage
from flowkit_testing import Harness
from tests.rules.colours import Colour
from tests.rules.conftest import Store
from tests.sequencer.kit import Kit


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Store]:
    """An empty stored state in memory, which several flows share."""
    url = f"memory:sequencer-{tmp_path.name}-{tmp_path.parent.name}"
    kept = open_storage(url)  # a named memory lasts as long as something holds it
    store = Store(url)
    yield store
    store.close()
    kept.close()


@pytest.fixture
def kit(colour: Colour, harness: Harness) -> Kit:
    """A harness, and blocks of one colour."""
    return Kit(colour, harness)
