"""What the tests of the command line share: a way to call it, and code for it to run."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from click.testing import CliRunner

from flowkit.cli.app import cli
from flowkit.flow import Flow

CODE = '''
import os
import sys
from attrs import frozen
from flowkit import Flow, Retry, RunBlocked, current_run, sleep, step, task


@frozen
class Order:
    id: str
    count: int = 1


class Refused(Exception):
    """An error of the user's own."""


calls = []


@step
def reserve(order: Order) -> str:
    calls.append("reserve")
    return f"reserved {order.id}"


@step(retry=Retry(attempts=2, delay=0.001, jitter=0))
def charge(order: Order, fails: int) -> int:
    calls.append("charge")
    if calls.count("charge") <= fails:
        raise ConnectionError("the bank is away")
    return order.count * 10


@task(id="shop-order", tags=["shop"])
def process(order: Order, fails: int = 0) -> dict[str, object]:
    print("a word from the task")
    return {"reservation": reserve(order), "paid": charge(order, fails)}


@task(id="shop-refuse")
def refuse(reason: str) -> None:
    reserve(Order("x"))
    raise_it(reason)


@step(attempts=1)
def raise_it(reason: str) -> None:
    raise Refused(reason)


@task(id="shop-nothing")
def nothing() -> None:
    """Nothing to do."""


@task(id="shop-leave")
def leave() -> None:
    reserve(Order("x"))
    sys.exit(9)


@task(id="shop-async")
async def asynchronous(order: Order) -> int:
    return await areserve(order)


@step
async def areserve(order: Order) -> int:
    return order.count


@task(id="shop-pause")
def pause() -> int:
    reserve(Order("x"))
    calls.append("pause")
    if calls.count("pause") == 1:
        sys.exit(9)
    return charge(Order("x"), 0)


@task(id="shop-loud")
def loud() -> str:
    print("printed")
    os.system("echo from a subprocess")
    return "quiet"


@task(id="shop-restless", retry=Retry(attempts=2, delay=0.001, jitter=0))
def restless() -> int:
    reserve(Order("x"))
    calls.append("restless")
    if calls.count("restless") == 1:
        raise OSError("not yet")
    return 1


@task(id="shop-group", attempts=1)
def group() -> None:
    try:
        raise_it("the cause")
    except Refused as error:
        raise ExceptionGroup("several", [error, ValueError("another")]) from error


@step
def pay() -> str:
    return "paid"


@pay.compensate
def give_back(payment: str) -> None:
    calls.append(f"gave back {payment}")


@task(id="shop-undone")
def undone() -> None:
    pay()
    raise_it("no carrier")


@task(id="shop-parent")
def parent(order: Order) -> dict[str, object]:
    return process(order)


def plain() -> None:
    """No task."""
'''


@frozen
class Result:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401  # whatever the document is
        """Stdout as the one JSON document that it has to be."""
        return json.loads(self.out)


@pytest.fixture
def storage() -> str:
    """The URL of a storage of this test's own."""
    return f"memory:{uuid.uuid4().hex}"


@pytest.fixture
def flowkit(storage: str) -> Callable[..., Result]:
    """Call the command line in this process, on this test's storage."""

    def call(*words: str, stdin: str | None = None) -> Result:
        ended = CliRunner().invoke(cli, [*words, "--storage", storage], input=stdin, prog_name="flowkit")
        if ended.exception is not None and not isinstance(ended.exception, SystemExit):
            raise ended.exception
        return Result(ended.exit_code, ended.stdout, ended.stderr)

    return call


@pytest.fixture
def flow(storage: str) -> Iterator[Flow]:
    """The same storage as a `Flow`."""
    with Flow(storage, worker=False) as flow:
        yield flow


@pytest.fixture
def imports() -> Iterator[None]:
    """Forget what the test has imported, and where from."""
    path, modules = sys.path[:], set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path, imports: None) -> Callable[[str, str], Path]:
    """Write a file of Python code under a name."""
    del imports

    def put(name: str, code: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code, encoding="utf-8")
        return file

    return put


@pytest.fixture
def shop(write: Callable[[str, str], Path]) -> str:
    """A file with tasks of every kind; its module is `shop`."""
    return str(write("shop.py", CODE))
