"""The test kit of flowkit: workflows proven against failure, and what a storage must do.

`pytest` finds the plugin by itself; a test that takes the fixture `harness` gets a `Harness`.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("pytest") is None:
    raise ModuleNotFoundError("flowkit_testing needs pytest: pip install 'flowkit-durable[testing]'", name="pytest")

from flowkit_testing.contract import DurableStorageContract, StorageContract
from flowkit_testing.fake_clock import FakeClock
from flowkit_testing.faults import PredicateFailed
from flowkit_testing.harness import FaultNeverFired, Harness, SwallowedWarning
from flowkit_testing.lab import NeverEnds, ReplayDiffers
from flowkit_testing.process import ProcessDied
from flowkit_testing.report import RunReport

__all__ = [
    "DurableStorageContract",
    "FakeClock",
    "FaultNeverFired",
    "Harness",
    "NeverEnds",
    "PredicateFailed",
    "ProcessDied",
    "ReplayDiffers",
    "RunReport",
    "StorageContract",
    "SwallowedWarning",
]
