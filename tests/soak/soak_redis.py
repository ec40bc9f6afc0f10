"""Ten minutes of work on a Redis server for worker processes that are killed at random, while the server is, too.

Not collected by default, for it takes minutes: `nox -s storm_redis`, or `pytest tests/soak/soak_redis.py -s`.
"""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import pytest

from flowkit_testing.servers import Server
from tests.soak.storm import STOPPED, Storm

SOAK_S = float(os.environ.get("FLOWKIT_SOAK_S", "600"))
RESTART_EVERY_S = 20.0
SEED = 20261125


@pytest.mark.timeout(3600)
def test_ten_minutes_of_kills_and_restarts(tmp_path: Path) -> None:
    """No run is lost, nothing completed is done or undone again, nothing is left lying about."""
    chance = random.Random(SEED)
    with Server(appendonly="yes", appendfsync="always", **{"auto-aof-rewrite-min-size": "4mb"}) as server:
        storm = Storm(tmp_path, SEED, workers=4, url=f"{server.url}?durability=disk&namespace=soak")
        with storm.flow:
            try:
                restarts = _soak(storm, server, chance)
                storm.wait_for_the_end()
                codes = storm.stop_workers()
            finally:
                storm.end()
            found = storm.audit()
        memory = server.ask("INFO", "memory").split(b"used_memory:")[1].split(b"\r")[0].decode()
    print(f"\nserver restarts  {restarts}\nserver memory  {int(memory):,}\n{found}")  # noqa: T201  # what it is run for
    found.assert_clean()
    assert set(codes) <= STOPPED, storm.said()


def _soak(storm: Storm, server: Server, chance: random.Random) -> int:
    """Kill and give work; how often the server was restarted."""
    storm.submit(5)
    storm.start_workers()
    began_s = time.monotonic()
    restarts = 0
    while (passed_s := time.monotonic() - began_s) < SOAK_S:
        threading.Event().wait(chance.uniform(0.1, 2.0))
        storm.kill_one()
        if passed_s > (restarts + 1) * RESTART_EVERY_S:
            server.kill()
            threading.Event().wait(chance.uniform(0.0, 1.0))
            server.start()
            restarts += 1
        storm.submit(3)
    return restarts
