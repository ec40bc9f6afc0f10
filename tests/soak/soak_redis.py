"""Ten minutes of work on a Redis server for worker processes that are killed at random, while the server is, too.

Not collected by default, for it takes minutes: `nox -s storm_redis`, or `pytest tests/soak/soak_redis.py -s`.
"""

from __future__ import annotations

import os
import random
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from redis.crc import key_slot

from flowkit_redis import redis_storage
from flowkit_redis.keys import shard_tag
from flowkit_testing.clusters import Cluster, until
from flowkit_testing.redis_audit import audit
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
                storm.wait_for_the_end(supervised=True)
                codes = storm.stop_workers()
            finally:
                storm.end()
            found, orphans = storm.audit(), _orphans(storm)
        memory = server.ask("INFO", "memory").split(b"used_memory:")[1].split(b"\r")[0].decode()
    print(f"\nserver restarts  {restarts}\nserver memory  {int(memory):,}\n{found}")  # noqa: T201  # what it is run for
    found.assert_clean()
    assert orphans == []
    assert set(codes) <= STOPPED, storm.said()


@pytest.mark.timeout(3600)
def test_kills_on_a_cluster(tmp_path: Path) -> None:
    """The same in eight shards, while slots move from node to node and nodes are killed and started again."""
    chance = random.Random(SEED)
    with Cluster(appendonly="yes", appendfsync="always") as cluster:
        storm = Storm(tmp_path, SEED, workers=4, url=f"{cluster.url}?durability=disk&namespace=soak")
        with storm.flow:
            try:
                restarts, moves = _soak_cluster(storm, cluster, chance)
                storm.wait_for_the_end(supervised=True)
                codes = storm.stop_workers()
            finally:
                storm.end()
            found, orphans = storm.audit(), _orphans(storm)
    print(f"\nnode restarts  {restarts}\nslots moved  {moves}\n{found}")  # noqa: T201  # what it is run for
    found.assert_clean()
    assert orphans == []
    assert set(codes) <= STOPPED, storm.said()


def _orphans(storm: Storm) -> list[str]:
    """What lies in keys that nothing stands behind."""
    storage = redis_storage(storm.url)
    storage.open()
    with closing(storage):
        return audit(storage)


def _soak_cluster(storm: Storm, cluster: Cluster, chance: random.Random) -> tuple[int, int]:
    """Kill, move slots, and give work; how often a node was restarted, and a slot moved."""
    storm.submit(5)
    storm.start_workers()
    began_s, restarts, moves = time.monotonic(), 0, 0
    while (passed_s := time.monotonic() - began_s) < SOAK_S / 5:
        threading.Event().wait(chance.uniform(0.1, 2.0))
        storm.kill_one()
        if passed_s > (restarts + 1) * RESTART_EVERY_S:
            node = chance.choice(cluster.nodes)
            node.kill()
            threading.Event().wait(chance.uniform(0.0, 1.0))
            node.start()
            until(lambda: cluster.complete)
            restarts += 1
        else:
            slot = key_slot(shard_tag("soak", chance.randrange(8)))
            cluster.move(slot, chance.choice([node for node in cluster.nodes if node is not cluster.owner(slot)]))
            moves += 1
        storm.replace_fruitless()
        storm.submit(3)
    return restarts, moves


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
        storm.replace_fruitless()
        storm.submit(3)
    return restarts
