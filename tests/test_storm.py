"""A short storm: workers are killed in the middle of things, and the auditor finds nothing wrong."""

from pathlib import Path

from tests.soak.storm import STOPPED, Storm

KILLS = 5
EVERY = 25  # effects between two kills


def test_killed_workers_are_replaced(tmp_path: Path) -> None:
    """X1, D2, G3: whenever so many effects have happened a worker is killed; all is done in the end, and once."""
    storm = Storm(tmp_path, seed=7, workers=2)
    with storm.flow:
        try:
            storm.submit(8)
            storm.start_workers()
            for kill in range(KILLS):
                storm.wait_for_effects((kill + 1) * EVERY)
                storm.kill_one()
            storm.wait_for_the_end()
            codes = storm.stop_workers()
        finally:
            storm.end()
        found = storm.audit()

    found.assert_clean()
    assert set(codes) <= STOPPED, storm.said()
    assert found.figures["kills"] == KILLS
