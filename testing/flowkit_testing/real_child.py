"""A process of the real tier: it runs a task on disk, and kills or stops itself at a named point.

Started as `python -m flowkit_testing.real_child ORDER` by `flowkit_testing.real`.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from attrs import asdict, define, evolve, field, frozen

from flowkit import Flow
from flowkit.documents import decode_input, encode_input
from flowkit.effects import Effect
from flowkit.engine import Engine
from flowkit.journal import Past
from flowkit.records import NewRun
from flowkit.registry import TaskSpec, tasks
from flowkit.run import Run
from flowkit.storage import Storage, open_storage
from flowkit_testing.forward import Forward
from flowkit_testing.points import Injury, describe_effect, schedule_of
from flowkit_testing.subject import RUN_ID

_T = TypeVar("_T")
REACHED = b"flowkit: the point was reached\n"


@frozen
class Order:
    """What such a process is to do."""

    url: str
    module: str
    file: str
    task: str
    args: list[Any]  # as JSON
    token: str  # of the one fault; "" for none
    lease_s: int


def encode_order(order: Order) -> str:
    """An order as an argument of a command."""
    return json.dumps(asdict(order))


@define(eq=False)
class Striking:
    """The probe of an engine and a guard before its storage: counts points, and strikes at one."""

    injury: Injury | None
    _counts: Counter[tuple[str, str]] = field(factory=Counter)

    def pass_by(self, what: str, when: str) -> None:
        """A point is passed."""
        self._counts[what, when] += 1
        injury = self.injury
        if injury is None or (what, when) != (injury.point.what, injury.point.when):
            return
        if self._counts[what, when] == injury.point.nth:
            os.write(1, REACHED)
            os.kill(os.getpid(), signal.SIGKILL if injury.fault == "crash" else signal.SIGSTOP)

    def before(self, run: Run, effect: Effect) -> Effect:
        """An effect is about to be performed."""
        self.pass_by(describe_effect(run.id, effect), "before")
        return effect

    def after(self, run: Run, effect: Effect, answer: object) -> object:
        """An effect was performed."""
        self.pass_by(describe_effect(run.id, effect), "after")
        return answer

    def failed(self, run: Run, effect: Effect, error: BaseException) -> None:
        """An effect raised."""

    def recalled(self, run: Run, past: Past) -> None:
        """The journal answers a call."""


class Guarded(Forward):
    """A storage whose calls are points too."""

    def __init__(self, storage: Storage, striking: Striking) -> None:
        super().__init__(storage)
        self._striking = striking

    def through(self, operation: str, call: Callable[[Storage], _T]) -> _T:
        """Make a call."""
        self._striking.pass_by(f"storage: {operation}", "before")
        answer = call(self._storage)
        self._striking.pass_by(f"storage: {operation}", "after")
        return answer


def _task(order: Order) -> TaskSpec:
    """Load the module that defines the task, under the name that it had."""
    try:
        loaded = importlib.import_module(order.module)
    except ImportError:
        loaded = None
    if loaded is None or loaded.__file__ != order.file:
        found = importlib.util.spec_from_file_location(order.module, order.file)
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        sys.modules[order.module] = module
        found.loader.exec_module(module)
    spec = tasks.find(order.task)
    assert spec is not None, f"{order.file} does not define task {order.task!r}"
    return spec


def _new_run(engine: Engine, spec: TaskSpec, args: tuple[object, ...]) -> NewRun:
    new = engine.new_run(spec, args, {}, run_id=RUN_ID, grant=engine.grant())
    return evolve(new, input=encode_input(engine.codec, evolve(decode_input(engine.codec, new.input), seed=RUN_ID)))


def main(order: Order) -> None:
    """Run the task to its end, or to the point."""
    spec = _task(order)
    striking = Striking(schedule_of(order.token)[0] if order.token else None)
    with Flow(Guarded(open_storage(order.url), striking), worker=False, lease=order.lease_s) as flow:
        engine = flow.engine
        engine.probe = striking
        new = _new_run(engine, spec, tuple(engine.codec.from_json(arg, object) for arg in order.args))
        if spec.is_async:
            asyncio.run(engine.run_to_end_async(new))
        else:
            engine.run_to_end(new)


if __name__ == "__main__":
    main(Order(**json.loads(sys.argv[1])))
