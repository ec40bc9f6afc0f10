"""What the tests of the harness share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowkit_testing import Harness


@pytest.fixture(autouse=True)
def _harnesses_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A harness that a test makes by itself is closed after it: its flow would count as open in those that follow."""
    made: list[Harness] = []
    begin = Harness.__init__

    def remember(self: Harness, *args: object, **kwargs: object) -> None:
        begin(self, *args, **kwargs)  # type: ignore[arg-type]  # handed on as they are
        made.append(self)

    monkeypatch.setattr(Harness, "__init__", remember)
    yield
    for harness in made:
        harness.close()
