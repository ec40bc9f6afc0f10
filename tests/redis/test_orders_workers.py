"""`examples/orders.py` across three worker processes on Redis, any of which may be killed."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flowkit_redis import redis_storage
from flowkit_testing.redis_audit import audit

EXAMPLE = Path(__file__).parents[2] / "examples" / "orders.py"
FLOWKIT = [sys.executable, "-c", "from flowkit.cli import main; main()"]
ORDERS, KILLS = 18, 3


def order(number: int) -> dict[str, object]:
    """Every sixth cannot be shipped, every fifth is paid with a card whose answers get lost."""
    return {
        "id": f"B-{number}",
        "email": f"b{number}@example.com",
        "country": "Atlantis" if number % 6 == 0 else "Iceland",
        "card": "flaky" if number % 5 == 0 else "good",
        "lines": [{"sku": "lamp", "count": 1, "price": "10.00"}],
    }


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The shop's file."""
    return tmp_path / "shop.sqlite"


class Crew:
    """Three workers; one that is killed is replaced."""

    def __init__(self, url: str, shop: Path) -> None:
        self._url = url
        self._environment = os.environ | {"SHOP": str(shop)}
        self.workers = [self._start() for _ in range(3)]

    def _start(self) -> subprocess.Popen[bytes]:
        command = [*FLOWKIT, "worker", str(EXAMPLE), "--lease", "1s", "--quiet", "--storage", self._url]
        return subprocess.Popen(command, env=self._environment)

    def lose(self, which: int) -> None:
        """Kill one, and start another."""
        self.workers[which].send_signal(signal.SIGKILL)
        self.workers[which].wait()
        self.workers[which] = self._start()

    def stop(self) -> list[int]:
        """Stop them as an operator does; their exit codes."""
        for worker in self.workers:
            worker.send_signal(signal.SIGTERM)
        return [worker.wait(60) for worker in self.workers]


@pytest.fixture
def crew(url: str, shop: Path) -> Iterator[Crew]:
    """The workers, gone after the test."""
    crew = Crew(url, shop)
    yield crew
    for worker in crew.workers:
        worker.kill()
        worker.wait()


def rows(shop: Path, query: str) -> list[tuple[object, ...]]:
    """What the shop says."""
    if not shop.exists():
        return []
    with closing(sqlite3.connect(shop, timeout=30)) as db:
        return list(db.execute(query))


def test_any_of_three_workers_may_be_killed(crew: Crew, url: str, shop: Path, tmp_path: Path) -> None:
    """X1, D2, G1: every order goes through or is undone, once, whichever workers die on the way."""
    file, chance, tick = tmp_path / "orders.json", random.Random(3), threading.Event()
    file.write_text(json.dumps([order(n) for n in range(ORDERS)]))
    command = [sys.executable, str(EXAMPLE), str(file), "--workers", "--storage", url]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"SHOP": str(shop)})
    for kill in range(KILLS):
        until = (kill + 1) * ORDERS // (KILLS + 1)
        while client.poll() is None and len(rows(shop, "SELECT 1 FROM sqlite_master WHERE name = 'payments'")) == 0:
            tick.wait(0.01)
        while client.poll() is None and len(rows(shop, "SELECT 1 FROM payments")) < until:
            tick.wait(0.005)
        crew.lose(chance.randrange(3))
    said, _ = client.communicate(timeout=100)

    failed = [n for n in range(ORDERS) if n % 6 == 0]
    assert client.returncode == 0
    assert f"{len(failed)} failed" in said
    assert set(crew.stop()) <= {0, -signal.SIGTERM}  # one that has just begun may not listen yet
    paid = Counter(order_id for (order_id,) in rows(shop, "SELECT order_id FROM payments"))
    assert paid == {f"B-{n}": 1 for n in range(ORDERS)}
    refunded = rows(shop, "SELECT order_id FROM payments JOIN refunds ON payments.id = refunds.payment")
    assert sorted(refunded) == sorted((f"B-{n}",) for n in failed)
    assert rows(shop, "SELECT count FROM stock WHERE sku = 'lamp'") == [(40 - ORDERS + len(failed),)]
    assert len(rows(shop, "SELECT 1 FROM shipments")) == ORDERS - len(failed)
    storage = redis_storage(url)
    storage.open()
    assert audit(storage) == []
    storage.close()
