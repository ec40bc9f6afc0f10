"""`examples/orders.py`: orders go through or are undone, and kills change neither."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from attrs import frozen

from flowkit import Flow

EXAMPLES = Path(__file__).parents[2] / "examples"
EVENTS_BETWEEN_KILLS = 30  # at most


@frozen
class World:
    """The shop's file and what is asked of it."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """For a process that works on this shop."""
        return {**os.environ, "SHOP": str(self.folder / "shop.sqlite")}

    @property
    def storage(self) -> str:
        """Where its runs are kept."""
        return f"disk:{self.folder / 'runs'}"

    def rows(self, query: str) -> list[tuple[str, ...]]:
        """What the shop says."""
        with closing(sqlite3.connect(self.folder / "shop.sqlite")) as db:
            return [tuple(str(value) for value in row) for row in db.execute(query)]

    def pairs(self, query: str) -> dict[str, str]:
        """What the shop says, first column to second."""
        return {row[0]: row[1] for row in self.rows(query)}

    def statuses(self) -> dict[str, str]:
        """How each order's run ended."""
        with Flow(self.storage, worker=False) as flow:
            return {header.run_id: str(header.status) for header in flow.runs()}

    def audit(self) -> None:
        """Nothing was taken twice, nothing is missing, nothing is half done."""
        assert self.statuses() == {
            "order-A-1": "succeeded",
            "order-A-2": "succeeded",
            "order-A-3": "failed",
            "order-A-4": "failed",
            "order-A-5": "succeeded",
            "order-A-6": "failed",
            "order-A-7": "failed",
        }
        paid = Counter(order for (order,) in self.rows("SELECT order_id FROM payments"))
        assert paid == {"A-1": 1, "A-2": 1, "A-3": 1, "A-5": 1}
        assert self.rows("SELECT order_id FROM payments JOIN refunds ON payments.id = refunds.payment") == [("A-3",)]
        assert self.pairs("SELECT id, state FROM reservations") == {
            "A-1": "shipped",
            "A-2": "shipped",
            "A-3": "released",
            "A-4": "released",
            "A-5": "shipped",
        }
        assert self.pairs("SELECT sku, count FROM stock") == {"lamp": "37", "chair": "21", "desk": "9", "piano": "0"}
        assert self.rows("SELECT id FROM shipments ORDER BY id") == [("parcel-A-1",), ("parcel-A-2",), ("parcel-A-5",)]
        assert len(self.rows("SELECT DISTINCT address, text FROM mails")) == 3


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An empty shop."""
    return World(tmp_path)


def test_orders_go_through_or_are_undone(world: World) -> None:
    """The orders in the file end as they should, and the same command again changes nothing."""
    command = [sys.executable, str(EXAMPLES / "orders.py"), str(EXAMPLES / "orders.json"), "--storage", world.storage]
    first = subprocess.run(command, check=True, capture_output=True, text=True, env=world.environment)
    assert "A-1         288.80 paid" in first.stdout
    assert "NoCarrier: order A-3: nobody ships to Atlantis" in first.stdout
    assert "4 failed" in first.stdout
    world.audit()
    second = subprocess.run(command, check=True, capture_output=True, text=True, env=world.environment)
    assert second.stdout == first.stdout
    world.audit()


def test_lost_answer_of_the_payment_service_is_no_second_charge(world: World) -> None:
    """The service was asked twice for the flaky card, under one key, and took the money once."""
    command = [sys.executable, str(EXAMPLES / "orders.py"), str(EXAMPLES / "orders.json"), "--storage", world.storage]
    subprocess.run(command, check=True, capture_output=True, env=world.environment)
    asked = Counter(key for (key,) in world.rows("SELECT key FROM requests"))
    assert sorted(asked.values()) == [1, 1, 1, 2]
    assert world.pairs("SELECT order_id, amount FROM payments")["A-2"] == "358.00"


def test_killed_at_random_moments_the_shop_comes_out_the_same(world: World) -> None:
    """Killed again and again until all orders are done, nothing is charged, shipped or undone twice."""
    chance, log, kills = random.Random(20), world.folder / "effects.log", 0
    while True:
        exactly = kills % 2 == 0
        delay = "exactly" if exactly else str(chance.uniform(0, 0.02))
        kill_at = str(chance.randint(1, EVENTS_BETWEEN_KILLS))
        script = str(Path(__file__).with_name("orders_child.py"))
        command = [sys.executable, script, str(log), kill_at, delay, str(EXAMPLES / "orders.json")]
        ended = subprocess.run(
            [*command, "--storage", world.storage],
            check=False,
            capture_output=True,
            text=True,
            env=world.environment,
        )
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        kills += 1
    assert kills
    world.audit()
    _audit_log(log)


def _audit_log(log: Path) -> None:
    """A step begun again was tried again in place, or was the last that a killed process began."""
    sessions = [
        [line.removeprefix("begin ") for line in part.splitlines() if line.startswith("begin ")]
        for part in log.read_text().split("session\n")[1:]
    ]
    begun = Counter(call for session in sessions for call in session)
    last = Counter(session[-1] for session in sessions[:-1] if session)
    for call, times in begun.items():
        tries = 2 if call == "order-A-2 charge" else 1
        assert times <= tries + last[call], f"completed, yet run again: {call}"


def test_flowkit_run_takes_one_order(world: World) -> None:
    """The task is usable with `flowkit run`, by its id, with an order given as JSON."""
    order = json.loads((EXAMPLES / "orders.json").read_text())[0]
    command = [sys.executable, "-c", "from flowkit.cli import main; main()", "run"]
    ended = subprocess.run(
        [
            *command,
            f"{EXAMPLES / 'orders.py'}:process-order",
            "--input",
            json.dumps({"order": order}),
            "--storage",
            world.storage,
        ],
        check=True,
        capture_output=True,
        text=True,
        env=world.environment,
    )
    assert json.loads(ended.stdout)["payment"] == {"id": "pay-1", "amount": "288.80"}


@pytest.mark.parametrize("text", [None, "{", "{}", '[{"no": 1}]', "[3]"])
def test_a_file_that_holds_no_orders_is_refused(world: World, tmp_path: Path, text: str | None) -> None:
    """What cannot be read is named in one line, and nothing is begun."""
    file = tmp_path / "mistaken.json"
    if text is not None:
        file.write_text(text)
    command = [sys.executable, str(EXAMPLES / "orders.py"), str(file)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, env=world.environment)
    assert ended.returncode == 2
    assert "mistaken.json cannot be read: " in ended.stderr
    assert "Traceback" not in ended.stderr
