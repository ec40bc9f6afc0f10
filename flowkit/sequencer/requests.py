"""What the meaning of a sequencer's methods asks for. The sync and the async way to perform it are in `perform`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

from flowkit.choices import Choice
from flowkit.frozen import frozen, hot_record
from flowkit.sequencer.blocks import Block

_T = TypeVar("_T")


@hot_record
class Call:
    """Call a step or a task with a value; the answer is its result."""

    block: Block
    value: object


@frozen
class Await:
    """Await what an async condition, connector or `map` function has returned."""

    awaitable: Awaitable[object]


@frozen
class Line:
    """One of several lines of calls."""

    name: str
    start: Callable[[], Meaning[object]]


@frozen
class Together:
    """Run lines side by side, each in a scope of its own; the answer is the list of their results."""

    lines: tuple[Line, ...]
    max_concurrency: int | None


@frozen
class First:
    """Run lines side by side; the answer is the result of the first that succeeds (rule G6)."""

    name: str
    lines: tuple[Line, ...]
    max_concurrency: int | None


@frozen
class Decide:
    """Record which alternative it was."""

    choice: Choice
    index: int


@frozen
class Converge:
    """Wait for the side work of this sequencer (rule W3)."""

    fail_on_error: bool
    timeout_s: float | None


Request = Call | Await | Together | First | Decide | Converge
Meaning = Generator[Request, Any, _T]  # what is answered differs by request, so it is Any here
