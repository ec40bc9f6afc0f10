"""Process orders: validate, reserve, charge, ship, notify; if it cannot be shipped, refund and release.

    python examples/orders.py examples/orders.json

Each order is a run of its own, named after it, so the command may be killed and started again at any moment: no order
is reserved, charged or shipped twice, and none is left half done. One order with flowkit's own command:

    flowkit run examples/orders.py:process-order --input '{"order": {"id": "A-1", ...}}' --run-id order-A-1

With `--workers` others do the work, on as many machines as there are, any of which may die on the way:

    flowkit worker examples/orders.py --storage redis://localhost          # three times, say
    python examples/orders.py examples/orders.json --workers --storage redis://localhost

The shop behind it (stock, payments, parcels, mails) is a SQLite file, so that what the steps did to the world can be
looked at afterwards. Its payment service works like real ones: a charge carries an idempotency key, and the same key
again gives the same payment instead of a second one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from attrs import field, frozen

from flowkit import Flow, NonRetryable, Retry, RunConflict, SerializationError, current_run, step, task
from flowkit.codec import JsonCodec

PATIENT = Retry(attempts=5, delay=0.05, max_delay=1.0, on=(ConnectionError,))


# ---- what is ordered, and what comes of it --------------------------------------------------------------------------


@frozen
class Line:
    """So many of one article."""

    sku: str
    count: int
    price: Decimal  # of one


@frozen
class Order:
    """What a customer wants."""

    id: str
    email: str
    country: str
    card: str
    lines: tuple[Line, ...]

    @property
    def total(self) -> Decimal:
        """What it costs."""
        return sum((line.price * line.count for line in self.lines), Decimal(0))


@frozen
class Reservation:
    """Articles put aside for an order."""

    id: str


@frozen
class Payment:
    """Money taken."""

    id: str
    amount: Decimal


@frozen
class Shipment:
    """A parcel on its way."""

    id: str
    carrier: str


@frozen
class Receipt:
    """An order that went through."""

    order_id: str
    payment: Payment
    shipment: Shipment


class BadOrder(NonRetryable):
    """The order makes no sense."""


class OutOfStock(NonRetryable):
    """There is not enough of an article."""


class CardDeclined(NonRetryable):
    """The bank says no."""


class NoCarrier(NonRetryable):
    """Nobody ships there."""


# ---- the steps ------------------------------------------------------------------------------------------------------


@step
def validate(order: Order) -> Order:
    """Look whether the order makes sense."""
    if not order.lines:
        raise BadOrder(f"order {order.id} is empty")
    for line in order.lines:
        if line.count < 1 or line.price <= 0:
            raise BadOrder(f"order {order.id}: {line.count} x {line.sku} at {line.price}")
    return order


@step
def reserve(order: Order) -> Reservation:
    """Put the articles aside, all or none. The reservation is named after the order, so done twice it is done once."""
    with shop.changes() as db:
        if not db.execute("SELECT 1 FROM reservations WHERE id = ?", (order.id,)).fetchone():
            for line in order.lines:
                taken = db.execute(
                    "UPDATE stock SET count = count - ? WHERE sku = ? AND count >= ?",
                    (line.count, line.sku, line.count),
                )
                if not taken.rowcount:
                    raise OutOfStock(f"order {order.id}: fewer than {line.count} x {line.sku} are left")
            db.execute("INSERT INTO reservations VALUES (?, 'held')", (order.id,))
    return Reservation(order.id)


@step
def release(order: Order, reservation: Reservation) -> None:
    """Put the articles back."""
    with shop.changes() as db:
        held = db.execute(
            "UPDATE reservations SET state = 'released' WHERE id = ? AND state = 'held'", (reservation.id,)
        )
        if held.rowcount:
            db.executemany(
                "UPDATE stock SET count = count + ? WHERE sku = ?", [(line.count, line.sku) for line in order.lines]
            )


@step(retry=PATIENT)
def charge(order: Order) -> Payment:
    """Take the money. The key is the same on every attempt, so that the service takes it once."""
    return shop.charge(current_run().idempotency_key, order.id, order.total, order.card)


@step(retry=PATIENT)
def refund(payment: Payment) -> None:
    """Give the money back."""
    with shop.changes() as db:
        db.execute("INSERT OR IGNORE INTO refunds VALUES (?, ?)", (payment.id, str(payment.amount)))


@step
def ship(order: Order, reservation: Reservation) -> Shipment:
    """Hand the parcel to a carrier."""
    if order.country == "Atlantis":
        raise NoCarrier(f"order {order.id}: nobody ships to {order.country}")
    with shop.changes() as db:
        db.execute("INSERT OR IGNORE INTO shipments VALUES (?, ?)", (f"parcel-{reservation.id}", order.country))
        db.execute("UPDATE reservations SET state = 'shipped' WHERE id = ?", (reservation.id,))
    return Shipment(f"parcel-{reservation.id}", "snail mail")


@step(retry=PATIENT)
def notify(order: Order, shipment: Shipment) -> None:
    """Tell the customer. A mail sent twice does no harm, so this one only promises to be sent."""
    with shop.changes() as db:
        db.execute("INSERT INTO mails VALUES (?, ?)", (order.email, f"{order.id} is on its way as {shipment.id}"))


# ---- the task -------------------------------------------------------------------------------------------------------


@task(id="process-order", tags=["orders"])
def process_order(order: Order) -> Receipt:
    """One order from its arrival to its parcel; if that fails, everything done so far is undone, newest first."""
    reservation: Reservation | None = None
    payment: Payment | None = None
    try:
        validate(order)
        reservation = reserve(order)
        payment = charge(order)
        shipment = ship(order, reservation)
    except Exception:
        if payment is not None:
            refund(payment)
        if reservation is not None:
            release(order, reservation)
        raise  # so that the run is marked as failed, with the error that caused it
    notify(order, shipment)  # outside: a mail that cannot be sent is no reason to take a parcel back
    return Receipt(order.id, payment, shipment)


# ---- the world outside, in a file -----------------------------------------------------------------------------------

TABLES = (
    "stock (sku TEXT PRIMARY KEY, count INTEGER NOT NULL CHECK (count >= 0))",
    "reservations (id TEXT PRIMARY KEY, state TEXT NOT NULL)",
    "payments (key TEXT PRIMARY KEY, id TEXT NOT NULL, order_id TEXT NOT NULL, amount TEXT NOT NULL)",
    "requests (key TEXT NOT NULL)",
    "refunds (payment TEXT PRIMARY KEY, amount TEXT NOT NULL)",
    "shipments (id TEXT PRIMARY KEY, country TEXT NOT NULL)",
    "mails (address TEXT NOT NULL, text TEXT NOT NULL)",
)
FIRST_STOCK = {"lamp": 40, "chair": 25, "desk": 10, "piano": 1}


@frozen
class Shop:
    """Stock, payments, parcels and mails."""

    file: Path = field(converter=Path)

    @contextlib.contextmanager
    def changes(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it or nothing."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(self.file, timeout=30, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                for table in TABLES:
                    db.execute(f"CREATE TABLE IF NOT EXISTS {table}")
                db.executemany("INSERT OR IGNORE INTO stock VALUES (?, ?)", FIRST_STOCK.items())
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def charge(self, key: str, order_id: str, amount: Decimal, card: str) -> Payment:
        """What a payment service does: decline, be away, lose its answer, and know a key that it has seen.

        The cards `declined` and `flaky` behave as they are called: the first request with a flaky card takes the
        money, but the answer is lost.
        """
        if card == "declined":
            raise CardDeclined(f"order {order_id}: the card was declined")
        with self.changes() as db:
            db.execute("INSERT INTO requests VALUES (?)", (key,))
            first = db.execute(
                "INSERT OR IGNORE INTO payments SELECT ?, 'pay-' || (SELECT count(*) + 1 FROM payments), ?, ?",
                (key, order_id, str(amount)),
            )
            [payment_id, taken] = db.execute("SELECT id, amount FROM payments WHERE key = ?", (key,)).fetchone()
        if card == "flaky" and first.rowcount:
            raise ConnectionError("the payment service hung up")
        return Payment(payment_id, Decimal(taken))


shop = Shop(os.environ.get("SHOP", "build/shop.sqlite"))


# ---- the command ----------------------------------------------------------------------------------------------------


def read_orders(file: Path) -> list[Order]:
    """The orders in a JSON file.

    Raises:
        SerializationError: it holds something else.
    """
    found = json.loads(file.read_text(encoding="utf-8"))
    orders = JsonCodec().from_json(found, list[Order])
    if not isinstance(orders, list):
        raise SerializationError(f"it holds no list of orders, but {found!r:.50}")
    return orders


def main(arguments: list[str] | None = None) -> int:
    """Process a file of orders; those that are done already are only reported."""
    parser = argparse.ArgumentParser(description="Process orders; interrupted, the same command goes on.")
    parser.add_argument("orders", type=Path, help="a JSON file")
    parser.add_argument("--storage", help="where the runs are kept [default: as flowkit is configured]")
    parser.add_argument("--workers", action="store_true", help="leave the work to `flowkit worker examples/orders.py`")
    given = parser.parse_args(arguments)
    try:
        orders = read_orders(given.orders)
    except (OSError, ValueError, SerializationError) as error:
        parser.error(f"{given.orders} cannot be read: {error}")
    failed = 0
    with Flow(given.storage, worker=False) as flow:
        if given.workers:
            for order in orders:
                with contextlib.suppress(RunConflict):  # told of below
                    process_order.options(run_id=f"order-{order.id}").trigger(order)
        for order in orders:
            failed += not _process(flow, order, here=not given.workers)
    print(f"{failed} failed" if failed else "all went through")
    return 0


def _process(flow: Flow, order: Order, *, here: bool) -> bool:
    run = process_order.options(run_id=f"order-{order.id}")
    try:
        receipt = flow.run(run, order) if here else run.trigger(order).result()
    except (NonRetryable, RunConflict) as error:
        print(f"{order.id:8} {type(error).__name__}: {error}")
        return False
    print(f"{order.id:8} {receipt.payment.amount:>9} paid as {receipt.payment.id}, sent as {receipt.shipment.id}")
    return True


if __name__ == "__main__":
    sys.exit(main())
