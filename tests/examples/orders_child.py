"""Run `examples/orders.py` with its steps wrapped, so that the process dies at an event, or soon after.

    python orders_child.py LOG KILL_AT DELAY ORDERS --storage URL

LOG gets a line when a step's function begins and one when it has ended. DELAY is `exactly`, or seconds.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from attrs import evolve

from flowkit import Step, current_run

ORDERS = Path(__file__).parents[2] / "examples" / "orders.py"
STEPS = ("validate", "reserve", "charge", "ship", "notify", "refund", "release")


def main(log: str, kill_at: str, delay: str, *arguments: str) -> int:
    """Load the example under its own name, wrap its steps, run it."""
    spec = importlib.util.spec_from_file_location("orders", ORDERS)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["orders"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    event = _events(Path(log), int(kill_at), None if delay == "exactly" else float(delay))
    for name in STEPS:
        setattr(module, name, _logged(getattr(module, name), event))
    return int(module.main(list(arguments)))


def _events(log: Path, kill_at: int, delay_s: float | None) -> Callable[[str], None]:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, b"session\n")
    seen = 0

    def event(text: str) -> None:
        nonlocal seen
        os.write(descriptor, f"{text}\n".encode())
        seen += 1
        if seen == kill_at:
            if delay_s is None:
                os.kill(os.getpid(), signal.SIGKILL)
            threading.Thread(target=_die_after, args=(delay_s,), daemon=True).start()

    return event


def _die_after(delay_s: float) -> None:
    time.sleep(delay_s)
    os.kill(os.getpid(), signal.SIGKILL)


def _logged(step: Step[..., object], event: Callable[[str], None]) -> Step[..., object]:
    function = step.spec.fn

    def wrapped(*args: object) -> object:
        event(f"begin {current_run().id} {step.name}")
        try:
            return function(*args)
        finally:
            event(f"end {current_run().id} {step.name}")

    return Step(evolve(step.spec, fn=wrapped))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
