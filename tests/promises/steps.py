"""What many promises are tried on: how steps are tried again, and how often it was done."""

from typing import Any

from flowkit import Retry
from flowkit.entries import Kind, Phase
from flowkit_testing import RunReport

AT_ONCE = Retry(attempts=3, delay=0, jitter=0)
SLOWLY = Retry(attempts=4, delay=5, backoff=2, jitter=0)


def restarts(run: RunReport[Any]) -> int:
    """How often the task itself was started over after an error of its code."""
    return sum(1 for entry in run.journal if entry.kind == Kind.RUN and entry.phase == Phase.ATTEMPT)
