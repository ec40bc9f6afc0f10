"""Makes the processes of the real tier by fork, so that each costs no start of the interpreter.

Started as `python -m flowkit_testing.real_server` by `flowkit_testing.forks`. It has one thread, asks nothing of its
children, and answers each line that it reads with one line.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from flowkit_testing.real_child import find_task, work
from flowkit_testing.real_order import Order, order_of


def main() -> None:
    """Serve until nobody asks any more, then end whoever is left."""
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # what tasks print is no answer
    children: set[int] = set()
    for line in sys.stdin:
        word, _, rest = line.partition(" ")
        match word:
            case "start":
                order = order_of(rest)
                _load(order)
                child = os.fork()
                if child == 0:
                    work(order)
                    return
                children.add(child)
                answers.write(f"{child}\n")
            case "wait":
                child, status = os.waitpid(int(rest), os.WUNTRACED)
                if not os.WIFSTOPPED(status):
                    children.discard(child)
                answers.write(f"{status}\n")
            case "go-on":
                os.kill(int(rest), signal.SIGCONT)
                answers.write("ok\n")
            case _:
                raise ValueError(f"{line!r} is none of start, wait, go-on")
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _load(order: Order) -> None:
    """Import what all its children need, once; if that fails, they say so."""
    with contextlib.suppress(Exception):
        find_task(order)


if __name__ == "__main__":
    main()
