"""The kill storm: a minute of work for worker processes that are killed at random, and an audit after it.

Not collected by default, for it takes minutes: `nox -s storm`, or `pytest tests/soak/soak_workers.py -s`.
"""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from tests.soak.storm import STOPPED, Storm

STORM_S = 60.0
SEED = 20261125


@pytest.mark.timeout(1800)
def test_a_minute_of_kills(tmp_path: Path) -> None:
    """No run is lost, nothing completed is done or undone again, nothing is left lying about."""
    storm, chance = Storm(tmp_path, SEED, workers=4), random.Random(SEED)
    with storm.flow:
        try:
            storm.submit(5)
            storm.start_workers()
            until_s = time.monotonic() + STORM_S
            while time.monotonic() < until_s:
                threading.Event().wait(chance.uniform(0.1, 2.0))
                storm.kill_one()
                storm.submit(3)
            storm.wait_for_the_end()
            codes = storm.stop_workers()
        finally:
            storm.end()
        found = storm.audit()
    print(f"\n{found}")  # noqa: T201  # the figures are what it is run for
    found.assert_clean()
    assert set(codes) <= STOPPED, storm.said()
