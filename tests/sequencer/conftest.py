"""What the tests of the sequencer share: blocks in both colours."""

import pytest

from tests.rules.conftest import Colour


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> Colour:
    """Blocks are plain functions, or async ones."""
    return Colour(awaits=request.param == "async")
